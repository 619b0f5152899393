-- Materialized views with how many others lie below each, directly or through ordinary views. CREATE OR REPLACE VIEW can
-- make a view read a materialized view that reads it; no chain without such a circle is longer than there are views.
WITH RECURSIVE reads (reader, read) AS (
    SELECT DISTINCT r.ev_class, d.refobjid
      FROM pg_catalog.pg_rewrite r
      JOIN pg_catalog.pg_depend d
        ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
      JOIN pg_catalog.pg_class c ON c.oid = d.refobjid AND c.relkind IN ('m', 'v')
     WHERE d.refobjid <> r.ev_class
), depth (oid, level) AS (
    SELECT c.oid, 0 FROM pg_catalog.pg_class c WHERE c.relkind IN ('m', 'v')
    UNION
    SELECT r.reader, depth.level + CASE WHEN below.relkind = 'm' THEN 1 ELSE 0 END
      FROM depth
      JOIN reads r ON r.read = depth.oid
      JOIN pg_catalog.pg_class below ON below.oid = depth.oid
     WHERE depth.level < (SELECT count(*) FROM pg_catalog.pg_class m WHERE m.relkind = 'm')
)
SELECT c.oid::bigint, n.nspname, c.relname, c.relispopulated, max(depth.level)
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN depth ON depth.oid = c.oid
 WHERE c.relkind = 'm'
   AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'pgcopydb')
   AND NOT EXISTS (
       SELECT FROM pg_catalog.pg_depend d
        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
 GROUP BY 1, 2, 3, 4
