-- Routines, views, triggers, rules, policies, operators, and what else the catalog holds.
SET search_path = zoo, pg_catalog;

CREATE FUNCTION add_tax(amount numeric, rate numeric DEFAULT 0.2, OUT total numeric) LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT COST 7
    AS $f$ SELECT amount * (1 + rate) -- it's "tax" \ %s $$ $f$;
CREATE FUNCTION atomic(a int) RETURNS SETOF text LANGUAGE sql STABLE ROWS 7 BEGIN ATOMIC SELECT t FROM zoo.parent WHERE id = a; END;
CREATE FUNCTION variadic_count(VARIADIC things anyarray) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT cardinality($1)';
CREATE FUNCTION with_settings() RETURNS text LANGUAGE plpgsql SECURITY DEFINER LEAKPROOF
    SET search_path = zoo, pg_temp SET work_mem = '5MB' SET "zoo.custom" = 'it''s'
    AS $$ BEGIN RETURN current_setting('search_path'); END $$;
CREATE FUNCTION returns_table(n int) RETURNS TABLE (a int, "b c" text) LANGUAGE sql AS 'SELECT i, i::text FROM generate_series(1, n) AS i';
CREATE PROCEDURE do_nothing(INOUT a int, b text DEFAULT 'x') LANGUAGE plpgsql AS 'BEGIN NULL; END';
CREATE FUNCTION "odd ""name"" (x)"(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE FUNCTION from_library(text) RETURNS int LANGUAGE internal IMMUTABLE STRICT AS 'textlen';
CREATE AGGREGATE total_of(numeric) (SFUNC = numeric_add, STYPE = numeric, INITCOND = '0', COMBINEFUNC = numeric_add, PARALLEL = SAFE);
CREATE AGGREGATE moving(int) (SFUNC = int4pl, STYPE = int, INITCOND = '0', MSFUNC = int4pl, MINVFUNC = int4mi, MSTYPE = int, MINITCOND = '0');
CREATE AGGREGATE ordered(float8 ORDER BY anyelement) (
    SFUNC = ordered_set_transition, STYPE = internal, FINALFUNC = percentile_disc_final, FINALFUNC_EXTRA
);
CREATE FUNCTION pair_equal(types.address, types.address) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT ($1).street = ($2).street';
CREATE OPERATOR === (LEFTARG = types.address, RIGHTARG = types.address, FUNCTION = pair_equal, COMMUTATOR = ===, RESTRICT = eqsel, JOIN = eqjoinsel);
CREATE FUNCTION negate(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT -$1';
CREATE OPERATOR @#@ (RIGHTARG = int, FUNCTION = negate);
CREATE OPERATOR FAMILY reversed USING btree;
CREATE FUNCTION backwards(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT btint4cmp($2, $1)';
CREATE OPERATOR CLASS reversed FOR TYPE int USING btree FAMILY reversed AS
    OPERATOR 1 >, OPERATOR 2 >=, OPERATOR 3 =, OPERATOR 4 <=, OPERATOR 5 <, FUNCTION 1 backwards(int, int);
CREATE INDEX by_own_operator_class ON keyed (a reversed);
CREATE INDEX by_own_function ON keyed (add_tax(j));
CREATE FUNCTION mood_number(types.mood) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT length($1::text)';
CREATE CAST (types.mood AS int) WITH FUNCTION mood_number(types.mood) AS ASSIGNMENT;
CREATE CAST (types.address AS jsonb) WITH INOUT;
CREATE COLLATION bytewise FROM "C";
CREATE COLLATION libc_utf8 (provider = libc, locale = 'C.UTF-8');
CREATE TABLE collated (id int PRIMARY KEY, a text COLLATE bytewise, b text COLLATE libc_utf8 UNIQUE, c text COLLATE "POSIX");
INSERT INTO collated VALUES (1, 'a', 'B', 'é'), (2, 'B', 'a', 'E');
CREATE CONVERSION to_utf8 FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
CREATE TYPE base;
CREATE FUNCTION base_in(cstring) RETURNS base LANGUAGE internal IMMUTABLE STRICT AS 'textin';
CREATE FUNCTION base_out(base) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
CREATE TYPE base (INPUT = base_in, OUTPUT = base_out, LIKE = text, CATEGORY = 'S', DEFAULT = 'none');
CREATE TABLE based (id int PRIMARY KEY, b base);
INSERT INTO based VALUES (1, 'x y'), (2, DEFAULT), (3, NULL);
CREATE TYPE shell_only;

CREATE TEXT SEARCH DICTIONARY words (TEMPLATE = pg_catalog.simple, STOPWORDS = english, ACCEPT = false);
CREATE TEXT SEARCH CONFIGURATION search (COPY = pg_catalog.english);
ALTER TEXT SEARCH CONFIGURATION search ALTER MAPPING FOR asciiword WITH words, english_stem;
ALTER TEXT SEARCH CONFIGURATION search DROP MAPPING FOR url;
CREATE TEXT SEARCH PARSER parser (START = prsd_start, GETTOKEN = prsd_nexttoken, END = prsd_end, LEXTYPES = prsd_lextype, HEADLINE = prsd_headline);
CREATE TEXT SEARCH TEMPLATE template (INIT = dsimple_init, LEXIZE = dsimple_lexize);
CREATE TABLE documents (id int PRIMARY KEY, body text, v tsvector GENERATED ALWAYS AS (to_tsvector('zoo.search', body)) STORED, c regconfig);
CREATE INDEX ON documents USING gin (v);
INSERT INTO documents (id, body, c) VALUES (1, 'The quick brown foxes at http://example.com', 'zoo.search'), (2, '', NULL);

-- Views.
CREATE VIEW plain AS SELECT id, t FROM parent WHERE t <> E'it''s \\ "odd"';
CREATE VIEW on_view WITH (security_barrier = true) AS SELECT id FROM plain;
CREATE VIEW checked_view WITH (check_option = cascaded, security_invoker = true) AS SELECT id, a, b FROM checked WHERE a > 0;
CREATE VIEW grouped_by_key AS SELECT p.*, count(c.id) AS children FROM parent AS p LEFT JOIN child AS c USING (id) GROUP BY p.id;
CREATE RECURSIVE VIEW numbers (n) AS VALUES (1) UNION ALL SELECT n + 1 FROM numbers WHERE n < 10;
ALTER VIEW plain ALTER COLUMN t SET DEFAULT 'from the view';
CREATE VIEW no_columns AS SELECT;
CREATE VIEW first_version AS SELECT 1 AS a;
CREATE VIEW uses_first AS SELECT a FROM first_version;
CREATE OR REPLACE VIEW first_version AS SELECT 1 AS a, (SELECT count(*) FROM parent) AS b;
CREATE MATERIALIZED VIEW summary WITH (fillfactor = 90) AS SELECT grp, count(*) AS n, sum(id) AS total FROM large GROUP BY grp;
CREATE UNIQUE INDEX summary_grp ON summary (grp);
CREATE INDEX summary_n ON summary (n) WHERE n > 1;
ALTER MATERIALIZED VIEW summary CLUSTER ON summary_grp;
ALTER MATERIALIZED VIEW summary ALTER COLUMN n SET STATISTICS 77;
CREATE MATERIALIZED VIEW summary_of_summary AS SELECT max(n) AS most, with_settings() AS path FROM summary;
CREATE MATERIALIZED VIEW a_summary_sorted_first AS SELECT most FROM summary_of_summary;
CREATE MATERIALIZED VIEW unpopulated AS SELECT a FROM keyed WITH NO DATA;
CREATE UNIQUE INDEX unpopulated_a ON unpopulated (a);
CREATE MATERIALIZED VIEW empty_matview AS SELECT a FROM keyed WHERE false;
CREATE VIEW on_matview AS SELECT most FROM summary_of_summary;

-- Triggers, none of which may fire while rows are copied.
CREATE TABLE trigger_log (id int GENERATED ALWAYS AS IDENTITY, what text, at timestamptz DEFAULT now());
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO zoo.trigger_log (what) VALUES (tg_name || ' ' || tg_op);
    RETURN NULL;
END $$;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'a trigger fired'; END $$;
CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.t := 'spoilt'; RETURN NEW; END $$;
CREATE TABLE triggered (id int PRIMARY KEY, t text);
INSERT INTO triggered VALUES (1, 'kept'), (2, 'kept');
CREATE TRIGGER spoils BEFORE INSERT OR UPDATE ON triggered FOR EACH ROW EXECUTE FUNCTION spoil();
CREATE TRIGGER after_row AFTER UPDATE OF t ON triggered FOR EACH ROW WHEN (OLD.t IS DISTINCT FROM NEW.t) EXECUTE FUNCTION note('arg', 'it''s "2"');
CREATE TRIGGER after_statement AFTER INSERT OR DELETE OR TRUNCATE ON triggered EXECUTE FUNCTION note();
CREATE TRIGGER with_transition AFTER UPDATE ON triggered REFERENCING OLD TABLE AS before NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION note();
CREATE CONSTRAINT TRIGGER deferred AFTER INSERT ON triggered DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER disabled BEFORE INSERT ON triggered FOR EACH ROW EXECUTE FUNCTION refuse();
CREATE TRIGGER on_replica BEFORE DELETE ON triggered FOR EACH ROW EXECUTE FUNCTION refuse();
CREATE TRIGGER always AFTER DELETE ON triggered FOR EACH ROW EXECUTE FUNCTION note();
ALTER TABLE triggered DISABLE TRIGGER disabled;
ALTER TABLE triggered ENABLE REPLICA TRIGGER on_replica;
ALTER TABLE triggered ENABLE ALWAYS TRIGGER always;
CREATE TRIGGER instead INSTEAD OF INSERT ON grouped_by_key FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER on_partitions AFTER INSERT ON measures FOR EACH ROW EXECUTE FUNCTION note();
ALTER TABLE measures_south DISABLE TRIGGER on_partitions;
COMMENT ON TRIGGER spoils ON triggered IS 'a trigger';
CREATE FUNCTION on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN NULL; END';
CREATE EVENT TRIGGER zoo_ddl ON ddl_command_end WHEN TAG IN ('CREATE TABLE', 'DROP TABLE') EXECUTE FUNCTION on_ddl();
CREATE EVENT TRIGGER zoo_drop ON sql_drop EXECUTE FUNCTION on_ddl();
CREATE EVENT TRIGGER zoo_off ON ddl_command_start EXECUTE FUNCTION on_ddl();
ALTER EVENT TRIGGER zoo_drop ENABLE ALWAYS;
ALTER EVENT TRIGGER zoo_off DISABLE;
COMMENT ON EVENT TRIGGER zoo_ddl IS 'an event trigger';

-- Rules.
CREATE RULE into_parent AS ON INSERT TO plain DO INSTEAD INSERT INTO parent (id, t) VALUES (NEW.id, NEW.t);
CREATE RULE quietly AS ON DELETE TO identity_full WHERE OLD.a > 100 DO ALSO DELETE FROM empty WHERE id = OLD.a;
CREATE RULE tell AS ON UPDATE TO identity_full DO ALSO NOTIFY zoo;
CREATE RULE never AS ON UPDATE TO empty DO INSTEAD NOTHING;
ALTER TABLE empty DISABLE RULE never;
COMMENT ON RULE quietly ON identity_full IS 'a rule';

-- Row-level security, also against the owner.
CREATE TABLE secret (id int PRIMARY KEY, owner name, t text);
INSERT INTO secret VALUES (1, 'zoo_owner', 'a'), (2, 'zoo_reader', 'b'), (3, 'nobody', 'c');
ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON secret USING (owner = current_user) WITH CHECK (owner = current_user AND t <> 'it''s');
CREATE POLICY restrictive ON secret AS RESTRICTIVE FOR SELECT TO zoo_reader, zoo_owner USING (id > 0);
CREATE TABLE top_secret (id int PRIMARY KEY);
INSERT INTO top_secret SELECT generate_series(1, 10);
ALTER TABLE top_secret ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY, OWNER TO zoo_owner;
CREATE TABLE policy_off (id int);
CREATE POLICY unused ON policy_off FOR INSERT WITH CHECK (false);
COMMENT ON POLICY own_rows ON secret IS 'a policy';

-- Publications.
CREATE PUBLICATION everything FOR ALL TABLES WITH (publish = 'insert, update');
CREATE PUBLICATION "some ""tables""" FOR TABLE large (id, grp) WHERE (id > 10 AND grp <> 5), ONLY parent WITH (publish_via_partition_root = true);
CREATE PUBLICATION a_schema FOR TABLES IN SCHEMA types, TABLE keyed;
CREATE PUBLICATION empty_one;
COMMENT ON PUBLICATION everything IS 'a publication';

COMMENT ON FUNCTION add_tax(numeric, numeric) IS 'a function';
COMMENT ON PROCEDURE do_nothing(int, text) IS 'a procedure';
COMMENT ON AGGREGATE total_of(numeric) IS 'an aggregate';
COMMENT ON OPERATOR === (types.address, types.address) IS 'an operator';
COMMENT ON OPERATOR CLASS reversed USING btree IS 'an operator class';
COMMENT ON OPERATOR FAMILY reversed USING btree IS 'an operator family';
COMMENT ON CAST (types.mood AS int) IS 'a cast';
COMMENT ON COLLATION bytewise IS 'a collation';
COMMENT ON CONVERSION to_utf8 IS 'a conversion';
COMMENT ON TEXT SEARCH CONFIGURATION search IS 'a configuration';
COMMENT ON TEXT SEARCH DICTIONARY words IS 'a dictionary';
COMMENT ON TEXT SEARCH PARSER parser IS 'a parser';
COMMENT ON TEXT SEARCH TEMPLATE template IS 'a template';
COMMENT ON VIEW plain IS 'a view';
COMMENT ON COLUMN plain.t IS 'a view''s column';
COMMENT ON MATERIALIZED VIEW summary IS 'a materialized view';
COMMENT ON LANGUAGE plpgsql IS 'our comment on plpgsql';
