-- Names of system catalogs by their numbers, which are the same on every server that has them.
SELECT c.oid::bigint, c.relname
  FROM pg_catalog.pg_class c
 WHERE c.oid = ANY (%(catalogs)s::text[]::oid[])
   AND c.relnamespace = 'pg_catalog'::regnamespace AND c.relkind = 'r'
