-- What goes when these objects go: everything that depends on one of them, and whatever has a part that does, as a view has
-- its rule. Extensions and what belongs to them stay, as do the sequences that are spared.
WITH RECURSIVE left_out (classid, objid) AS (
    SELECT * FROM unnest(%(catalogs)s::text[]::oid[], %(objects)s::text[]::oid[])
    UNION
    SELECT next.classid, next.objid
      FROM left_out l
     CROSS JOIN LATERAL (
           SELECT d.classid, d.objid
             FROM pg_catalog.pg_depend d
            WHERE d.refclassid = l.classid AND d.refobjid = l.objid AND d.deptype IN ('n', 'a', 'i', 'P', 'S')
           UNION ALL
           SELECT d.refclassid, d.refobjid
             FROM pg_catalog.pg_depend d
            WHERE d.classid = l.classid AND d.objid = l.objid AND d.deptype = 'i') next
     WHERE next.classid <> 'pg_extension'::regclass
       AND NOT (next.classid = 'pg_class'::regclass AND next.objid = ANY (%(spared)s::text[]::oid[]))
       AND NOT EXISTS (
           SELECT FROM pg_catalog.pg_depend e
            WHERE e.classid = next.classid AND e.objid = next.objid AND e.deptype = 'e')
)
SELECT l.classid::bigint, l.objid::bigint,
       coalesce(what.type, ''), coalesce(what.identity, ''),
       n.nspname, c.relname, c.relkind::text
  FROM left_out l
 CROSS JOIN LATERAL pg_catalog.pg_identify_object(l.classid, l.objid, 0) AS what
  LEFT JOIN pg_catalog.pg_attrdef def ON l.classid = 'pg_attrdef'::regclass AND def.oid = l.objid
  LEFT JOIN pg_catalog.pg_constraint con
    ON l.classid = 'pg_constraint'::regclass AND con.oid = l.objid AND con.contype = 'c' AND con.conrelid <> 0
  LEFT JOIN pg_catalog.pg_trigger trigger
    ON l.classid = 'pg_trigger'::regclass AND trigger.oid = l.objid AND NOT trigger.tgisinternal
  LEFT JOIN pg_catalog.pg_policy policy ON l.classid = 'pg_policy'::regclass AND policy.oid = l.objid
  LEFT JOIN pg_catalog.pg_class c
    ON c.oid = CASE WHEN l.classid = 'pg_class'::regclass THEN l.objid
                    ELSE coalesce(def.adrelid, con.conrelid, trigger.tgrelid, policy.polrelid) END
  LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
