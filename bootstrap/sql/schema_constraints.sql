-- What is compared of constraints, of tables and of domains; NOT NULL is a property of a column: kind, object, property, value. Of what an extension brought nothing.
SELECT 'constraint', format('%s.%I', CASE WHEN c.oid IS NULL THEN con.contypid::regtype::text ELSE quote_ident(n.nspname) || '.' || quote_ident(c.relname) END, con.conname), p.property, p.value
  FROM pg_catalog.pg_constraint con
  JOIN pg_catalog.pg_namespace n ON n.oid = con.connamespace
  LEFT JOIN pg_catalog.pg_class c ON c.oid = con.conrelid
 CROSS JOIN LATERAL (VALUES
       ('definition', pg_catalog.pg_get_constraintdef(con.oid)),
       ('comment', pg_catalog.obj_description(con.oid, 'pg_constraint'))) AS p (property, value)
 -- Foreign keys to partitions come with those to their parents, and each release has its own names for them.
 WHERE con.contype NOT IN ('n', 't') AND NOT (con.contype = 'f' AND con.conparentid <> 0) AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'pgcopydb')
   AND NOT EXISTS (
       SELECT FROM pg_catalog.pg_depend d
        WHERE d.classid = 'pg_class'::regclass AND d.objid = con.conrelid AND d.deptype = 'e')
