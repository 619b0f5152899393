-- Sequences, with the column that owns each (its table's number, that of its default), and where each is restored.
SELECT c.oid::bigint,
       n.nspname,
       c.relname,
       pg_catalog.pg_get_userbyid(c.relowner),
       owner.attrelid::bigint,
       (SELECT d.oid::bigint FROM pg_catalog.pg_attrdef d WHERE d.adrelid = owner.attrelid AND d.adnum = owner.attnum),
       pg_catalog.has_sequence_privilege(c.oid, 'SELECT')
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN LATERAL (
       SELECT d.refobjid AS attrelid, d.refobjsubid AS attnum
         FROM pg_catalog.pg_depend d
        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
          AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
        LIMIT 1) owner ON true
 WHERE c.relkind = 'S'
