-- Configuration tables and sequences of extensions with the condition that tells users' rows from the extension's own;
-- a table comes after those that its foreign keys refer to.
WITH RECURSIVE config AS (
    SELECT e.extname, c.oid, n.nspname, c.relname, c.relkind, coalesce(x.condition, '') AS condition
      FROM pg_catalog.pg_extension e
     CROSS JOIN LATERAL unnest(e.extconfig, e.extcondition) AS x (relation, condition)
      JOIN pg_catalog.pg_class c ON c.oid = x.relation
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
), depth (oid, level) AS (
    SELECT config.oid, 0 FROM config
    UNION
    SELECT fk.conrelid, depth.level + 1
      FROM depth
      JOIN pg_catalog.pg_constraint fk
        ON fk.contype = 'f' AND fk.confrelid = depth.oid AND fk.conrelid <> fk.confrelid
      JOIN config ON config.oid = fk.conrelid
     WHERE depth.level < 100
)
SELECT config.oid::bigint, config.extname, config.nspname, config.relname, config.relkind::text, config.condition,
       (SELECT max(level) FROM depth WHERE depth.oid = config.oid)
  FROM config
 WHERE config.relkind IN ('r', 'S')
