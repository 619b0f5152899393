-- requires lz4
CREATE SCHEMA zoo_lz4;
CREATE TABLE zoo_lz4.compressed (id int PRIMARY KEY, t text COMPRESSION lz4, p text COMPRESSION pglz);
INSERT INTO zoo_lz4.compressed SELECT i, repeat(i::text, 5000), repeat(i::text, 5000) FROM generate_series(1, 10) AS i;
