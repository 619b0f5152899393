-- What hardly any database has, and pg_dump dumps all the same. The zoo has the kinds that are not here. Needs a
-- superuser; a security label would need a module that provides one, which no server here has.
CREATE SCHEMA rare;
SET search_path = rare, pg_catalog;

CREATE TRANSFORM FOR int LANGUAGE sql (FROM SQL WITH FUNCTION prsd_lextype(internal), TO SQL WITH FUNCTION int4recv(internal));
COMMENT ON TRANSFORM FOR int LANGUAGE sql IS 'a transform';
CREATE FUNCTION handler() RETURNS language_handler LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_call_handler';
CREATE FUNCTION inline(internal) RETURNS void LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_inline_handler';
CREATE FUNCTION validator(oid) RETURNS void LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_validator';
CREATE TRUSTED LANGUAGE "pl ""odd""" HANDLER handler INLINE inline VALIDATOR validator;
COMMENT ON LANGUAGE "pl ""odd""" IS 'a language';
REVOKE USAGE ON LANGUAGE "pl ""odd""" FROM PUBLIC;
CREATE FUNCTION in_own_language(a int) RETURNS int LANGUAGE "pl ""odd""" AS 'BEGIN RETURN a + 1; END';
CREATE FUNCTION transformed(int) RETURNS int LANGUAGE sql TRANSFORM FOR TYPE int AS 'SELECT 1';
CREATE ACCESS METHOD "odd ""gist""" TYPE INDEX HANDLER gisthandler;
CREATE DEFAULT CONVERSION from_latin FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
CREATE TYPE bits;
CREATE FUNCTION bits_in(cstring, oid, int) RETURNS bits LANGUAGE internal IMMUTABLE STRICT AS 'bit_in';
CREATE FUNCTION bits_out(bits) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'bit_out';
CREATE FUNCTION bits_recv(internal, oid, int) RETURNS bits LANGUAGE internal IMMUTABLE STRICT AS 'bit_recv';
CREATE FUNCTION bits_send(bits) RETURNS bytea LANGUAGE internal IMMUTABLE STRICT AS 'bit_send';
CREATE FUNCTION bits_modifiers(cstring[]) RETURNS int LANGUAGE internal IMMUTABLE STRICT AS 'bittypmodin';
CREATE FUNCTION bits_modifiers_out(int) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'bittypmodout';
CREATE TYPE bits (
    INPUT = bits_in, OUTPUT = bits_out, RECEIVE = bits_recv, SEND = bits_send, TYPMOD_IN = bits_modifiers, TYPMOD_OUT = bits_modifiers_out,
    LIKE = bit, COLLATABLE = false, DELIMITER = ';', PREFERRED = false
);
CREATE CAST (bits AS bit) WITHOUT FUNCTION AS IMPLICIT;
CREATE TABLE of_bits (id int PRIMARY KEY, b bits(4), bs bits[]);
INSERT INTO of_bits VALUES (1, '1010', '{1;0}'), (2, NULL, '{}');
CREATE FUNCTION span_length(int, int) RETURNS float8 LANGUAGE internal IMMUTABLE STRICT AS 'int4range_subdiff';
CREATE TYPE span;
CREATE FUNCTION span_canonical(span) RETURNS span LANGUAGE internal IMMUTABLE STRICT AS 'int4range_canonical';
CREATE TYPE span AS RANGE (subtype = int, subtype_diff = span_length, canonical = span_canonical, multirange_type_name = "odd ""spans""");
CREATE TABLE of_spans (id int PRIMARY KEY, s span, m "odd ""spans""", EXCLUDE USING gist (s WITH &&));
INSERT INTO of_spans VALUES (1, '[1,2]', '{[1,2],(5,9]}'), (2, 'empty', '{}');

-- An operator family with operators and functions beside those of its class, and a class that a type is not the default of.
CREATE OPERATOR FAMILY mixed USING btree;
ALTER OPERATOR FAMILY mixed USING btree ADD OPERATOR 1 < (int4, int8), OPERATOR 3 = (int4, int8), FUNCTION 1 (int4, int8) btint48cmp(int4, int8);
CREATE OPERATOR CLASS mixed_int FOR TYPE int4 USING btree FAMILY mixed AS
    OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 btint4cmp(int4, int4), FUNCTION 4 btequalimage(oid);
CREATE OPERATOR CLASS stored_otherwise FOR TYPE box USING gist AS
    OPERATOR 3 &&, FUNCTION 1 gist_box_consistent(internal, box, smallint, oid, internal), FUNCTION 2 gist_box_union(internal, internal),
    FUNCTION 5 gist_box_penalty(internal, internal, internal), FUNCTION 6 gist_box_picksplit(internal, internal), FUNCTION 7 gist_box_same(box, box, internal),
    STORAGE box;

-- Circles, which pg_dump cuts: views through rules, functions and types of rows, a default that reads its own table.
CREATE VIEW chicken AS SELECT 1 AS a, 'x'::text AS b;
CREATE VIEW egg AS SELECT a, b FROM chicken;
CREATE OR REPLACE VIEW chicken AS SELECT a, b FROM egg WHERE a > 0;
CREATE VIEW seen AS SELECT 1 AS n;
CREATE FUNCTION all_seen() RETURNS SETOF seen LANGUAGE sql BEGIN ATOMIC SELECT n FROM rare.seen; END;
CREATE OR REPLACE VIEW seen AS SELECT n FROM all_seen() WHERE n > 0;
CREATE TABLE counted (id int PRIMARY KEY);
CREATE FUNCTION next_counted() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT coalesce(max(id), 0) + 1 FROM rare.counted; END;
ALTER TABLE counted ALTER COLUMN id SET DEFAULT next_counted();
INSERT INTO counted DEFAULT VALUES;
INSERT INTO counted DEFAULT VALUES;
CREATE FUNCTION is_counted(int) RETURNS bool LANGUAGE sql AS 'SELECT EXISTS (SELECT FROM rare.counted WHERE id = $1)';
-- Refers to rows of another table, whichever is copied first.
CREATE TABLE a_refers (id int PRIMARY KEY, CONSTRAINT counted_first CHECK (is_counted(id)));
INSERT INTO a_refers VALUES (1), (2);
CREATE DOMAIN refers AS int CHECK (is_counted(VALUE));
CREATE TABLE a_refers_too (id int PRIMARY KEY, r refers);
INSERT INTO a_refers_too VALUES (1, 2);

-- Rules in every state, and a trigger in each that the zoo has not.
CREATE TABLE ruled (id int PRIMARY KEY, t text);
INSERT INTO ruled VALUES (1, 'kept');
CREATE RULE "odd ""rule""" AS ON INSERT TO ruled WHERE NEW.id < 0 DO ALSO (INSERT INTO counted VALUES (-NEW.id); DELETE FROM counted WHERE id = -NEW.id);
CREATE RULE replica AS ON UPDATE TO ruled DO ALSO NOTIFY ruled;
CREATE RULE always AS ON DELETE TO ruled DO ALSO NOTIFY ruled;
ALTER TABLE ruled ENABLE REPLICA RULE replica, ENABLE ALWAYS RULE always;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'a trigger fired'; END $$;
CREATE TRIGGER "odd ""trigger""
of two lines" BEFORE INSERT OR UPDATE OR DELETE ON ruled FOR EACH ROW EXECUTE FUNCTION refuse('it''s', E'back\\slash');
CREATE CONSTRAINT TRIGGER of_other AFTER UPDATE ON ruled FROM counted NOT DEFERRABLE FOR EACH ROW EXECUTE FUNCTION refuse();
CREATE TRIGGER never BEFORE TRUNCATE ON ruled EXECUTE FUNCTION refuse();
ALTER TABLE ruled ENABLE ALWAYS TRIGGER "odd ""trigger""
of two lines", DISABLE TRIGGER never;
CREATE FUNCTION on_login() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN NULL; END';
CREATE EVENT TRIGGER "odd ""event""" ON table_rewrite WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION on_login();
ALTER EVENT TRIGGER "odd ""event""" ENABLE REPLICA;

CREATE PUBLICATION rare_schemas FOR TABLES IN SCHEMA rare, public;
CREATE PUBLICATION rare_rows FOR TABLE ruled (id) WHERE (id > 0), TABLE counted WITH (publish = 'insert, truncate');
COMMENT ON COLUMN egg.b IS 'of a view that is cut';
COMMENT ON RULE "odd ""rule""" ON ruled IS 'a rule';
COMMENT ON CONSTRAINT counted_first ON a_refers IS 'a check';
COMMENT ON TYPE span IS 'a range';
COMMENT ON CONVERSION from_latin IS 'a conversion';
COMMENT ON ACCESS METHOD "odd ""gist""" IS 'an access method';
COMMENT ON OPERATOR CLASS stored_otherwise USING gist IS 'an operator class';
GRANT SELECT (a) ON chicken TO PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA rare REVOKE ALL ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA rare GRANT SELECT, UPDATE ON SEQUENCES TO PUBLIC;
