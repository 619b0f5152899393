-- Foreign keys by which a deletion in the table of this name, or in a partition of it, changes rows of other tables.
WITH RECURSIVE members AS (
    SELECT pg_catalog.to_regclass(%s)::oid AS oid
     UNION
    SELECT i.inhrelid
      FROM members m
      JOIN pg_catalog.pg_class c ON c.oid = m.oid AND c.relkind = 'p'
      JOIN pg_catalog.pg_inherits i ON i.inhparent = m.oid
)
SELECT k.conname, k.conrelid::regclass::text
  FROM pg_catalog.pg_constraint k
  JOIN members m ON m.oid = k.confrelid
 WHERE k.contype = 'f'
   AND k.confdeltype IN ('c', 'n', 'd')
   AND k.conrelid NOT IN (SELECT oid FROM members)
 LIMIT 1
