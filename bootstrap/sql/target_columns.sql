-- Columns of the given relations, and whether a row cannot be without a value of it that nothing else gives.
SELECT n.nspname, c.relname, a.attname,
       pg_catalog.format_type(a.atttypid, a.atttypmod),
       {generated},
       (a.attnotnull OR t.typtype = 'd' AND t.typnotnull)
           AND NOT a.atthasdef AND a.attidentity = '' AND t.typdefault IS NULL
  FROM unnest(%(schemas)s::text[], %(names)s::text[]) AS wanted (schema, name)
  JOIN pg_catalog.pg_namespace n ON n.nspname = wanted.schema
  JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name
  JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
 ORDER BY c.oid, a.attnum
