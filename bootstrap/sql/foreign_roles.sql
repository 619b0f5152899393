-- Roles that own something in this database, are granted something on it or are named by a policy, each for itself; and
-- whether restoring has to act as them: for what they own, and for the rights that they passed on. Default privileges are
-- granted for their owner.
WITH acls (acl) AS (
    SELECT relacl FROM pg_catalog.pg_class WHERE oid >= 16384
    UNION ALL SELECT attacl FROM pg_catalog.pg_attribute WHERE attrelid >= 16384
    UNION ALL SELECT proacl FROM pg_catalog.pg_proc WHERE oid >= 16384
    UNION ALL SELECT typacl FROM pg_catalog.pg_type WHERE oid >= 16384
    UNION ALL SELECT nspacl FROM pg_catalog.pg_namespace
    UNION ALL SELECT lanacl FROM pg_catalog.pg_language
    UNION ALL SELECT fdwacl FROM pg_catalog.pg_foreign_data_wrapper
    UNION ALL SELECT srvacl FROM pg_catalog.pg_foreign_server
), grantors AS (
    SELECT DISTINCT e.grantor FROM acls, LATERAL pg_catalog.aclexplode(acl) AS e WHERE acl IS NOT NULL
)
SELECT r.rolname,
       bool_or(d.deptype = 'o') OR r.oid IN (SELECT grantor FROM grantors),
       bool_or(d.deptype = 'o' AND d.classid <> 'pg_default_acl'::regclass),
       bool_or(d.deptype = 'a' OR d.classid = 'pg_default_acl'::regclass),
       bool_or(d.deptype = 'r')
  FROM pg_catalog.pg_shdepend d
  JOIN pg_catalog.pg_roles r ON r.oid = d.refobjid
 WHERE d.refclassid = 'pg_authid'::regclass
   AND d.deptype IN ('o', 'a', 'r')
   AND (d.dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()))
   AND r.rolname !~ '^pg_'
   AND NOT EXISTS (
       SELECT FROM unnest(%(catalogs)s::oid[], %(objects)s::oid[]) AS left_out (catalog, object)
        WHERE catalog = d.classid AND object = d.objid)
   AND NOT (%(no_large_objects)s AND d.classid = 'pg_largeobject'::regclass)
 GROUP BY r.oid, r.rolname
 ORDER BY 1
