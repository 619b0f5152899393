-- What is done to the tables of schema.sql on the source, while their changes are kept.
SET search_path = own, pg_catalog;
SET timezone = 'UTC';

DO $$
DECLARE t record; way text; ways text[]; last text; nulls text;
BEGIN
    FOR t IN SELECT * FROM of_the_zoo LOOP
        last := (regexp_match(t.columns, '("(?:[^"]|"")*"|[^ ",]+)$'))[1];
        SELECT string_agg(format('%I = NULL', attname), ', ') INTO nulls FROM pg_attribute AS a JOIN pg_type AS y ON y.oid = atttypid
            WHERE attrelid = t.original AND attnum > 0 AND NOT attisdropped AND attname <> 'id' AND attgenerated = '' AND NOT y.typnotnull;
        ways := ARRAY['by_key', 'by_full', 'by_full_key'];
        IF t.name IN (SELECT name FROM some_of_the_zoo) THEN
            ways := ways || 'by_index'::text;
            EXECUTE format('INSERT INTO by_nothing.%I (id, %s) SELECT id, %2$s FROM %3$s', t.name, t.columns, t.original);
        END IF;
        FOREACH way IN ARRAY ways LOOP
            EXECUTE format('INSERT INTO %I.%I (id, %s) SELECT id, %3$s FROM %4$s', way, t.name, t.columns, t.original);
            -- Each row becomes the next one.
            EXECUTE format(
                'UPDATE %I.%I AS t SET (%s) = (SELECT %3$s FROM %4$s AS s'
                ' WHERE s.id = coalesce((SELECT min(id) FROM %4$s AS n WHERE n.id > t.id), 1))',
                way, t.name, t.columns, t.original);
            EXECUTE format('UPDATE %I.%I SET %s = %3$s', way, t.name, last);
            EXECUTE format('UPDATE %I.%I SET %s WHERE id = 2', way, t.name, nulls);
            EXECUTE format('UPDATE %I.%I SET id = id + 1000 WHERE id %% 2 = 1', way, t.name);
            EXECUTE format('DELETE FROM %I.%I WHERE id %% 3 = 0', way, t.name);
            EXECUTE format('INSERT INTO %I.%I (id, %s) SELECT -id, %3$s FROM %4$s', way, t.name, t.columns, t.original);
        END LOOP;
        -- Equal rows, of which one changes or goes.
        EXECUTE format('INSERT INTO by_rows.%I (%s) SELECT %2$s FROM %3$s, generate_series(1, 3)', t.name, t.columns, t.original);
        EXECUTE format('UPDATE by_rows.%1$I SET %2$s WHERE ctid = (SELECT max(ctid) FROM by_rows.%1$I)', t.name, nulls);
        EXECUTE format('UPDATE by_rows.%1$I SET (%2$s) = (SELECT %2$s FROM %3$s WHERE id = 2)'
            ' WHERE ctid = (SELECT min(ctid) FROM by_rows.%1$I)', t.name, t.columns, t.original);
        EXECUTE format('UPDATE by_rows.%1$I SET %2$s = (SELECT %2$s FROM %3$s WHERE id = 1)'
            ' WHERE ctid = (SELECT min(ctid) FROM by_rows.%1$I)', t.name, last, t.original);
        EXECUTE format('DELETE FROM by_rows.%1$I WHERE ctid IN (SELECT ctid FROM (SELECT ctid, row_number() OVER (ORDER BY ctid) AS r'
            ' FROM by_rows.%1$I) AS s WHERE r %% 3 = 0 OR r <= 3)', t.name);
    END LOOP;
END $$;

-- Values as keys: they find their rows, they change, and several go at once.
DO $$
DECLARE t record;
BEGIN
    FOR t IN SELECT relname::text AS name, to_regclass(format('as_keys.%I', relname)) AS pair
             FROM pg_class WHERE relnamespace = 'as_key'::regnamespace AND relkind = 'r' LOOP
        EXECUTE format('UPDATE as_key.%I SET n = -n', t.name);
        EXECUTE format('CREATE TEMP TABLE kept AS SELECT k FROM as_key.%I WHERE n = -1', t.name);
        EXECUTE format('DELETE FROM as_key.%I WHERE n %% 3 = -1', t.name);
        EXECUTE format('UPDATE as_key.%I SET k = (SELECT k FROM kept) WHERE n = -2', t.name);
        DROP TABLE kept;
        IF t.pair IS NOT NULL THEN
            EXECUTE format('UPDATE %s SET v = v || ''!''', t.pair);
            EXECUTE format('DELETE FROM %s WHERE n = 0', t.pair);
            EXECUTE format('UPDATE %s SET n = 2', t.pair);
        END IF;
    END LOOP;
END $$;

-- Large values, which a change of another column leaves out.
DO $$
DECLARE way text;
BEGIN
    FOREACH way IN ARRAY ARRAY['by_key', 'by_index', 'by_full', 'by_full_key'] LOOP
        EXECUTE format('INSERT INTO %I.byteas SELECT 5000, string_agg(sha512(i::text::bytea), '''' ORDER BY i) FROM generate_series(1, 2000) AS i', way);
        EXECUTE format('UPDATE %I.byteas SET id = id + 1 WHERE id = 5000', way);
        EXECUTE format('INSERT INTO %I.texts (id, t, v) SELECT 5000, string_agg(md5(i::text), E''\n'' ORDER BY i), ''v'' FROM generate_series(1, 4000) AS i', way);
        EXECUTE format('UPDATE %I.texts SET v = ''w'' WHERE id = 5000', way);
        EXECUTE format('UPDATE %I.texts SET id = id + 1 WHERE id = 5000', way);
        EXECUTE format('DELETE FROM %I.texts WHERE id = 5001', way);
    END LOOP;
END $$;

-- The same few changes under every name.
DO $$
DECLARE t record; key text;
BEGIN
    FOR t IN SELECT c.oid, c.oid::regclass AS name, row_number() OVER (ORDER BY relname COLLATE "C") AS number
             FROM pg_class AS c WHERE relnamespace = 'hostile'::regnamespace AND relkind = 'r' LOOP
        SELECT quote_ident(attname) INTO key FROM pg_attribute WHERE attrelid = t.oid AND attnum = 1;
        EXECUTE format('INSERT INTO %s VALUES (101, %L), (102, %L), (103, NULL)', t.name, t.name, E'\\');
        EXECUTE format('UPDATE %s SET t = t || %L WHERE %s > 100', t.name, t.name, key);
        EXECUTE format('UPDATE %s SET %s = %2$s + 1000 WHERE %2$s = 102', t.name, key);
        EXECUTE format('DELETE FROM %s WHERE %s < 102', t.name, key);
        IF t.number % 3 = 0 THEN
            EXECUTE format('TRUNCATE %s', t.name);
            EXECUTE format('INSERT INTO %s DEFAULT VALUES', t.name);
        END IF;
    END LOOP;
    FOR t IN SELECT c.oid::regclass AS name, quote_ident(relname) AS key, relname AS label
             FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace WHERE relname = nspname AND relkind = 'r' LOOP
        EXECUTE format('INSERT INTO %s (%s, e) VALUES (1, %L), (2, ''plain'')', t.name, t.key, t.label);
        EXECUTE format('TRUNCATE %s', t.name);
        EXECUTE format('INSERT INTO %s (%s, e) VALUES (1, %L), (2, ''plain'')', t.name, t.key, t.label);
    END LOOP;
END $$;
