-- Collations that are not the default one, with each thing that uses them: columns of tables and of indexes, the database.
SELECT c.oid::bigint, c.collname, pg_catalog.pg_describe_object('pg_class'::regclass, a.attrelid, a.attnum)
  FROM pg_catalog.pg_attribute a
  JOIN pg_catalog.pg_class r ON r.oid = a.attrelid AND r.relkind IN ('r', 'p', 'm', 'i', 'I')
  JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace
  JOIN pg_catalog.pg_collation c ON c.oid = a.attcollation
 WHERE c.collname <> 'default' AND a.attnum > 0 AND NOT a.attisdropped
   AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'pgcopydb')
UNION ALL
SELECT coalesce(c.oid, 0)::bigint, d.datcollate, 'database ' || d.datname
  FROM pg_catalog.pg_database d
  LEFT JOIN LATERAL (
       SELECT min(o.oid::bigint)::oid FROM pg_catalog.pg_collation o WHERE o.collname = d.datcollate) AS c (oid) ON true
 WHERE d.datname = current_database()
 ORDER BY 2, 3
