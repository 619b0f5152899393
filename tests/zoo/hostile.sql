-- The same small set of objects under every name that has ever broken a tool.
CREATE SCHEMA hostile;
CREATE SCHEMA "odd ""schema""";
DO $zoo$
DECLARE
    name text;
    names text[] := ARRAY[
        'double"quote', '"', '""', 'it''s', '''', 'dot.ted', '.', 'with space', ' leading', 'trailing ', E'new\nline', E'\n', E'carriage\rreturn',
        E'tab\t', 'back\slash', '\', '\.', '\N', '%', '%s %(x)s %%', '{}', '{0}', '$1', '$$', '$tag$', ':name', ';--', '; DROP TABLE x; --', '--help',
        '-t', '/*', '*/', '*', '?', '~', '[a-z]', '(paren)', ')', ',', 'a,b', '|', '&', '@', '#hash', '<tag>', '=', '!', '^', '`tick`',
        'naïve', '表', '🐘', U&'e\0301', U&'\200B', U&'\FEFFbom', E'\x7f', E'\x01', 'select', 'table', 'user', 'null', 'true', 'default', 'NEW', 'old',
        'oid', 'public', 'pg_temp', '1leading', '0', '-1', 'UPPER', 'MixedCase', 'Null', repeat('n', 63), repeat('é', 31) || 'x', repeat('"', 63),
        repeat('x', 62) || '"', 'a..b', 'x''; SELECT 1; --', E'\\''; --', 'C:\path', 'https://example.com/?a=b&c=%20', 'CON', 'xmin ', 'tableoid.'
    ];
BEGIN
    FOREACH name IN ARRAY names LOOP
        EXECUTE format('CREATE TABLE hostile.%I (%I serial PRIMARY KEY, t text DEFAULT %L)', name, name, name);
        EXECUTE format('INSERT INTO hostile.%I (t) VALUES (DEFAULT), (%L || %L), (NULL)', name, name, E'\n');
        EXECUTE format('CREATE INDEX ON hostile.%I (t, %I)', name, name);
        EXECUTE format('COMMENT ON COLUMN hostile.%I.%I IS %L', name, name, name);
    END LOOP;
    FOREACH name IN ARRAY ARRAY['a "quoted" one', 'dot.ted', E'new\nline', '%s', 'back\slash', 'it''s', '表🐘', 'select', ';--', 'UPPER', repeat('s', 63)] LOOP
        EXECUTE format('CREATE SCHEMA %I', name);
        EXECUTE format('COMMENT ON SCHEMA %I IS %L', name, name);
        EXECUTE format('CREATE TYPE %I.%I AS ENUM (%L, %L)', name, 'type ' || left(name, 50), name, 'plain');
        EXECUTE format('CREATE TABLE %I.parent (%I bigint PRIMARY KEY)', name, name);
        EXECUTE format('INSERT INTO %I.parent VALUES (1), (2)', name);
        EXECUTE format('CREATE TABLE %I.%I (id int GENERATED ALWAYS AS IDENTITY, %I bigint, e %I.%I, CONSTRAINT %I UNIQUE (id), CHECK (%I > 0),'
            ' CONSTRAINT %I FOREIGN KEY (%I) REFERENCES %I.parent)', name, name, name, name, 'type ' || left(name, 50), 'key ' || left(name, 50), name,
            'fk ' || left(name, 50), name, name);
        EXECUTE format('INSERT INTO %I.%I (%I, e) VALUES (1, %L), (2, %L), (NULL, NULL)', name, name, name, name, 'plain');
        EXECUTE format('CREATE INDEX %I ON %I.%I (%I) WHERE e <> %L', 'index ' || left(name, 50), name, name, name, name);
        EXECUTE format('CREATE VIEW %I.%I AS SELECT * FROM %I.%I', name, 'view ' || left(name, 50), name, name);
        EXECUTE format('CREATE MATERIALIZED VIEW %I.%I AS SELECT %I FROM %I.parent', name, 'matview ' || left(name, 50), name, name);
        EXECUTE format('CREATE FUNCTION %I.%I(%I int) RETURNS int LANGUAGE sql AS %L', name, 'f ' || left(name, 50), name, 'SELECT 1 -- ' || name);
        EXECUTE format('CREATE FUNCTION %I.tf() RETURNS trigger LANGUAGE plpgsql AS ''BEGIN RETURN NEW; END''', name);
        EXECUTE format('CREATE TRIGGER %I BEFORE INSERT ON %I.%I FOR EACH ROW EXECUTE FUNCTION %I.tf(%L)', name, name, name, name, name);
        EXECUTE format('CREATE SEQUENCE %I.%I', name, 'seq ' || left(name, 50));
        PERFORM setval(format('%I.%I', name, 'seq ' || left(name, 50)), 12345);
        EXECUTE format('GRANT SELECT (%I) ON %I.%I TO "zoo odd""role''x"', name, name, name);
        EXECUTE format('CREATE PUBLICATION %I FOR TABLE %I.%I', name, name, name);
    END LOOP;
END
$zoo$;
-- The same names in two schemas, and an index with the name of a table elsewhere.
CREATE TABLE "odd ""schema""".keyed (id int PRIMARY KEY);
CREATE INDEX large ON "odd ""schema""".keyed (id);
INSERT INTO "odd ""schema""".keyed VALUES (1);
CREATE TABLE public.keyed (id int PRIMARY KEY, t text);
INSERT INTO public.keyed VALUES (1, 'in public');
