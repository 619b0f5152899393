-- requires icu
CREATE SCHEMA zoo_icu;
CREATE COLLATION zoo_icu.ignore_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
COMMENT ON COLLATION zoo_icu.ignore_case IS 'a = A';
CREATE TABLE zoo_icu.words (w text COLLATE zoo_icu.ignore_case PRIMARY KEY, g text COLLATE "de-x-icu");
CREATE INDEX ON zoo_icu.words (g);
INSERT INTO zoo_icu.words VALUES ('a', 'ä'), ('B', 'z'), ('ß', 'A');
