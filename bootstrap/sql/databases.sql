-- Databases of the server, with what CREATE DATABASE has to be told to make another one like each. No size of one that
-- this role may not connect to. Grants: grantee (null for everybody), privilege, whether it may be passed on.
SELECT d.oid::bigint, d.datname,
       CASE WHEN d.datallowconn AND pg_catalog.has_database_privilege(d.oid, 'CONNECT')
            THEN pg_catalog.pg_database_size(d.oid) END,
       pg_catalog.pg_encoding_to_char(d.encoding), d.datcollate, d.datctype,
       coalesce(to_jsonb(d) ->> 'datlocprovider', 'c'),
       coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale', ''),
       coalesce(to_jsonb(d) ->> 'daticurules', ''),
       d.datconnlimit, r.rolname, t.spcname, d.datallowconn, d.datistemplate,
       pg_catalog.shobj_description(d.oid, 'pg_database'),
       CASE WHEN d.datacl IS NOT NULL THEN coalesce((
           SELECT jsonb_agg(jsonb_build_array(g.rolname, a.privilege_type, a.is_grantable))
             FROM pg_catalog.aclexplode(d.datacl) AS a
             LEFT JOIN pg_catalog.pg_roles g ON g.oid = a.grantee
       ), '[]') END
  FROM pg_catalog.pg_database d
  JOIN pg_catalog.pg_roles r ON r.oid = d.datdba
  JOIN pg_catalog.pg_tablespace t ON t.oid = d.dattablespace
 ORDER BY d.datname
