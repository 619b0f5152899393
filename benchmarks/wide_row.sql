-- psql -v megabytes=300: one row whose text is that long, with nothing that compression could shorten.
SET synchronous_commit = off;
CREATE TABLE wide (id bigint PRIMARY KEY, body text);
ALTER TABLE wide ALTER COLUMN body SET STORAGE EXTERNAL;
INSERT INTO wide SELECT 1, string_agg(md5(i::text), '') FROM generate_series(1, :megabytes * 32768) AS i;
