-- Something for every step of a clone to do, and little of each.
CREATE TABLE keyed (id bigint PRIMARY KEY, label text NOT NULL, amount numeric(12, 2));
INSERT INTO keyed SELECT i, md5(i::text), i * 1.01 FROM generate_series(1, 20000) i;
CREATE INDEX keyed_label ON keyed (label);
CREATE INDEX keyed_expression ON keyed ((amount * 2));
ALTER INDEX keyed_expression ALTER COLUMN 1 SET STATISTICS 300;

CREATE TABLE keyless (i int, t text);
INSERT INTO keyless SELECT i % 100, md5(i::text) FROM generate_series(1, 15000) i;

CREATE TABLE identified (a int NOT NULL, b text);
CREATE UNIQUE INDEX identified_a ON identified (a);
ALTER TABLE identified REPLICA IDENTITY USING INDEX identified_a;
ALTER TABLE identified CLUSTER ON identified_a;
INSERT INTO identified SELECT i, 'row ' || i FROM generate_series(1, 100) i;

CREATE TABLE parent (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, code text UNIQUE DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE child (id serial PRIMARY KEY, parent_id int REFERENCES parent, during int4range, EXCLUDE USING gist (during WITH &&));
INSERT INTO parent (code) SELECT 'code ' || i FROM generate_series(1, 50) i;
INSERT INTO child (parent_id, during) SELECT i, int4range(i * 10, i * 10 + 5) FROM generate_series(1, 50) i;

CREATE TABLE measured (at date NOT NULL, value float8, PRIMARY KEY (at)) PARTITION BY RANGE (at);
CREATE TABLE measured_2025 PARTITION OF measured FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE measured_2026 PARTITION OF measured FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
INSERT INTO measured SELECT date '2025-01-01' + i, i / 3.0 FROM generate_series(0, 600) i;

CREATE SEQUENCE standalone START 5;
SELECT nextval('standalone');

CREATE MATERIALIZED VIEW totals AS SELECT i, count(*) AS n FROM keyless GROUP BY i;
CREATE MATERIALIZED VIEW grand_total AS SELECT sum(n) AS n FROM totals;
CREATE UNIQUE INDEX totals_i ON totals (i);

CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.b := NEW.b || '!'; RETURN NEW; END $$;
CREATE TRIGGER identified_touch BEFORE INSERT OR UPDATE ON identified FOR EACH ROW EXECUTE FUNCTION touch();

SELECT lo_from_bytea(900000 + i, decode(repeat(md5(i::text), 100), 'hex')) FROM generate_series(1, 30) i;
SELECT lo_from_bytea(900100, decode(repeat(md5('large'), 150000), 'hex'));
COMMENT ON LARGE OBJECT 900001 IS 'the first one';
