-- Roles that somebody made, members before the groups that they are in do not matter: memberships come last.
SELECT r.rolname, r.rolsuper, r.rolinherit, r.rolcreaterole, r.rolcreatedb, r.rolcanlogin, r.rolreplication,
       r.rolbypassrls, r.rolconnlimit, r.rolvaliduntil::text, {password},
       pg_catalog.shobj_description(r.oid, 'pg_authid')
  FROM {catalog} r
 WHERE r.rolname !~ '^pg_' AND r.oid >= 16384
 ORDER BY 1
