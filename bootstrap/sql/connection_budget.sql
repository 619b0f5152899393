-- Connections that this role can still open, and locks that one transaction may hold.
SELECT current_setting('max_connections')::int
       - CASE WHEN current_setting('is_superuser') = 'on' THEN 0
              ELSE current_setting('superuser_reserved_connections')::int END
       - (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE backend_type = 'client backend')::int + 1,
       current_setting('max_locks_per_transaction')::int
       * (current_setting('max_connections')::int + current_setting('max_prepared_transactions')::int)
