-- What of users needs each of the given extensions, the first few described: columns, indexes, functions, views...
WITH member AS (
    SELECT e.extname, m.classid, m.objid
      FROM pg_catalog.pg_extension e
      JOIN pg_catalog.pg_depend m
        ON m.refclassid = 'pg_extension'::regclass AND m.refobjid = e.oid AND m.deptype = 'e'
     WHERE e.extname = ANY (%(names)s)
), belonging AS (
    SELECT * FROM member
    UNION
    -- The array type of a type, for example.
    SELECT member.extname, d.classid, d.objid
      FROM member
      JOIN pg_catalog.pg_depend d
        ON d.refclassid = member.classid AND d.refobjid = member.objid AND d.deptype = 'i'
), use AS (
    SELECT b.extname, d.classid, d.objid, d.objsubid,
           row_number() OVER (PARTITION BY b.extname ORDER BY d.classid, d.objid, d.objsubid) AS number,
           count(*) OVER (PARTITION BY b.extname) AS uses
      FROM belonging b
      JOIN pg_catalog.pg_depend d
        ON d.refclassid = b.classid AND d.refobjid = b.objid AND d.deptype IN ('n', 'a')
     WHERE d.classid <> 'pg_extension'::regclass
       AND NOT EXISTS (
           SELECT FROM belonging own WHERE own.classid = d.classid AND own.objid = d.objid)
       AND NOT EXISTS (
           SELECT FROM pg_catalog.pg_depend e WHERE e.classid = d.classid AND e.objid = d.objid AND e.deptype = 'e')
)
SELECT extname, max(uses),
       array_agg(pg_catalog.pg_describe_object(classid, objid, objsubid) ORDER BY number)
  FROM use
 WHERE number <= 3
 GROUP BY extname
