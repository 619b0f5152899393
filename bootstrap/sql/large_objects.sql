-- Large objects of a range with owner, comment and grants as [[grantee, privilege, grantable], ...]; the grantee is null for
-- PUBLIC. Grants are null where nobody ever changed the default.
SELECT m.oid::bigint,
       pg_catalog.pg_get_userbyid(m.lomowner),
       pg_catalog.obj_description(m.oid, 'pg_largeobject'),
       CASE WHEN m.lomacl IS NOT NULL THEN coalesce((
            SELECT json_agg(json_build_array(r.rolname, a.privilege_type, a.is_grantable))
              FROM pg_catalog.aclexplode(m.lomacl) a
              LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee
             WHERE a.grantee = 0 OR r.oid IS NOT NULL), '[]') END
  FROM pg_catalog.pg_largeobject_metadata m
 WHERE m.oid BETWEEN %s AND %s
 ORDER BY m.oid
