-- What is compared of columns: kind, object, property, value. Of what an extension brought nothing.
SELECT 'column', format('%I.%I.%I', n.nspname, c.relname, a.attname), p.property, p.value
  FROM pg_catalog.pg_attribute a
  JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
  LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
  LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation AND a.attcollation <> t.typcollation
 CROSS JOIN LATERAL (VALUES
       ('type', pg_catalog.format_type(a.atttypid, a.atttypmod)),
       ('not null', a.attnotnull::text),
       ('default', pg_catalog.pg_get_expr(d.adbin, d.adrelid)),
       -- From 17 on partitions have their parents' identity.
       ('identity', CASE WHEN NOT c.relispartition THEN a.attidentity::text END),
       ('generated', to_jsonb(a) ->> 'attgenerated'),
       ('collation', l.collname::text),
       ('storage', CASE WHEN a.attstorage <> t.typstorage THEN a.attstorage::text END),
       ('compression', nullif(to_jsonb(a) ->> 'attcompression', '')),
       ('statistics', nullif(coalesce(to_jsonb(a) ->> 'attstattarget', '-1'), '-1')),
       ('options', (SELECT string_agg(o, ', ' ORDER BY o) FROM unnest(a.attoptions || a.attfdwoptions) o)),
       ('grants', (SELECT string_agg(g, ', ' ORDER BY g) FROM (
            SELECT format('%s=%s%s', CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.pg_get_userbyid(x.grantee) END,
                          x.privilege_type, CASE WHEN x.is_grantable THEN '*' ELSE '' END)
              FROM pg_catalog.aclexplode(a.attacl) AS x WHERE x.privilege_type <> 'MAINTAIN') AS granted (g))),
       ('comment', pg_catalog.col_description(c.oid, a.attnum))) AS p (property, value)
 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c') AND c.relpersistence <> 't' AND a.attnum > 0 AND NOT a.attisdropped
   AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'pgcopydb')
   AND NOT EXISTS (
       SELECT FROM pg_catalog.pg_depend d
        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
