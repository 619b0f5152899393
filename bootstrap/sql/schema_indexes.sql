-- What is compared of indexes: kind, object, property, value. Of what an extension brought nothing.
SELECT 'index', format('%I.%I', n.nspname, x.relname), p.property, p.value
  FROM pg_catalog.pg_index i
  JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
  JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = x.relnamespace
 CROSS JOIN LATERAL (VALUES
       ('definition', pg_catalog.pg_get_indexdef(i.indexrelid)),
       ('tablespace', (SELECT t.spcname::text FROM pg_catalog.pg_tablespace t WHERE t.oid = x.reltablespace)),
       ('valid', i.indisvalid::text),
       ('replica identity', i.indisreplident::text),
       ('clustered', i.indisclustered::text),
       ('attached to', (SELECT h.inhparent::regclass::text FROM pg_catalog.pg_inherits h WHERE h.inhrelid = x.oid)),
       ('statistics', (SELECT string_agg(format('%s: %s', a.attnum, a.attstattarget), ', ' ORDER BY a.attnum)
                         FROM pg_catalog.pg_attribute a WHERE a.attrelid = x.oid AND a.attstattarget >= 0)),
       ('comment', pg_catalog.obj_description(x.oid, 'pg_class'))) AS p (property, value)
 -- Nobody copies an index that is not valid.
 WHERE (i.indisvalid OR c.relkind = 'p') AND c.relpersistence <> 't' AND c.relkind <> 't' AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'pgcopydb')
   AND NOT EXISTS (
       SELECT FROM pg_catalog.pg_depend d
        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
