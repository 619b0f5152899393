-- Sequences that a table owns which is left out, and that the default of a table takes its values from which is not;
-- but for those whose schema is left out.
SELECT DISTINCT owned.objid::bigint
  FROM pg_catalog.pg_depend owned
  JOIN pg_catalog.pg_class s ON s.oid = owned.objid AND s.relkind = 'S'
  JOIN pg_catalog.pg_depend used
    ON used.classid = 'pg_attrdef'::regclass AND used.refclassid = 'pg_class'::regclass AND used.refobjid = s.oid
  JOIN pg_catalog.pg_attrdef def ON def.oid = used.objid
 WHERE owned.classid = 'pg_class'::regclass AND owned.refclassid = 'pg_class'::regclass AND owned.deptype = 'a'
   AND owned.refobjid = ANY (%(tables)s::text[]::oid[])
   AND NOT def.adrelid = ANY (%(tables)s::text[]::oid[])
   AND NOT s.relnamespace = ANY (%(schemas)s::text[]::oid[])
