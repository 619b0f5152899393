-- One digest of the data of each of these large objects. No object is held whole.
WITH RECURSIVE chunk (oid, start, digest, length) AS (
    SELECT m.oid, 0::bigint, md5(d.data), length(d.data)
      FROM pg_catalog.pg_largeobject_metadata m
     CROSS JOIN LATERAL (SELECT pg_catalog.lo_get(m.oid, 0, 1048576) AS data OFFSET 0) AS d
     WHERE m.oid = ANY (%(oids)s::text[]::oid[])
    UNION ALL
    SELECT c.oid, c.start + 1048576, md5(d.data), length(d.data)
      FROM chunk c
     CROSS JOIN LATERAL (SELECT pg_catalog.lo_get(c.oid, c.start + 1048576, 1048576) AS data OFFSET 0) AS d
     WHERE c.length = 1048576
)
SELECT oid::bigint, md5(string_agg(digest, '' ORDER BY start)) FROM chunk GROUP BY oid
