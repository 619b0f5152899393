-- Extensions; one comes after those that it requires.
WITH RECURSIVE depth (oid, level) AS (
    SELECT e.oid, 0 FROM pg_catalog.pg_extension e
    UNION
    SELECT d.objid, depth.level + 1
      FROM depth
      JOIN pg_catalog.pg_depend d
        ON d.classid = 'pg_extension'::regclass AND d.refclassid = 'pg_extension'::regclass AND d.refobjid = depth.oid
     WHERE depth.level < 100
)
SELECT e.oid::bigint, e.extname, n.nspname, e.extversion,
       (SELECT max(level) FROM depth WHERE depth.oid = e.oid) AS position
  FROM pg_catalog.pg_extension e
  JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
 ORDER BY position, e.oid
