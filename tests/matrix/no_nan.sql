-- What wal2json before 2.6 sends as NULL.
DO $$
DECLARE c record;
BEGIN
    FOR c IN SELECT a.attrelid::regclass AS name, quote_ident(a.attname) AS col FROM pg_attribute AS a JOIN pg_class AS r ON r.oid = a.attrelid
             WHERE r.relkind = 'r' AND r.relnamespace = 'types'::regnamespace AND a.attnum > 0 AND NOT a.attisdropped
             AND a.atttypid IN ('numeric'::regtype, 'float4'::regtype, 'float8'::regtype) LOOP
        EXECUTE format('DELETE FROM %s WHERE %s::text IN (''NaN'', ''Infinity'', ''-Infinity'')', c.name, c.col);
    END LOOP;
END $$;
