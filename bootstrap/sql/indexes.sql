-- Valid indexes of the given tables, with the constraint that each supports.
SELECT i.indexrelid::bigint,
       i.indrelid::bigint,
       n.nspname,
       x.relname,
       pg_catalog.pg_get_indexdef(i.indexrelid),
       ts.spcname,
       i.indisunique,
       coalesce((SELECT json_agg(json_build_array(a.attnum, a.attstattarget) ORDER BY a.attnum)
                   FROM pg_catalog.pg_attribute a
                  WHERE a.attrelid = i.indexrelid AND a.attstattarget >= 0), '[]')::text,
       coalesce((SELECT json_agg(e.extname ORDER BY e.extname)
                   FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
                  WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
                    AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'x'), '[]')::text,
       con.oid::bigint,
       con.conname,
       con.contype::text,
       con.condeferrable,
       con.condeferred,
       pg_catalog.pg_get_constraintdef(con.oid),
       con.contype = 'x' OR {period},
       x.relpages::bigint * current_setting('block_size')::bigint
  FROM pg_catalog.pg_index i
  JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = x.relnamespace
  LEFT JOIN pg_catalog.pg_tablespace ts ON ts.oid = x.reltablespace
  LEFT JOIN pg_catalog.pg_constraint con
    ON con.conindid = i.indexrelid AND con.conrelid = i.indrelid AND con.contype IN ('p', 'u', 'x')
 WHERE i.indrelid = ANY (%(tables)s)
   AND i.indisvalid AND i.indisready
