-- Every ordinary table of the database, largest first, with the statements that build its indexes and constraints.
-- A constraint's index is built first and then attached, as a copy with several index workers does it.
SELECT
    format('%I.%I', n.nspname, c.relname) AS name,
    ARRAY(
        SELECT pg_get_indexdef(i.indexrelid)
        FROM pg_index AS i
        WHERE i.indrelid = c.oid
        ORDER BY i.indexrelid
    ) AS indexes,
    ARRAY(
        SELECT format(
            'ALTER TABLE %I.%I ADD CONSTRAINT %I %s USING INDEX %I',
            n.nspname, c.relname, o.conname, CASE o.contype WHEN 'p' THEN 'PRIMARY KEY' ELSE 'UNIQUE' END, x.relname
        )
        FROM pg_constraint AS o
        JOIN pg_class AS x ON x.oid = o.conindid
        WHERE o.conrelid = c.oid AND o.contype IN ('p', 'u')
        ORDER BY o.oid
    ) AS constraints
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname NOT LIKE 'pg\_%' AND n.nspname NOT IN ('information_schema', 'pgcopydb')
ORDER BY pg_table_size(c.oid) DESC, c.oid;
