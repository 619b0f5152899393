-- What is compared of schemas: kind, object, property, value. Of what an extension brought nothing.
SELECT 'schema', quote_ident(n.nspname), p.property, p.value
  FROM pg_catalog.pg_namespace n
 CROSS JOIN LATERAL (VALUES
       ('owner', pg_catalog.pg_get_userbyid(n.nspowner)::text),
       ('grants', (SELECT string_agg(g, ', ' ORDER BY g) FROM (
            SELECT format('%s=%s%s', CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.pg_get_userbyid(x.grantee) END,
                          x.privilege_type, CASE WHEN x.is_grantable THEN '*' ELSE '' END)
              FROM pg_catalog.aclexplode(coalesce(n.nspacl, pg_catalog.acldefault('n', n.nspowner))) AS x WHERE x.privilege_type <> 'MAINTAIN') AS granted (g))),
       ('comment', pg_catalog.obj_description(n.oid, 'pg_namespace'))) AS p (property, value)
 WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'pgcopydb')
