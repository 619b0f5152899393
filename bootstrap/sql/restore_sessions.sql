-- Ends what is left of this run's pg_restore on the target; one row for each session that is still there.
SELECT pg_catalog.pg_terminate_backend(a.pid)
  FROM pg_catalog.pg_stat_activity a
 WHERE a.datname = current_database()
   AND a.pid <> pg_catalog.pg_backend_pid()
   AND position(%(title)s in a.application_name) > 0
