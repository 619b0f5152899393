SELECT DISTINCT t.spcname
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_tablespace t ON t.oid = c.reltablespace
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'i', 'm', 'p', 'I') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
