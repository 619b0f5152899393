-- Leaf partitions below a table that is partitioned by the hash of an enum (or of an expression), with their root. An enum's
-- hash depends on its oid: on another server the same row belongs to another partition.
WITH RECURSIVE chain (leaf, oid) AS (
    SELECT c.oid, i.inhparent
      FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid
     WHERE c.relkind = 'r' AND c.relispartition
    UNION ALL
    SELECT chain.leaf, i.inhparent
      FROM chain JOIN pg_catalog.pg_inherits i ON i.inhrelid = chain.oid
)
SELECT chain.leaf::bigint, ln.nspname, l.relname, n.nspname, c.relname
  FROM chain
  JOIN pg_catalog.pg_class c ON c.oid = chain.oid AND NOT c.relispartition
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_class l ON l.oid = chain.leaf
  JOIN pg_catalog.pg_namespace ln ON ln.oid = l.relnamespace
 WHERE EXISTS (
       SELECT FROM chain above
         JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = above.oid AND p.partstrat = 'h'
        WHERE above.leaf = chain.leaf
          AND (p.partexprs IS NOT NULL OR EXISTS (
              SELECT FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
               WHERE a.attrelid = p.partrelid AND a.attnum = ANY (p.partattrs::int2[])
                 AND (t.typtype IN ('e', 'd', 'c') OR t.typelem <> 0 AND t.typcategory = 'A'))))
