-- What is compared of triggers, rules and policies: kind, object, property, value. Of what an extension brought nothing.
SELECT 'trigger', format('%I.%I.%I', n.nspname, c.relname, t.tgname), p.property, p.value
  FROM pg_catalog.pg_trigger t
  JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 CROSS JOIN LATERAL (VALUES ('definition', pg_catalog.pg_get_triggerdef(t.oid)), ('enabled', t.tgenabled::text),
       ('comment', pg_catalog.obj_description(t.oid, 'pg_trigger'))) AS p (property, value)
 WHERE NOT t.tgisinternal AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'pgcopydb')
   AND NOT EXISTS (
       SELECT FROM pg_catalog.pg_depend d
        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
UNION ALL
SELECT 'rule', format('%I.%I.%I', n.nspname, c.relname, r.rulename), p.property, p.value
  FROM pg_catalog.pg_rewrite r
  JOIN pg_catalog.pg_class c ON c.oid = r.ev_class
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 CROSS JOIN LATERAL (VALUES ('definition', pg_catalog.pg_get_ruledef(r.oid)), ('enabled', r.ev_enabled::text),
       ('comment', pg_catalog.obj_description(r.oid, 'pg_rewrite'))) AS p (property, value)
 WHERE r.rulename <> '_RETURN' AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'pgcopydb')
   AND NOT EXISTS (
       SELECT FROM pg_catalog.pg_depend d
        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
UNION ALL
SELECT 'policy', format('%I.%I.%I', n.nspname, c.relname, o.polname), p.property, p.value
  FROM pg_catalog.pg_policy o
  JOIN pg_catalog.pg_class c ON c.oid = o.polrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 CROSS JOIN LATERAL (VALUES
       ('command', o.polcmd::text), ('permissive', o.polpermissive::text),
       ('roles', (SELECT string_agg(r, ', ' ORDER BY r) FROM (
            SELECT CASE WHEN x = 0 THEN 'PUBLIC' ELSE pg_catalog.pg_get_userbyid(x) END FROM unnest(o.polroles) x) AS roles (r))),
       ('using', pg_catalog.pg_get_expr(o.polqual, o.polrelid)),
       ('check', pg_catalog.pg_get_expr(o.polwithcheck, o.polrelid)),
       ('comment', pg_catalog.obj_description(o.oid, 'pg_policy'))) AS p (property, value)
 WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'pgcopydb')
