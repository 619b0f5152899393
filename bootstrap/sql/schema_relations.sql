-- What is compared of tables, views, materialized views, sequences, foreign tables and composite types: kind, object, property, value. Of what an extension brought nothing.
SELECT CASE c.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table' WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view'
                      WHEN 'S' THEN 'sequence' WHEN 'f' THEN 'foreign table' ELSE 'composite type' END,
       format('%I.%I', n.nspname, c.relname), p.property, p.value
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_sequence s ON s.seqrelid = c.oid
  LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam
 CROSS JOIN LATERAL (VALUES
       ('owner', pg_catalog.pg_get_userbyid(c.relowner)::text),
       ('grants', (SELECT string_agg(g, ', ' ORDER BY g) FROM (
            SELECT format('%s=%s%s', CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.pg_get_userbyid(x.grantee) END,
                          x.privilege_type, CASE WHEN x.is_grantable THEN '*' ELSE '' END)
              FROM pg_catalog.aclexplode(CASE c.relkind WHEN 'c' THEN
                        (SELECT coalesce(t.typacl, pg_catalog.acldefault('T', t.typowner)) FROM pg_catalog.pg_type t WHERE t.oid = c.reltype)
                   ELSE coalesce(c.relacl, pg_catalog.acldefault(CASE c.relkind WHEN 'S' THEN 's'::"char" ELSE 'r'::"char" END, c.relowner)) END) AS x WHERE x.privilege_type <> 'MAINTAIN') AS granted (g))),
       ('comment', pg_catalog.obj_description(c.oid, 'pg_class')),
       ('persistence', c.relpersistence::text),
       ('access method', am.amname::text),
       -- None where the database is.
       ('tablespace', (SELECT t.spcname::text FROM pg_catalog.pg_tablespace t WHERE t.oid = c.reltablespace)),
       ('options', (SELECT string_agg(o, ', ' ORDER BY o) FROM unnest(c.reloptions) o)),
       ('replica identity', CASE WHEN c.relkind IN ('r', 'p') THEN c.relreplident::text END),
       ('row level security', CASE WHEN c.relkind IN ('r', 'p') THEN format('%s %s', c.relrowsecurity, c.relforcerowsecurity) END),
       ('partition key', CASE WHEN c.relkind = 'p' THEN pg_catalog.pg_get_partkeydef(c.oid) END),
       ('partition bound', pg_catalog.pg_get_expr(c.relpartbound, c.oid)),
       ('inherits', (SELECT string_agg(i.inhparent::regclass::text, ', ' ORDER BY i.inhseqno) FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid)),
       ('definition', CASE WHEN c.relkind IN ('v', 'm') THEN pg_catalog.pg_get_viewdef(c.oid) END),
       ('sequence', CASE WHEN c.relkind = 'S' THEN format('%s start %s increment %s min %s max %s cache %s cycle %s',
               s.seqtypid::regtype, s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcache, s.seqcycle) END),
       ('foreign server', (SELECT format('%I %s', v.srvname, (SELECT string_agg(o, ', ' ORDER BY o) FROM unnest(e.ftoptions) o))
                             FROM pg_catalog.pg_foreign_table e JOIN pg_catalog.pg_foreign_server v ON v.oid = e.ftserver
                            WHERE e.ftrelid = c.oid)),
       ('options of large values', (SELECT string_agg(o, ', ' ORDER BY o)
                                      FROM pg_catalog.pg_class t, unnest(t.reloptions) o WHERE t.oid = c.reltoastrelid)),
       ('owned by', (SELECT format('%s.%I', d.refobjid::regclass, a.attname)
                       FROM pg_catalog.pg_depend d
                       JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
                      WHERE c.relkind = 'S' AND d.classid = 'pg_class'::regclass AND d.objid = c.oid
                        AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') LIMIT 1))
       ) AS p (property, value)
 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f', 'c') AND c.relpersistence <> 't'
   AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'pgcopydb')
   AND NOT EXISTS (
       SELECT FROM pg_catalog.pg_depend d
        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
