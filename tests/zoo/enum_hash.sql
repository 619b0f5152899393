-- Rows hashed by an enum's OIDs, which are others on another server: a row may belong to another partition there.
CREATE SCHEMA zoo_hash;
CREATE TYPE zoo_hash.colour AS ENUM ('red', 'green', 'blue', 'black', 'white', 'grey', 'pink', 'cyan');
CREATE TABLE zoo_hash.things (c zoo_hash.colour, n int) PARTITION BY HASH (c);
CREATE TABLE zoo_hash.things_0 PARTITION OF zoo_hash.things FOR VALUES WITH (MODULUS 3, REMAINDER 0);
CREATE TABLE zoo_hash.things_1 PARTITION OF zoo_hash.things FOR VALUES WITH (MODULUS 3, REMAINDER 1);
CREATE TABLE zoo_hash.things_2 PARTITION OF zoo_hash.things FOR VALUES WITH (MODULUS 3, REMAINDER 2);
INSERT INTO zoo_hash.things SELECT c, n FROM unnest(enum_range(NULL::zoo_hash.colour)) AS c, generate_series(1, 10) AS n;
