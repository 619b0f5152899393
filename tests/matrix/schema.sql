-- The tables of the zoo in every way that a row can be told from others. Loaded on both sides.
SET timezone = 'UTC';
CREATE SCHEMA own;
SET search_path = own, pg_catalog;
CREATE EXTENSION hstore SCHEMA own;
CREATE EXTENSION citext SCHEMA own;
CREATE EXTENSION ltree SCHEMA own;
CREATE EXTENSION cube SCHEMA own;
CREATE EXTENSION isn SCHEMA own;
CREATE EXTENSION seg SCHEMA own;

-- Base types: one that cannot be compared at all, one whose = is in a schema that no session has in its path.
CREATE TYPE raw;
CREATE FUNCTION raw_in(cstring) RETURNS raw LANGUAGE internal IMMUTABLE STRICT AS 'textin';
CREATE FUNCTION raw_out(raw) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
CREATE TYPE raw (INPUT = raw_in, OUTPUT = raw_out, LIKE = text);
CREATE TYPE "Num ber";
CREATE FUNCTION num_in(cstring) RETURNS "Num ber" LANGUAGE internal IMMUTABLE STRICT AS 'int4in';
CREATE FUNCTION num_out("Num ber") RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'int4out';
CREATE TYPE "Num ber" (INPUT = num_in, OUTPUT = num_out, LIKE = int4);
CREATE FUNCTION num_eq("Num ber", "Num ber") RETURNS bool LANGUAGE internal IMMUTABLE STRICT AS 'int4eq';
CREATE FUNCTION num_lt("Num ber", "Num ber") RETURNS bool LANGUAGE internal IMMUTABLE STRICT AS 'int4lt';
CREATE FUNCTION num_le("Num ber", "Num ber") RETURNS bool LANGUAGE internal IMMUTABLE STRICT AS 'int4le';
CREATE FUNCTION num_gt("Num ber", "Num ber") RETURNS bool LANGUAGE internal IMMUTABLE STRICT AS 'int4gt';
CREATE FUNCTION num_ge("Num ber", "Num ber") RETURNS bool LANGUAGE internal IMMUTABLE STRICT AS 'int4ge';
CREATE FUNCTION num_cmp("Num ber", "Num ber") RETURNS int LANGUAGE internal IMMUTABLE STRICT AS 'btint4cmp';
CREATE OPERATOR = (LEFTARG = "Num ber", RIGHTARG = "Num ber", FUNCTION = num_eq, COMMUTATOR = =);
CREATE OPERATOR < (LEFTARG = "Num ber", RIGHTARG = "Num ber", FUNCTION = num_lt);
CREATE OPERATOR <= (LEFTARG = "Num ber", RIGHTARG = "Num ber", FUNCTION = num_le);
CREATE OPERATOR > (LEFTARG = "Num ber", RIGHTARG = "Num ber", FUNCTION = num_gt);
CREATE OPERATOR >= (LEFTARG = "Num ber", RIGHTARG = "Num ber", FUNCTION = num_ge);
CREATE OPERATOR CLASS num_ops DEFAULT FOR TYPE "Num ber" USING btree AS
    OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 num_cmp("Num ber", "Num ber");

CREATE TABLE extension_types (
    id int PRIMARY KEY, h hstore, c citext, l ltree, q lquery, k cube, i isbn13, s seg, hs hstore[], cs citext[]
);
INSERT INTO extension_types VALUES
    (1, '"a b"=>"c\"d", e=>NULL, ""=>""', 'MixedCase', 'Top.Science.Astronomy', '*.Astro*@', '(1,2),(3,4)', '978-0-393-04002-9',
        '1.10', ARRAY['a=>1'::hstore, NULL], '{A,a,NULL}'),
    (2, '', '', '', NULL, '(0.1)', NULL, '~6.5', '{}', '{}'),
    (3, 'x=>"it''s \\ "', 'mixedcase', 'top', '*', '(0.1),(0.10000000000000001)', '978-0-11-000222-4', '1.1 .. 2', NULL, '{a}'),
    (4, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CREATE DOMAIN yes AS bool;
CREATE DOMAIN padded AS char(10);
CREATE DOMAIN host AS inet;
CREATE DOMAIN large AS numeric;
CREATE DOMAIN document AS json;
CREATE TYPE empty AS ();
CREATE TYPE inner_row AS (a int, b own.padded);
CREATE DOMAIN checked_row AS inner_row CHECK ((VALUE).a IS DISTINCT FROM 0);
CREATE TABLE own_types (
    id int PRIMARY KEY, r raw, n "Num ber", rs raw[], ns "Num ber"[], y yes, p padded, bp bpchar, h host, g large, d document,
    e empty, w inner_row, cw checked_row, ys yes[], ps padded[], ws inner_row[], us "char"[], v varchar(3)[], "a ""b"" \ c" text
);
INSERT INTO own_types VALUES
    (1, E'it''s \\ "\n', '1', '{NULL,"a b"}', '{1,2}', true, 'a', 'a', '10.1.2.3', 1.10, '{"a": 1.10}', '()', ROW(1, 'x'), ROW(1, 'x'),
        '{t,f}', '{a,"b c"}', ARRAY[ROW(NULL, 'y')::inner_row], '{a,NULL}', '{abc,""}', E'\\n\n'),
    (2, '', '-2147483648', '{}', '{}', false, '', 'a ', '::1', 1.1, '{"a":1.1}', '()', ROW(NULL, NULL), NULL, '{}', '{}', '{}', '{}', '{}', ''),
    (3, 'NULL', '2147483647', '{{a},{b}}', '{NULL}', NULL, ' a', 'A', '10.0.0.0/8', '-0.00', ' null', NULL, ROW(1, ' x '), ROW(NULL, NULL),
        '{NULL}', NULL, NULL, NULL, NULL, NULL),
    (4, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
-- Columns that may not be there, or are not written: dropped ones, and one that is computed.
CREATE TABLE changed_shape (id int PRIMARY KEY, gone int, a text, g text GENERATED ALWAYS AS (a || '!') STORED, also_gone text, b numeric);
INSERT INTO changed_shape VALUES (1, 1, 'x', DEFAULT, 'y', 1.10), (2, 2, '', DEFAULT, NULL, NULL), (3, NULL, E'\\', DEFAULT, '', 0);
ALTER TABLE changed_shape DROP COLUMN gone, DROP COLUMN also_gone;

-- What was there before a constraint does not fit it, on no target.
ALTER DOMAIN types.unchecked DROP CONSTRAINT from_now_on;

CREATE FUNCTION columns_of(relation regclass) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
    WHERE attrelid = relation AND attnum > 0 AND NOT attisdropped AND attname <> 'id' AND attgenerated = ''
$$;
CREATE VIEW of_the_zoo AS
    SELECT c.oid::regclass AS original, c.relname::text AS name, columns_of(c.oid) AS columns
    FROM pg_class AS c
    WHERE c.relkind = 'r' AND c.relnamespace::regnamespace::text IN ('types', 'own', 'zoo_xml')
        AND EXISTS (SELECT FROM pg_attribute WHERE attrelid = c.oid AND attname = 'id');

-- Where one table is as good as another.
CREATE VIEW some_of_the_zoo AS SELECT * FROM of_the_zoo WHERE name IN ('own_types', 'extension_types', 'composites', 'texts', 'byteas');

CREATE SCHEMA by_key;
CREATE SCHEMA by_index;
CREATE SCHEMA by_full;
CREATE SCHEMA by_full_key;
CREATE SCHEMA by_rows;
CREATE SCHEMA by_nothing;
CREATE SCHEMA as_key;
CREATE SCHEMA as_keys;

DO $$
DECLARE t record; way text;
BEGIN
    FOR t IN SELECT * FROM of_the_zoo LOOP
        -- Large values are written once, in work.sql.
        EXECUTE format('DELETE FROM %s AS t WHERE octet_length(t::text) > 60000', t.original);
        FOREACH way IN ARRAY ARRAY['by_key', 'by_full', 'by_full_key', 'by_rows'] LOOP
            EXECUTE format('CREATE TABLE %I.%I (LIKE %s INCLUDING GENERATED)', way, t.name, t.original);
        END LOOP;
        EXECUTE format('ALTER TABLE by_key.%I ADD PRIMARY KEY (id)', t.name);
        EXECUTE format('ALTER TABLE by_full.%I REPLICA IDENTITY FULL', t.name);
        EXECUTE format('ALTER TABLE by_full_key.%I ADD PRIMARY KEY (id), REPLICA IDENTITY FULL', t.name);
        EXECUTE format('ALTER TABLE by_rows.%I DROP COLUMN id, REPLICA IDENTITY FULL', t.name);
    END LOOP;
    FOR t IN SELECT * FROM some_of_the_zoo LOOP
        EXECUTE format('CREATE TABLE by_index.%I (LIKE %s, CONSTRAINT %I UNIQUE (id))', t.name, t.original, t.name || ' id');
        EXECUTE format('ALTER TABLE by_index.%I REPLICA IDENTITY USING INDEX %I', t.name, t.name || ' id');
        EXECUTE format('CREATE TABLE by_nothing.%I (LIKE %s, PRIMARY KEY (id))', t.name, t.original);
        EXECUTE format('ALTER TABLE by_nothing.%I REPLICA IDENTITY NOTHING', t.name);
    END LOOP;
END $$;

-- Each column whose values can be compared, as a key by itself; those of odd types as a part of one too.
DO $$
DECLARE c record; name text;
BEGIN
    FOR c IN SELECT z.original, z.name, quote_ident(a.attname) AS source, format_type(a.atttypid, a.atttypmod) AS type, a.attname
             FROM of_the_zoo AS z JOIN pg_attribute AS a ON a.attrelid = z.original
             WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attname <> 'id' AND a.attgenerated = ''
    LOOP
        name := left(c.name || ' ' || c.attname, 50);
        BEGIN
            EXECUTE format('CREATE TABLE as_key.%I (k %s PRIMARY KEY, n int)', name, c.type);
            EXECUTE format(
                'INSERT INTO as_key.%I SELECT v, row_number() OVER (ORDER BY v::text COLLATE "C") FROM (SELECT DISTINCT %s AS v FROM %s) AS s'
                ' WHERE NOT (v IS NULL) AND octet_length(v::text) < 1000', name, c.source, c.original);
            IF c.name IN (SELECT some_of_the_zoo.name FROM some_of_the_zoo UNION VALUES ('registered')) THEN
                EXECUTE format('CREATE TABLE as_keys.%I (k %s, n int, v text, PRIMARY KEY (n, k))', name, c.type);
                EXECUTE format('INSERT INTO as_keys.%1$I SELECT k, n %% 2, n FROM as_key.%1$I', name);
            END IF;
        EXCEPTION WHEN undefined_object OR undefined_function THEN
            NULL;  -- not every type can be
        END;
    END LOOP;
END $$;
