-- What is compared of functions, procedures and aggregates: kind, object, property, value. Of what an extension brought nothing.
SELECT CASE k.kind WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'aggregate' ELSE 'function' END,
       format('%I.%I(%s)', n.nspname, f.proname, pg_catalog.pg_get_function_identity_arguments(f.oid)), p.property, p.value
  FROM pg_catalog.pg_proc f
  JOIN pg_catalog.pg_namespace n ON n.oid = f.pronamespace
 CROSS JOIN LATERAL (SELECT coalesce(to_jsonb(f) ->> 'prokind', CASE WHEN (to_jsonb(f) ->> 'proisagg')::bool THEN 'a' ELSE 'f' END)) AS k (kind)
 CROSS JOIN LATERAL (VALUES
       ('definition', CASE WHEN k.kind = 'a' THEN
            (SELECT concat_ws(', ', g.aggkind, g.aggnumdirectargs, g.aggtransfn, g.aggfinalfn, g.aggtranstype::regtype, g.agginitval,
                              g.aggcombinefn, g.aggserialfn, g.aggdeserialfn, g.aggmtransfn, g.aggminvtransfn, g.aggmfinalfn,
                              g.aggfinalextra, g.aggmfinalextra, nullif(g.aggsortop, 0)::regoperator, g.aggtransspace,
                              nullif(g.aggmtranstype, 0)::regtype, g.aggminitval, f.proparallel) FROM pg_catalog.pg_aggregate g WHERE g.aggfnoid = f.oid)
            ELSE pg_catalog.pg_get_functiondef(f.oid) END),
       ('owner', pg_catalog.pg_get_userbyid(f.proowner)::text),
       ('grants', (SELECT string_agg(g, ', ' ORDER BY g) FROM (
            SELECT format('%s=%s%s', CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.pg_get_userbyid(x.grantee) END,
                          x.privilege_type, CASE WHEN x.is_grantable THEN '*' ELSE '' END)
              FROM pg_catalog.aclexplode(coalesce(f.proacl, pg_catalog.acldefault('f', f.proowner))) AS x WHERE x.privilege_type <> 'MAINTAIN') AS granted (g))),
       ('comment', pg_catalog.obj_description(f.oid, 'pg_proc'))) AS p (property, value)
 WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'pgcopydb')
   AND NOT EXISTS (
       SELECT FROM pg_catalog.pg_depend d
        WHERE d.classid = 'pg_proc'::regclass AND d.objid = f.oid AND d.deptype = 'e')
