-- What is compared of what is left: where the database is, extensions, settings of the database, statistics, collations,
-- casts, operators, publications, event triggers, default grants, security labels: kind, object, property, value. Of
-- what an extension brought nothing.
SELECT 'database', '-', 'tablespace', t.spcname::text
  FROM pg_catalog.pg_database d JOIN pg_catalog.pg_tablespace t ON t.oid = d.dattablespace
 WHERE d.datname = current_database()
UNION ALL
SELECT 'extension', quote_ident(e.extname), p.property, p.value
  FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
 CROSS JOIN LATERAL (VALUES ('schema', n.nspname::text), ('version', e.extversion)) AS p (property, value)
UNION ALL
SELECT 'setting', format('%s %s', coalesce(quote_ident(r.rolname), '-'), split_part(c.setting, '=', 1)), 'value',
       substr(c.setting, strpos(c.setting, '=') + 1)
  FROM pg_catalog.pg_db_role_setting s
  LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
 CROSS JOIN LATERAL unnest(s.setconfig) AS c (setting)
 WHERE s.setdatabase = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())
UNION ALL
SELECT 'statistics', format('%I.%I', n.nspname, s.stxname), p.property, p.value
  FROM pg_catalog.pg_statistic_ext s
  JOIN pg_catalog.pg_namespace n ON n.oid = s.stxnamespace
 CROSS JOIN LATERAL (VALUES ('definition', pg_catalog.pg_get_statisticsobjdef(s.oid)),
       ('target', nullif(coalesce(to_jsonb(s) ->> 'stxstattarget', '-1'), '-1')),
       ('owner', pg_catalog.pg_get_userbyid(s.stxowner)::text),
       ('comment', pg_catalog.obj_description(s.oid, 'pg_statistic_ext'))) AS p (property, value)
 WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'pgcopydb')
UNION ALL
SELECT 'collation', format('%I.%I', n.nspname, l.collname), p.property, p.value
  FROM pg_catalog.pg_collation l JOIN pg_catalog.pg_namespace n ON n.oid = l.collnamespace
 CROSS JOIN LATERAL (VALUES
       ('definition', concat_ws(' ', to_jsonb(l) ->> 'collprovider', to_jsonb(l) ->> 'collcollate', to_jsonb(l) ->> 'collctype',
                 coalesce(to_jsonb(l) ->> 'colllocale', to_jsonb(l) ->> 'colliculocale'), to_jsonb(l) ->> 'collisdeterministic')),
       ('owner', pg_catalog.pg_get_userbyid(l.collowner)::text),
       ('comment', pg_catalog.obj_description(l.oid, 'pg_collation'))) AS p (property, value)
 WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'pgcopydb')
   AND NOT EXISTS (
       SELECT FROM pg_catalog.pg_depend d
        WHERE d.classid = 'pg_collation'::regclass AND d.objid = l.oid AND d.deptype = 'e')
UNION ALL
SELECT 'cast', format('%s AS %s', k.castsource::regtype, k.casttarget::regtype), 'definition',
       concat_ws(' ', k.castfunc::regprocedure, k.castcontext, k.castmethod)
  FROM pg_catalog.pg_cast k
 WHERE k.oid >= 16384
   AND NOT EXISTS (
       SELECT FROM pg_catalog.pg_depend d
        WHERE d.classid = 'pg_cast'::regclass AND d.objid = k.oid AND d.deptype = 'e')
UNION ALL
SELECT 'operator', o.oid::regoperator::text, p.property, p.value
  FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
 CROSS JOIN LATERAL (VALUES
       ('definition', concat_ws(' ', o.oprcode, o.oprresult::regtype, o.oprcanmerge, o.oprcanhash, nullif(o.oprcom, 0)::regoperator,
                                nullif(o.oprnegate, 0)::regoperator, nullif(o.oprrest, 0)::regproc, nullif(o.oprjoin, 0)::regproc)),
       ('owner', pg_catalog.pg_get_userbyid(o.oprowner)::text)) AS p (property, value)
 WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'pgcopydb')
   AND NOT EXISTS (
       SELECT FROM pg_catalog.pg_depend d
        WHERE d.classid = 'pg_operator'::regclass AND d.objid = o.oid AND d.deptype = 'e')
UNION ALL
SELECT 'publication', quote_ident(b.pubname), p.property, p.value
  FROM pg_catalog.pg_publication b
 CROSS JOIN LATERAL (VALUES
       ('publishes', concat_ws(' ', b.puballtables, b.pubinsert, b.pubupdate, b.pubdelete, to_jsonb(b) ->> 'pubtruncate',
                               to_jsonb(b) ->> 'pubviaroot')),
       ('owner', pg_catalog.pg_get_userbyid(b.pubowner)::text),
       ('columns', (SELECT string_agg(format('%s (%s)', r.prrelid::regclass,
                               (SELECT string_agg(a.attname, ', ' ORDER BY a.attname) FROM pg_catalog.pg_attribute a
                                 WHERE a.attrelid = r.prrelid
                                   AND a.attnum::text IN (SELECT jsonb_array_elements_text(to_jsonb(r) -> 'prattrs')))),
                               ', ' ORDER BY r.prrelid::regclass::text)
                      FROM pg_catalog.pg_publication_rel r
                     WHERE r.prpubid = b.oid AND to_jsonb(r) ->> 'prattrs' IS NOT NULL)),
       ('rows', (SELECT string_agg(format('%I.%I %s', v.schemaname, v.tablename, to_jsonb(v) ->> 'rowfilter'), ', '
                                   ORDER BY v.schemaname, v.tablename)
                   FROM pg_catalog.pg_publication_tables v
                  WHERE v.pubname = b.pubname AND to_jsonb(v) ->> 'rowfilter' IS NOT NULL)),
       ('tables', (SELECT string_agg(r.prrelid::regclass::text, ', ' ORDER BY r.prrelid::regclass::text) FROM pg_catalog.pg_publication_rel r WHERE r.prpubid = b.oid))
       ) AS p (property, value)
UNION ALL
SELECT 'event trigger', quote_ident(v.evtname), p.property, p.value
  FROM pg_catalog.pg_event_trigger v
 CROSS JOIN LATERAL (VALUES
       ('definition', concat_ws(' ', v.evtevent, v.evtfoid::regprocedure, v.evtenabled, array_to_string(v.evttags, ','))),
       ('owner', pg_catalog.pg_get_userbyid(v.evtowner)::text),
       ('comment', pg_catalog.obj_description(v.oid, 'pg_event_trigger'))) AS p (property, value)
UNION ALL
SELECT 'default grants', format('%s %s %s', pg_catalog.pg_get_userbyid(a.defaclrole), coalesce(quote_ident(n.nspname), '-'), a.defaclobjtype), 'grants',
       (SELECT string_agg(g, ', ' ORDER BY g) FROM (
            SELECT format('%s=%s%s', CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.pg_get_userbyid(x.grantee) END,
                          x.privilege_type, CASE WHEN x.is_grantable THEN '*' ELSE '' END)
              FROM pg_catalog.aclexplode(a.defaclacl) AS x WHERE x.privilege_type <> 'MAINTAIN') AS granted (g))
  FROM pg_catalog.pg_default_acl a LEFT JOIN pg_catalog.pg_namespace n ON n.oid = a.defaclnamespace
UNION ALL
SELECT format('security label of %s', l.objtype), format('%s.%I', l.objname, l.provider), 'label', l.label
  FROM pg_catalog.pg_seclabels l
 WHERE l.objtype NOT IN ('database', 'role', 'tablespace', 'subscription')
UNION ALL
SELECT 'security label of database', format('-.%I', l.provider), 'label', l.label
  FROM pg_catalog.pg_shseclabel l JOIN pg_catalog.pg_database d ON d.oid = l.objoid
 WHERE l.classoid = 'pg_database'::regclass AND d.datname = current_database()
