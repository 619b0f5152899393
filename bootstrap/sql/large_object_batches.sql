SELECT batch + 1, min(oid)::bigint, max(oid)::bigint, count(*)
  FROM (SELECT oid, (row_number() OVER (ORDER BY oid) - 1) / %(size)s AS batch
          FROM pg_catalog.pg_largeobject_metadata) AS numbered (oid, batch)
 GROUP BY batch
 ORDER BY batch
