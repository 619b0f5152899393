-- Of the tables with these names those that may not be truncated, for want of the privilege or because a foreign key of
-- a table that is not truncated with them refers to them or to one of their partitions; whether their rows may go at all;
-- and a foreign key, with its table, by which a deletion of theirs changes rows of that one.
WITH RECURSIVE emptied AS (
    SELECT number, name, pg_catalog.to_regclass(name)::oid AS oid
      FROM unnest(%s::text[]) WITH ORDINALITY AS t (name, number)
), members AS (
    SELECT number, oid FROM emptied
     UNION
    SELECT m.number, i.inhrelid
      FROM members m
      JOIN pg_catalog.pg_class c ON c.oid = m.oid AND c.relkind = 'p'
      JOIN pg_catalog.pg_inherits i ON i.inhparent = m.oid
), referring AS (
    SELECT m.number, k.conname, k.conrelid::regclass::text AS conrel, k.confdeltype IN ('c', 'n', 'd') AS cascades
      FROM pg_catalog.pg_constraint k
      JOIN members m ON m.oid = k.confrelid
     WHERE k.contype = 'f'
       AND NOT EXISTS (SELECT FROM members o WHERE o.number = m.number AND o.oid = k.conrelid)
)
SELECT e.number, has_table_privilege(e.name, 'TRUNCATE') OR has_table_privilege(e.name, 'DELETE'), c.conname, c.conrel
  FROM emptied e
  LEFT JOIN LATERAL (
       SELECT r.conname, r.conrel FROM referring r WHERE r.number = e.number AND r.cascades LIMIT 1) c ON true
 WHERE NOT has_table_privilege(e.name, 'TRUNCATE')
    OR e.number IN (SELECT number FROM referring)
