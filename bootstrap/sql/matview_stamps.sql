-- What changes when a materialized view is refreshed: its file, or with CONCURRENTLY what the server counts of its rows.
SELECT c.oid::bigint,
       concat_ws(':', c.relfilenode, pg_catalog.pg_stat_get_tuples_inserted(c.oid),
                 pg_catalog.pg_stat_get_tuples_updated(c.oid), pg_catalog.pg_stat_get_tuples_deleted(c.oid)),
       c.relispopulated
  FROM pg_catalog.pg_class c
 WHERE c.relkind = 'm'
