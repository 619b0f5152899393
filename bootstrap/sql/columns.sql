-- Columns of the given tables, and whether a value's binary form means the same on another server: it does for a built-in
-- type that is no name of an object (reg*), carries no oid of a user-defined type and has stable send and receive
-- functions. Last: whether writing a value as text runs no code that a user installed.
WITH RECURSIVE unwrapped (type, base) AS (
    SELECT t.oid, t.oid FROM pg_catalog.pg_type t
    UNION ALL
    SELECT u.type, t.typbasetype
      FROM unwrapped u JOIN pg_catalog.pg_type t ON t.oid = u.base
     WHERE t.typtype = 'd'
), safe (type) AS (
    SELECT u.type
      FROM unwrapped u
      JOIN pg_catalog.pg_type t ON t.oid = u.base
      LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
     WHERE t.typsend <> 0 AND t.typreceive <> 0
       AND t.typtype IN ('b', 'e')
       AND (t.typtype = 'e'
            OR t.oid < 16384 AND t.typname !~ '^_?(reg.*|tsvector|money|aclitem|refcursor|xml)$')
       AND (e.oid IS NULL OR e.oid < 16384 AND e.typtype = 'b')
)
SELECT a.attrelid::bigint,
       a.attnum,
       a.attname,
       pg_catalog.format_type(a.atttypid, a.atttypmod),
       {generated},
       a.attidentity::text,
       s.type IS NOT NULL,
       a.attnotnull,
       EXISTS (SELECT FROM unwrapped u JOIN pg_catalog.pg_type t ON t.oid = u.base
                WHERE u.type = a.atttypid AND (t.oid < 16384 OR t.typtype = 'e'))
  FROM pg_catalog.pg_attribute a
  LEFT JOIN safe s ON s.type = a.atttypid
 WHERE a.attrelid = ANY (%(tables)s)
   AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attrelid, a.attnum
