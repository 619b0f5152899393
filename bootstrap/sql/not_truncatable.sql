-- Of the tables with these names those that may not be truncated, for want of the privilege or because a foreign key of
-- a table that is not truncated with them refers to them or to one of their partitions; and whether their rows may go
-- at all.
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
)
SELECT number, has_table_privilege(name, 'TRUNCATE') OR has_table_privilege(name, 'DELETE')
  FROM emptied
 WHERE NOT has_table_privilege(name, 'TRUNCATE')
    OR number IN (
       SELECT m.number
         FROM pg_catalog.pg_constraint k
         JOIN members m ON m.oid = k.confrelid
        WHERE k.contype = 'f'
          AND NOT EXISTS (SELECT FROM members o WHERE o.number = m.number AND o.oid = k.conrelid))
