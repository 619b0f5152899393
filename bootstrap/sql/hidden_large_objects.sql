-- Large objects that this role neither owns nor was granted.
SELECT m.oid::bigint
  FROM pg_catalog.pg_largeobject_metadata m
 WHERE current_setting('is_superuser') = 'off'
   AND NOT pg_catalog.pg_has_role(m.lomowner, 'USAGE')
   AND NOT EXISTS (
       SELECT FROM pg_catalog.aclexplode(m.lomacl) a
        WHERE a.privilege_type = 'SELECT' AND (a.grantee = 0 OR pg_catalog.pg_has_role(a.grantee, 'USAGE')))
 ORDER BY m.oid
 LIMIT 20
