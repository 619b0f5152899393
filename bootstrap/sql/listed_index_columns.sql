-- Columns of each index, those that are expressions without a name.
SELECT i.indexrelid::bigint,
       pg_catalog.string_agg(a.attname, ',' ORDER BY key.number)
  FROM pg_catalog.pg_index i
 CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS key (attnum, number)
  LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = key.attnum AND key.attnum <> 0
 WHERE i.indexrelid = ANY (%s::text[]::oid[])
 GROUP BY 1
