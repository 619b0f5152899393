-- What is compared of enums, domains, ranges and base types: kind, object, property, value. Of what an extension brought nothing.
SELECT CASE t.typtype WHEN 'e' THEN 'enum' WHEN 'd' THEN 'domain' WHEN 'r' THEN 'range' ELSE 'type' END,
       format('%I.%I', n.nspname, t.typname), p.property, p.value
  FROM pg_catalog.pg_type t
  JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
  LEFT JOIN pg_catalog.pg_range r ON r.rngtypid = t.oid
 CROSS JOIN LATERAL (VALUES
       ('labels', (SELECT string_agg(quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder) FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid)),
       ('base', CASE WHEN t.typtype = 'd' THEN pg_catalog.format_type(t.typbasetype, t.typtypmod) END),
       ('subtype', r.rngsubtype::regtype::text),
       ('default', t.typdefault),
       ('not null', CASE WHEN t.typtype = 'd' THEN t.typnotnull::text END),
       ('owner', pg_catalog.pg_get_userbyid(t.typowner)::text),
       ('grants', (SELECT string_agg(g, ', ' ORDER BY g) FROM (
            SELECT format('%s=%s%s', CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.pg_get_userbyid(x.grantee) END,
                          x.privilege_type, CASE WHEN x.is_grantable THEN '*' ELSE '' END)
              FROM pg_catalog.aclexplode(coalesce(t.typacl, pg_catalog.acldefault('T', t.typowner))) AS x WHERE x.privilege_type <> 'MAINTAIN') AS granted (g))),
       ('comment', pg_catalog.obj_description(t.oid, 'pg_type'))) AS p (property, value)
 WHERE t.typtype IN ('e', 'd', 'r', 'b') AND t.typelem = 0 AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'pgcopydb')
   AND NOT EXISTS (
       SELECT FROM pg_catalog.pg_depend d
        WHERE d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e')
