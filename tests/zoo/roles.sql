-- The roles that own the zoo's objects and are granted rights on them. Roles belong to a cluster: run this on both.
DO $$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['zoo_owner', 'zoo_reader', 'zoo odd"role''x'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I', role_name);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
    END LOOP;
END
$$;
