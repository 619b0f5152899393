-- Roles that own something in this database or are granted something on it.
SELECT DISTINCT r.rolname
  FROM pg_catalog.pg_shdepend d
  JOIN pg_catalog.pg_roles r ON r.oid = d.refobjid
 WHERE d.refclassid = 'pg_authid'::regclass
   AND d.deptype IN ('o', 'a')
   AND (d.dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()))
   AND r.rolname !~ '^pg_'
 ORDER BY 1
