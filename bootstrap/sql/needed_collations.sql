-- Collations that the target must be able to provide: those that users made, and those of initdb that something uses.
-- ``locale`` is the provider's own from 15 on (ICU, builtin); before, ICU had it where libc has its two.
WITH used AS (
    SELECT attcollation AS oid FROM pg_catalog.pg_attribute WHERE attrelid >= 16384 AND NOT attisdropped
    UNION SELECT typcollation FROM pg_catalog.pg_type WHERE oid >= 16384
    UNION SELECT refobjid FROM pg_catalog.pg_depend WHERE refclassid = 'pg_collation'::regclass AND objid >= 16384
)
SELECT n.nspname, c.collname, c.oid >= 16384, c.collprovider::text, c.collcollate, c.collctype,
       coalesce(to_jsonb(c) ->> 'colllocale', to_jsonb(c) ->> 'colliculocale', c.collcollate)
  FROM pg_catalog.pg_collation c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace
 WHERE c.collprovider <> 'd'
   AND CASE WHEN c.oid >= 16384
            THEN NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                              WHERE d.classid = 'pg_collation'::regclass AND d.objid = c.oid AND d.deptype = 'e')
            ELSE c.oid IN (SELECT oid FROM used) END
 ORDER BY 1, 2
