-- What the statements that fill the tables call; for one session. The same key and salt always give the same answer.
CREATE FUNCTION pg_temp.below(n bigint, key bigint, salt int) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
    'SELECT (hashint8extended(key, salt::bigint) & 9223372036854775807) % n';
CREATE FUNCTION pg_temp.pick(choices text[], key bigint, salt int) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
    'SELECT choices[1 + (hashint8extended(key, salt::bigint) & 9223372036854775807) % cardinality(choices)]';
CREATE FUNCTION pg_temp.scaled(n int) RETURNS int LANGUAGE sql STABLE AS
    $$ SELECT greatest(1, (n * current_setting('shop.scale')::float8)::int) $$;
