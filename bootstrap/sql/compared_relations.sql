-- What holds rows of its own and is compared: tables and leaf partitions, and materialized views that hold rows. With pages of
-- the heap, as far as it can be divided by them.
SELECT n.nspname, c.relname,
       (SELECT json_agg(a.attname ORDER BY a.attnum)
          FROM pg_catalog.pg_attribute a
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)::text,
       pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::int,
       am.amname = 'heap'
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam
 WHERE (c.relkind = 'r' OR c.relkind = 'm' AND c.relispopulated)
   AND c.relpersistence IN ('p', 'u')
   AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'pgcopydb')
   AND NOT EXISTS (
       SELECT FROM pg_catalog.pg_depend d
        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
