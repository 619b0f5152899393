-- Tablespaces of the server: whether this role may create in each, and whether it is the database's default.
SELECT t.spcname, pg_catalog.has_tablespace_privilege(t.oid, 'CREATE'), t.oid = d.dattablespace
  FROM pg_catalog.pg_tablespace t
  JOIN pg_catalog.pg_database d ON d.datname = current_database()
 WHERE t.spcname <> 'pg_global'
