-- requires icu
CREATE COLLATION types.folding (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE types.folded (
    id int PRIMARY KEY, t text COLLATE types.folding, c char(5) COLLATE types.folding, ts text[] COLLATE types.folding
);
INSERT INTO types.folded VALUES (1, 'A', 'A', '{A}'), (2, 'a', 'a', '{a}'), (3, NULL, NULL, NULL), (4, 'Á', 'Á', '{Á}');
