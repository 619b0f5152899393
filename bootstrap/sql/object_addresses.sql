-- Addresses of objects, for those whose existence says that their archive entry was restored. Not so: the rule _RETURN,
-- which a view that pg_dump breaks out of a cycle has from the beginning, and the triggers of partitions, which come with
-- the parent's and whose entries only enable or disable them (tgparentid: since 13).
SELECT o.catalog::bigint, o.object::bigint, a.type, a.object_names, a.object_args
  FROM unnest(%(catalogs)s::text[]::oid[], %(objects)s::text[]::oid[]) AS o (catalog, object),
       LATERAL pg_catalog.pg_identify_object_as_address(o.catalog, o.object, 0) AS a
 WHERE a.type IS NOT NULL
   AND NOT (a.type = 'rule' AND a.object_names[array_upper(a.object_names, 1)] = '_RETURN')
   AND NOT EXISTS (
       SELECT FROM pg_catalog.pg_trigger t
        WHERE o.catalog = 'pg_trigger'::regclass AND t.oid = o.object
          AND coalesce((to_jsonb(t) ->> 'tgparentid')::oid, 0) <> 0)
