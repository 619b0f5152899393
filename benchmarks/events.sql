-- psql -v rows=2000000: rows of seven types, three indexes; written to be the same in every run.
SET synchronous_commit = off;
CREATE TABLE events (
    id bigint PRIMARY KEY,
    created timestamptz NOT NULL,
    name text NOT NULL,
    payload jsonb NOT NULL,
    amount numeric NOT NULL,
    latitude float8 NOT NULL,
    longitude float8 NOT NULL
);
INSERT INTO events
SELECT
    i,
    timestamptz '2024-01-01 00:00:00+00' + i * interval '7 seconds',
    'event ' || md5(i::text),
    jsonb_build_object('user', i % 100000, 'kind', 'kind ' || i % 17, 'tags', jsonb_build_array(i % 3, i % 5)),
    (i % 1000003)::numeric / 100,
    sin(i),
    cos(i)
FROM generate_series(1, :rows) AS i;
CREATE INDEX events_created ON events (created);
CREATE INDEX events_name ON events (name);
VACUUM (ANALYZE) events;
