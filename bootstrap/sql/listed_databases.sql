SELECT oid::bigint, datname,
       CASE WHEN pg_catalog.has_database_privilege(oid, 'CONNECT') THEN pg_catalog.pg_database_size(oid) END
  FROM pg_catalog.pg_database
 WHERE datname NOT IN ('template0', 'template1') AND datallowconn
 ORDER BY 3 DESC NULLS LAST, 2
