-- psql -v tables=10000: tables of ten rows, each with a primary key and an index.
SET synchronous_commit = off;
\o /dev/null
SELECT format(
    'CREATE TABLE small_%1$s (id bigint, name text NOT NULL, amount numeric);'
    'INSERT INTO small_%1$s SELECT i, md5((i * %1$s)::text), i * 1.25 FROM generate_series(1, 10) AS i;'
    'ALTER TABLE small_%1$s ADD PRIMARY KEY (id);'
    'CREATE INDEX small_%1$s_name ON small_%1$s (name);',
    to_char(n, 'FM00000')
)
FROM generate_series(1, :tables) AS n
\gexec
VACUUM (ANALYZE);
