-- How many relations and constraints of each kind there are: a copy that left out an index is not a faster copy.
SELECT 'relations of kind ' || c.relkind::text AS kind, count(*) AS number
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname NOT LIKE 'pg\_%' AND n.nspname NOT IN ('information_schema', 'pgcopydb')
GROUP BY c.relkind
UNION ALL
SELECT 'constraints of kind ' || o.contype::text, count(*)
FROM pg_constraint AS o
JOIN pg_namespace AS n ON n.oid = o.connamespace
WHERE n.nspname NOT LIKE 'pg\_%' AND n.nspname NOT IN ('information_schema', 'pgcopydb')
GROUP BY o.contype
ORDER BY 1;
