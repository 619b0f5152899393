-- What each domain is made of.
SELECT pg_catalog.format_type(t.oid, NULL), pg_catalog.format_type(t.typbasetype, t.typtypmod)
  FROM pg_catalog.pg_type t
 WHERE t.typtype = 'd' AND t.typnamespace <> 'information_schema'::regnamespace
