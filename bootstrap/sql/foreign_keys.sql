-- Foreign keys that can be added NOT VALID and validated later. Those of and to partitioned tables cannot be, on every server,
-- and one that the source has not validated is added as it is anyway.
SELECT con.oid::bigint, n.nspname, c.relname, con.conname, pg_catalog.pg_get_constraintdef(con.oid), c.relpages
  FROM pg_catalog.pg_constraint con
  JOIN pg_catalog.pg_class c ON c.oid = con.conrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_class other ON other.oid = con.confrelid
 WHERE con.contype = 'f' AND con.convalidated AND c.relkind = 'r' AND other.relkind = 'r'
   AND coalesce((to_jsonb(con) ->> 'conparentid')::bigint, 0) = 0
