-- What is compared of text search objects, of operator classes and families, conversions, languages, transforms and
-- access methods: kind, object, property, value. Of what an extension brought nothing.
WITH found (catalog, oid, schema, kind, name, property, value) AS (
    SELECT 'pg_ts_config'::regclass, c.oid, c.cfgnamespace, 'text search configuration', c.cfgname, p.property, p.value
      FROM pg_catalog.pg_ts_config c
     CROSS JOIN LATERAL (VALUES
           ('definition', format('%s: %s',
                (SELECT format('%I.%I', n.nspname, r.prsname) FROM pg_catalog.pg_ts_parser r
                   JOIN pg_catalog.pg_namespace n ON n.oid = r.prsnamespace WHERE r.oid = c.cfgparser),
                (SELECT string_agg(format('%s %s', m.maptokentype, m.mapdict::regdictionary), ', ' ORDER BY m.maptokentype, m.mapseqno)
                   FROM pg_catalog.pg_ts_config_map m WHERE m.mapcfg = c.oid))),
           ('owner', pg_catalog.pg_get_userbyid(c.cfgowner)::text),
           ('comment', pg_catalog.obj_description(c.oid, 'pg_ts_config'))) AS p (property, value)
    UNION ALL
    SELECT 'pg_ts_dict'::regclass, d.oid, d.dictnamespace, 'text search dictionary', d.dictname, p.property, p.value
      FROM pg_catalog.pg_ts_dict d
     CROSS JOIN LATERAL (VALUES
           ('definition', format('%s: %s',
                (SELECT format('%I.%I', n.nspname, t.tmplname) FROM pg_catalog.pg_ts_template t
                   JOIN pg_catalog.pg_namespace n ON n.oid = t.tmplnamespace WHERE t.oid = d.dicttemplate), d.dictinitoption)),
           ('owner', pg_catalog.pg_get_userbyid(d.dictowner)::text),
           ('comment', pg_catalog.obj_description(d.oid, 'pg_ts_dict'))) AS p (property, value)
    UNION ALL
    SELECT 'pg_ts_parser'::regclass, r.oid, r.prsnamespace, 'text search parser', r.prsname, 'definition',
           concat_ws(' ', r.prsstart, r.prstoken, r.prsend, r.prsheadline, r.prslextype)
      FROM pg_catalog.pg_ts_parser r
    UNION ALL
    SELECT 'pg_ts_template'::regclass, t.oid, t.tmplnamespace, 'text search template', t.tmplname, 'definition',
           concat_ws(' ', t.tmplinit, t.tmpllexize)
      FROM pg_catalog.pg_ts_template t
    UNION ALL
    SELECT 'pg_opclass'::regclass, o.oid, o.opcnamespace, format('operator class of %s', a.amname), o.opcname, p.property, p.value
      FROM pg_catalog.pg_opclass o
      JOIN pg_catalog.pg_am a ON a.oid = o.opcmethod
     CROSS JOIN LATERAL (VALUES
           ('definition', concat_ws(' ', o.opcintype::regtype, CASE WHEN o.opcdefault THEN 'default' END,
                nullif(o.opckeytype, 0)::regtype, (SELECT f.opfname FROM pg_catalog.pg_opfamily f WHERE f.oid = o.opcfamily))),
           ('owner', pg_catalog.pg_get_userbyid(o.opcowner)::text)) AS p (property, value)
    UNION ALL
    SELECT 'pg_opfamily'::regclass, f.oid, f.opfnamespace, format('operator family of %s', a.amname), f.opfname, p.property, p.value
      FROM pg_catalog.pg_opfamily f
      JOIN pg_catalog.pg_am a ON a.oid = f.opfmethod
     CROSS JOIN LATERAL (VALUES
           ('operators', (SELECT string_agg(format('%s %s', m.amopstrategy, m.amopopr::regoperator), ', '
                                            ORDER BY m.amopstrategy, m.amopopr::regoperator::text)
                            FROM pg_catalog.pg_amop m WHERE m.amopfamily = f.oid)),
           ('functions', (SELECT string_agg(format('%s %s', m.amprocnum, m.amproc::regprocedure), ', '
                                            ORDER BY m.amprocnum, m.amproc::regprocedure::text)
                            FROM pg_catalog.pg_amproc m WHERE m.amprocfamily = f.oid)),
           ('owner', pg_catalog.pg_get_userbyid(f.opfowner)::text)) AS p (property, value)
    UNION ALL
    SELECT 'pg_conversion'::regclass, c.oid, c.connamespace, 'conversion', c.conname, p.property, p.value
      FROM pg_catalog.pg_conversion c
     CROSS JOIN LATERAL (VALUES
           ('definition', concat_ws(' ', pg_catalog.pg_encoding_to_char(c.conforencoding),
                pg_catalog.pg_encoding_to_char(c.contoencoding), c.conproc, CASE WHEN c.condefault THEN 'default' END)),
           ('owner', pg_catalog.pg_get_userbyid(c.conowner)::text)) AS p (property, value)
    UNION ALL
    SELECT 'pg_language'::regclass, l.oid, 0, 'language', l.lanname, p.property, p.value
      FROM pg_catalog.pg_language l
     CROSS JOIN LATERAL (VALUES
           ('definition', concat_ws(' ', l.lanpltrusted, nullif(l.lanplcallfoid, 0)::regproc, nullif(l.laninline, 0)::regproc,
                nullif(l.lanvalidator, 0)::regproc)),
           ('owner', pg_catalog.pg_get_userbyid(l.lanowner)::text)) AS p (property, value)
     WHERE l.lanispl
    UNION ALL
    SELECT 'pg_am'::regclass, a.oid, 0, 'access method', a.amname, 'definition', concat_ws(' ', a.amtype, a.amhandler)
      FROM pg_catalog.pg_am a
    UNION ALL
    SELECT 'pg_transform'::regclass, t.oid, 0, 'transform', format('%s %s', t.trftype::regtype, l.lanname)::name, 'definition',
           concat_ws(' ', nullif(t.trffromsql, 0)::regproc, nullif(t.trftosql, 0)::regproc)
      FROM pg_catalog.pg_transform t JOIN pg_catalog.pg_language l ON l.oid = t.trflang
)
SELECT f.kind, CASE WHEN n.oid IS NULL THEN f.name::text ELSE format('%I.%I', n.nspname, f.name) END, f.property, f.value
  FROM found f
  LEFT JOIN pg_catalog.pg_namespace n ON n.oid = f.schema
 WHERE f.oid >= 16384
   AND (n.oid IS NULL OR n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'pgcopydb'))
   AND NOT EXISTS (
       SELECT FROM pg_catalog.pg_depend d WHERE d.classid = f.catalog AND d.objid = f.oid AND d.deptype = 'e')
