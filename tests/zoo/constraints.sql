-- Indexes and constraints, and the settings that hang on them.
SET search_path = zoo, pg_catalog;

CREATE TABLE keyed (
    id int NOT NULL, a int, b text, c text, d int4range, e int[], f jsonb, g tsvector, h point, i bigint NOT NULL, j numeric, k ext.citext
);
INSERT INTO keyed
SELECT n, n % 10, 'text ' || n, CASE WHEN n % 3 > 0 THEN 'c' || n END, int4range(n * 10, n * 10 + 5), ARRAY[n, n + 1], jsonb_build_object('n', n),
    to_tsvector('pg_catalog.simple', 'word' || n), point(n, -n), n, n / 3.0, 'Word' || n
FROM generate_series(1, 200) AS n;
ALTER TABLE keyed ADD CONSTRAINT "keyed ""pk""" PRIMARY KEY (id) INCLUDE (a, b) WITH (fillfactor = 80);
ALTER TABLE keyed ADD CONSTRAINT deferrable_unique UNIQUE (i) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE keyed ADD CONSTRAINT nulls_equal UNIQUE NULLS NOT DISTINCT (c, id);
ALTER TABLE keyed ADD CONSTRAINT no_overlap EXCLUDE USING gist (a WITH =, d WITH &&) WHERE (a > 0);
ALTER TABLE keyed ADD CONSTRAINT exclude_later EXCLUDE (j WITH =) DEFERRABLE;
CREATE INDEX partial ON keyed (a) WHERE b LIKE 'text 1%' AND c IS NOT NULL;
CREATE INDEX expression ON keyed ((a + id), lower(b), (f ->> 'n'));
CREATE INDEX including ON keyed (a) INCLUDE (b, c);
CREATE INDEX ordered ON keyed (a DESC NULLS LAST, b COLLATE "C" text_pattern_ops, c NULLS FIRST);
CREATE INDEX "index with ""quotes"" and spaces" ON keyed (b);
CREATE UNIQUE INDEX unique_index ON keyed (b);
CREATE UNIQUE INDEX unique_expression ON keyed (lower(b));
CREATE UNIQUE INDEX unique_partial ON keyed (a, i) WHERE a > 5;
CREATE UNIQUE INDEX unique_nulls_equal ON keyed (i, c) NULLS NOT DISTINCT;
CREATE INDEX by_gin ON keyed USING gin (f jsonb_path_ops, e) WITH (fastupdate = off, gin_pending_list_limit = 128);
CREATE INDEX by_gin_tsvector ON keyed USING gin (g);
CREATE INDEX by_trigram ON keyed USING gin (b ext.gin_trgm_ops);
CREATE INDEX by_gist ON keyed USING gist (h, g tsvector_ops (siglen = 32)) WITH (buffering = on);
CREATE INDEX by_spgist ON keyed USING spgist (h);
CREATE INDEX by_brin ON keyed USING brin (i int8_minmax_multi_ops (values_per_range = 16), id) WITH (pages_per_range = 4, autosummarize = on);
CREATE INDEX by_bloom ON keyed USING brin (i int8_bloom_ops);
CREATE INDEX by_hash ON keyed USING hash (b) WITH (fillfactor = 60);
CREATE INDEX no_dedup ON keyed (a) WITH (deduplicate_items = off, fillfactor = 55);
ALTER INDEX expression ALTER COLUMN 1 SET STATISTICS 500;
ALTER INDEX expression ALTER COLUMN 3 SET STATISTICS 0;
CREATE UNIQUE INDEX becomes_constraint ON keyed (j, id);
ALTER TABLE keyed ADD CONSTRAINT from_index UNIQUE USING INDEX becomes_constraint;
-- As a CREATE INDEX CONCURRENTLY that failed leaves it.
CREATE INDEX left_invalid ON keyed (c);
UPDATE pg_catalog.pg_index SET indisvalid = false WHERE indexrelid = 'left_invalid'::regclass;

-- Indexes of partitioned tables: on all levels, on none below, partly attached.
CREATE INDEX measures_value ON measures (value) WHERE value > 1;
CREATE UNIQUE INDEX measures_unique ON measures (sensor, at, region);
CREATE INDEX measures_alone ON ONLY measures (twice);
CREATE INDEX measures_partly ON ONLY measures (at);
CREATE INDEX measures_partly_rest ON measures_rest (at);
ALTER INDEX measures_partly ATTACH PARTITION measures_partly_rest;
CREATE INDEX measures_own ON measures_north_2023 (value, sensor);
CREATE INDEX "by expression" ON by_expression ((a + 1));

-- Checks.
CREATE TABLE checked (
    id int PRIMARY KEY, a int CHECK (a > 0), b text, CONSTRAINT "it's ""odd""" CHECK (b <> E'back\\slash\nnew line' AND b !~ '%s'),
    CONSTRAINT "both" CHECK (a IS NULL OR b IS NOT NULL)
);
INSERT INTO checked VALUES (1, 1, 'b'), (2, NULL, NULL), (3, 3, 'kept');
ALTER TABLE checked ADD CONSTRAINT broken_by_old_rows CHECK (id < 3) NOT VALID;

-- Foreign keys: of every action and match, to themselves, in a circle, to an index, broken by old rows, between partitions.
CREATE TABLE tree (id int PRIMARY KEY, parent int REFERENCES tree ON DELETE CASCADE);
INSERT INTO tree VALUES (1, 2), (2, 3), (3, 1), (4, 4), (5, NULL);
CREATE TABLE hen (id int PRIMARY KEY, egg int NOT NULL);
CREATE TABLE egg (id int PRIMARY KEY, hen int NOT NULL REFERENCES hen DEFERRABLE INITIALLY DEFERRED);
ALTER TABLE hen ADD CONSTRAINT hen_egg FOREIGN KEY (egg) REFERENCES egg DEFERRABLE INITIALLY IMMEDIATE;
BEGIN;
SET CONSTRAINTS ALL DEFERRED;
INSERT INTO hen VALUES (1, 1);
INSERT INTO egg VALUES (1, 1);
COMMIT;
CREATE TABLE referrer (
    id int PRIMARY KEY,
    to_index text REFERENCES keyed (b) ON UPDATE CASCADE,
    restricted int REFERENCES keyed (id) ON DELETE RESTRICT ON UPDATE RESTRICT,
    nulled int REFERENCES keyed (id) ON DELETE SET NULL ON UPDATE SET NULL,
    defaulted int DEFAULT 1 REFERENCES keyed (id) ON DELETE SET DEFAULT ON UPDATE SET DEFAULT,
    x int, y int
);
CREATE UNIQUE INDEX keyed_pair ON keyed (a, id);
ALTER TABLE referrer ADD CONSTRAINT match_full FOREIGN KEY (x, y) REFERENCES keyed (a, id) MATCH FULL;
ALTER TABLE referrer ADD CONSTRAINT one_column_nulled FOREIGN KEY (x, y) REFERENCES keyed (a, id) ON DELETE SET NULL (y);
INSERT INTO referrer VALUES (1, 'text 1', 1, 2, 3, 4, 4), (2, NULL, NULL, NULL, NULL, NULL, NULL), (3, 'text 5', 5, 5, DEFAULT, 0, 10);
CREATE TABLE orphans (id int PRIMARY KEY, parent int);
INSERT INTO orphans VALUES (1, 1), (2, 99999);
ALTER TABLE orphans ADD CONSTRAINT orphans_parent FOREIGN KEY (parent) REFERENCES parent NOT VALID;
CREATE TABLE measure_notes (
    region text, at date, sensor int, note text, id int GENERATED ALWAYS AS IDENTITY,
    FOREIGN KEY (region, at, sensor) REFERENCES measures ON UPDATE CASCADE ON DELETE CASCADE, PRIMARY KEY (id, region)
) PARTITION BY HASH (region);
CREATE TABLE measure_notes_0 PARTITION OF measure_notes FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE measure_notes_1 PARTITION OF measure_notes FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO measure_notes (region, at, sensor, note) SELECT region, at, sensor, 'note' FROM measures WHERE sensor = 3;

-- What identifies a row for replication, and what a table is sorted by.
CREATE TABLE identity_index (id int, code text NOT NULL, t text);
CREATE UNIQUE INDEX identity_index_code ON identity_index (code);
ALTER TABLE identity_index REPLICA IDENTITY USING INDEX identity_index_code;
INSERT INTO identity_index VALUES (1, 'a', 'x'), (1, 'b', 'y');
CREATE TABLE identity_constraint (id int PRIMARY KEY, code text NOT NULL UNIQUE);
ALTER TABLE identity_constraint REPLICA IDENTITY USING INDEX identity_constraint_code_key;
CREATE TABLE identity_full (a int, b text);
ALTER TABLE identity_full REPLICA IDENTITY FULL;
INSERT INTO identity_full VALUES (1, 'x'), (1, 'x');
CREATE TABLE identity_nothing (a int PRIMARY KEY);
ALTER TABLE identity_nothing REPLICA IDENTITY NOTHING;
ALTER TABLE measures_south REPLICA IDENTITY FULL;
CREATE INDEX clustered ON large (made);
ALTER TABLE large CLUSTER ON clustered;
ALTER TABLE checked CLUSTER ON checked_pkey;

-- Statistics.
CREATE STATISTICS all_kinds (ndistinct, dependencies, mcv) ON grp, made, id FROM large;
ALTER STATISTICS all_kinds SET STATISTICS 50;
CREATE STATISTICS "of ""expressions""" ON (grp + 1), lower(payload) FROM large;
CREATE STATISTICS of_one_expression ON (grp * 2) FROM large;
ALTER STATISTICS all_kinds OWNER TO zoo_owner;
COMMENT ON STATISTICS all_kinds IS 'all kinds';

COMMENT ON TABLE keyed IS E'it''s a "table"\nwith \\ and %';
COMMENT ON COLUMN keyed.a IS 'a column';
COMMENT ON INDEX partial IS 'an index';
COMMENT ON INDEX measures_value IS 'a partitioned index';
COMMENT ON CONSTRAINT no_overlap ON keyed IS 'an exclusion';
COMMENT ON CONSTRAINT match_full ON referrer IS 'a foreign key';
COMMENT ON CONSTRAINT "it's ""odd""" ON checked IS 'a check';
COMMENT ON CONSTRAINT "keyed ""pk""" ON keyed IS 'a primary key';
COMMENT ON SEQUENCE standalone IS 'a sequence';
COMMENT ON TYPE types.mood IS 'an enum';
COMMENT ON TYPE types.address IS 'a composite';
COMMENT ON COLUMN types.address.street IS 'an attribute';
COMMENT ON DOMAIN types.positive IS 'a domain';
COMMENT ON CONSTRAINT positive_check ON DOMAIN types.positive IS 'a domain''s constraint';
