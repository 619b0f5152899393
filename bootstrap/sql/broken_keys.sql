-- Foreign keys to tables whose rows stay behind, of tables whose rows do not.
SELECT con.oid::bigint, n.nspname, c.relname, con.conname, pg_catalog.pg_get_constraintdef(con.oid)
  FROM pg_catalog.pg_constraint con
  JOIN pg_catalog.pg_class c ON c.oid = con.conrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE con.contype = 'f' AND con.confrelid = ANY (%(tables)s::text[]::oid[])
   AND NOT con.conrelid = ANY (%(tables)s::text[]::oid[])
