-- Schemas and extensions that stand on the target, with the owner where an archive entry would set it.
SELECT 'schema', n.nspname, pg_catalog.pg_get_userbyid(n.nspowner)
  FROM pg_catalog.pg_namespace n
 WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
UNION ALL
SELECT 'extension', e.extname, pg_catalog.pg_get_userbyid(e.extowner)
  FROM pg_catalog.pg_extension e
