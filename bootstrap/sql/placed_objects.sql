-- What has a tablespace of its own, not the database's default: tables, materialized views, indexes, and constraints
-- by that of their index; with the table that each is of. Members of extensions are placed by CREATE EXTENSION.
WITH placed AS (
    SELECT c.oid, c.relkind, n.nspname, c.relname, t.spcname, coalesce(i.indrelid, c.oid) AS of_table
      FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_tablespace t ON t.oid = c.reltablespace
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid
     WHERE c.relkind IN ('r', 'p', 'm', 'i', 'I') AND c.relpersistence <> 't'
       AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'pgcopydb')
       AND NOT EXISTS (
           SELECT FROM pg_catalog.pg_depend d
            WHERE d.classid = 'pg_class'::regclass AND d.objid = coalesce(i.indrelid, c.oid) AND d.deptype = 'e')
)
SELECT 'pg_class'::regclass::oid::bigint, p.oid::bigint,
       CASE WHEN p.relkind = 'm' THEN 'materialized view' WHEN p.relkind IN ('r', 'p') THEN 'table' ELSE 'index' END,
       p.nspname, p.relname, p.spcname, n.nspname, c.relname
  FROM placed p
  JOIN pg_catalog.pg_class c ON c.oid = p.of_table
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
UNION ALL
SELECT 'pg_constraint'::regclass::oid::bigint, con.oid::bigint, 'constraint',
       p.nspname, con.conname, p.spcname, n.nspname, c.relname
  FROM placed p
  JOIN pg_catalog.pg_constraint con
    ON con.conindid = p.oid AND con.conrelid = p.of_table AND con.contype IN ('p', 'u', 'x')
  JOIN pg_catalog.pg_class c ON c.oid = p.of_table
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
