-- Owners, grants, default privileges, and the database's own settings.
SET search_path = zoo, pg_catalog;

ALTER TABLE keyed OWNER TO zoo_owner;
ALTER TABLE measures OWNER TO zoo_owner;
ALTER TABLE measures_south OWNER TO zoo_owner;
ALTER TABLE identities OWNER TO zoo_owner;
ALTER SEQUENCE standalone OWNER TO zoo_owner;
ALTER VIEW plain OWNER TO zoo_owner;
ALTER MATERIALIZED VIEW summary OWNER TO zoo_owner;
ALTER TYPE types.mood OWNER TO "zoo odd""role'x";
ALTER DOMAIN types.positive OWNER TO zoo_owner;
ALTER FUNCTION add_tax OWNER TO zoo_owner;
ALTER AGGREGATE total_of(numeric) OWNER TO zoo_owner;
ALTER OPERATOR === (types.address, types.address) OWNER TO zoo_owner;
ALTER TEXT SEARCH CONFIGURATION search OWNER TO zoo_owner;
ALTER COLLATION bytewise OWNER TO zoo_owner;
ALTER PUBLICATION empty_one OWNER TO zoo_owner;
ALTER TABLE checked OWNER TO "zoo odd""role'x";

GRANT USAGE ON SCHEMA zoo TO zoo_reader, "zoo odd""role'x";
GRANT CREATE ON SCHEMA public TO zoo_owner;
COMMENT ON SCHEMA public IS 'our comment on public';
GRANT SELECT ON keyed TO zoo_reader;
GRANT SELECT, INSERT, UPDATE ON checked TO zoo_reader WITH GRANT OPTION;
SET ROLE zoo_reader;
GRANT SELECT ON zoo.checked TO zoo_owner;
RESET ROLE;
GRANT SELECT (a, b), UPDATE (b) ON identity_full, keyed TO "zoo odd""role'x";
GRANT SELECT ON secret, top_secret TO PUBLIC;
GRANT ALL ON large TO zoo_owner;
REVOKE SELECT ON large FROM postgres;
GRANT USAGE, SELECT ON SEQUENCE standalone, not_called TO zoo_reader;
GRANT EXECUTE ON FUNCTION add_tax TO zoo_reader;
REVOKE EXECUTE ON FUNCTION with_settings FROM PUBLIC;
REVOKE ALL ON PROCEDURE do_nothing FROM PUBLIC, postgres;
GRANT USAGE ON TYPE types.mood TO zoo_reader;
REVOKE USAGE ON DOMAIN types.word FROM PUBLIC;
GRANT USAGE ON FOREIGN DATA WRAPPER zoo_nothing TO zoo_owner;
GRANT USAGE ON FOREIGN SERVER files TO zoo_reader;
GRANT SELECT ON out_of_reach, plain, summary TO zoo_reader;
REVOKE USAGE ON LANGUAGE plpgsql FROM PUBLIC;
GRANT USAGE ON LANGUAGE plpgsql TO zoo_owner, zoo_reader;
-- On what every database has from the start, as managed services do.
REVOKE EXECUTE ON FUNCTION pg_catalog.pg_sleep(double precision) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_sleep(double precision) TO zoo_reader;
GRANT SELECT ON pg_catalog.pg_authid TO zoo_owner;
GRANT SELECT (rolname) ON pg_catalog.pg_authid TO zoo_reader;
-- On what belongs to an extension.
GRANT EXECUTE ON FUNCTION ext.similarity(text, text) TO zoo_reader;
REVOKE EXECUTE ON FUNCTION ext.similarity(text, text) FROM PUBLIC;

ALTER DEFAULT PRIVILEGES FOR ROLE zoo_owner IN SCHEMA zoo GRANT SELECT ON TABLES TO zoo_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE zoo_owner IN SCHEMA zoo GRANT USAGE ON SEQUENCES TO "zoo odd""role'x" WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES FOR ROLE zoo_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT USAGE ON TYPES TO zoo_reader;
ALTER DEFAULT PRIVILEGES GRANT USAGE ON SCHEMAS TO zoo_reader;

-- Most of these change how a value looks as text in a session that does not say otherwise.
DO $$
DECLARE
    setting text;
BEGIN
    FOREACH setting IN ARRAY ARRAY[
        'ALTER DATABASE %I SET datestyle = ''SQL, DMY''',
        'ALTER DATABASE %I SET intervalstyle = ''sql_standard''',
        'ALTER DATABASE %I SET extra_float_digits = -3',
        'ALTER DATABASE %I SET bytea_output = ''escape''',
        'ALTER DATABASE %I SET timezone = ''Asia/Kathmandu''',
        'ALTER DATABASE %I SET application_name = ''it''''s "odd"''',
        'ALTER DATABASE %I SET search_path = "$user", "odd ""schema""", zoo, zoo_path, public',
        'ALTER DATABASE %I SET "zoo.custom" = ''x=y, z''',
        'ALTER DATABASE %I SET statement_timeout = ''10min''',
        'ALTER ROLE zoo_reader IN DATABASE %I SET work_mem = ''9MB''',
        'ALTER ROLE zoo_reader IN DATABASE %I SET search_path = zoo, types',
        'ALTER ROLE "zoo odd""role''x" IN DATABASE %I SET "zoo.custom" = ''it''''s %%'''
    ] LOOP
        EXECUTE format(setting, current_database());
    END LOOP;
END
$$;
