-- Ordinary tables (leaf partitions and inheritance children among them) that are copied, with what decides how.
SELECT c.oid::bigint,
       n.nspname,
       c.relname,
       pg_catalog.pg_get_userbyid(c.relowner),
       coalesce(am.amname, 'heap'),
       c.relpersistence::text,
       c.relispartition,
       c.relfilenode::bigint,
       c.relpages,
       c.reltuples::bigint,
       CASE WHEN %(estimate)s
            THEN (c.relpages + coalesce(toast.relpages, 0))::bigint * current_setting('block_size')::bigint
            ELSE coalesce(pg_catalog.pg_table_size(c.oid), 0)
       END,
       key.attname,
       replident.relname,
       clustered.relname
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam
  LEFT JOIN pg_catalog.pg_class toast ON toast.oid = c.reltoastrelid
  LEFT JOIN LATERAL (
       SELECT a.attname
         FROM pg_catalog.pg_index i
         JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
        WHERE i.indrelid = c.oid
          AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indnatts = 1
          AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
        ORDER BY i.indisprimary DESC, i.indexrelid
        LIMIT 1) key ON true
  LEFT JOIN LATERAL (
       SELECT x.relname
         FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
        WHERE i.indrelid = c.oid AND i.indisreplident) replident ON c.relreplident = 'i'
  LEFT JOIN LATERAL (
       SELECT x.relname
         FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
        WHERE i.indrelid = c.oid AND i.indisclustered) clustered ON true
 WHERE c.relkind = 'r'
   AND c.relpersistence IN ('p', 'u')
   AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'pgcopydb')
   AND NOT EXISTS (
       SELECT FROM pg_catalog.pg_depend d
        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
