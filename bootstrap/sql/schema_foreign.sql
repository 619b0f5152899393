-- What is compared of foreign-data wrappers, servers and user mappings (whose options may hold passwords): kind, object,
-- property, value. Of what an extension brought nothing.
SELECT 'foreign data wrapper', quote_ident(w.fdwname), p.property, p.value
  FROM pg_catalog.pg_foreign_data_wrapper w
 CROSS JOIN LATERAL (VALUES
       ('definition', concat_ws(' ', nullif(w.fdwhandler, 0)::regproc, nullif(w.fdwvalidator, 0)::regproc)),
       ('options', (SELECT string_agg(o, ', ' ORDER BY o) FROM unnest(w.fdwoptions) o)),
       ('owner', pg_catalog.pg_get_userbyid(w.fdwowner)::text),
       ('grants', (SELECT string_agg(g, ', ' ORDER BY g) FROM (
            SELECT format('%s=%s%s', CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.pg_get_userbyid(x.grantee) END,
                          x.privilege_type, CASE WHEN x.is_grantable THEN '*' ELSE '' END)
              FROM pg_catalog.aclexplode(coalesce(w.fdwacl, pg_catalog.acldefault('F', w.fdwowner))) AS x) AS granted (g)))) AS p (property, value)
 WHERE NOT EXISTS (
       SELECT FROM pg_catalog.pg_depend d
        WHERE d.classid = 'pg_foreign_data_wrapper'::regclass AND d.objid = w.oid AND d.deptype = 'e')
UNION ALL
SELECT 'foreign server', quote_ident(s.srvname), p.property, p.value
  FROM pg_catalog.pg_foreign_server s
  JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid = s.srvfdw
 CROSS JOIN LATERAL (VALUES
       ('definition', concat_ws(' ', w.fdwname, s.srvtype, s.srvversion,
                                (SELECT string_agg(o, ',' ORDER BY o) FROM unnest(s.srvoptions) o))),
       ('owner', pg_catalog.pg_get_userbyid(s.srvowner)::text),
       ('grants', (SELECT string_agg(g, ', ' ORDER BY g) FROM (
            SELECT format('%s=%s%s', CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.pg_get_userbyid(x.grantee) END,
                          x.privilege_type, CASE WHEN x.is_grantable THEN '*' ELSE '' END)
              FROM pg_catalog.aclexplode(coalesce(s.srvacl, pg_catalog.acldefault('S', s.srvowner))) AS x) AS granted (g)))) AS p (property, value)
 WHERE NOT EXISTS (
       SELECT FROM pg_catalog.pg_depend d
        WHERE d.classid = 'pg_foreign_server'::regclass AND d.objid = s.oid AND d.deptype = 'e')
UNION ALL
SELECT 'user mapping', format('%I for %s', u.srvname, CASE WHEN u.umuser = 0 THEN 'PUBLIC' ELSE quote_ident(u.usename) END),
       'server', u.srvname::text
  FROM pg_catalog.pg_user_mappings u
