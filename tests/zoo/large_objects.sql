-- Large objects: empty, small, of several megabytes, sparse; with owners, grants and comments.
DO $$
DECLARE
    chunk bytea := (SELECT string_agg(sha512(i::text::bytea), '' ORDER BY i) FROM generate_series(1, 16384) AS i);
    fd int;
BEGIN
    PERFORM lo_create(4200000001);
    PERFORM lo_from_bytea(4200000002, 'small "one"'::bytea);
    PERFORM lo_from_bytea(4200000003, chunk || chunk || chunk || '\x00ff'::bytea);
    PERFORM lo_from_bytea(4200000004, repeat('z', 2048)::bytea);
    PERFORM lo_from_bytea(4200000005, (SELECT string_agg(set_byte('\x00'::bytea, 0, i), '' ORDER BY i) FROM generate_series(0, 255) AS i));
    PERFORM lo_create(4200000006);
    fd := lo_open(4200000006, 131072);
    PERFORM lo_lseek64(fd, 3000000, 0);
    PERFORM lowrite(fd, 'after a hole');
    PERFORM lo_close(fd);
END
$$;
ALTER LARGE OBJECT 4200000002 OWNER TO zoo_owner;
ALTER LARGE OBJECT 4200000004 OWNER TO "zoo odd""role'x";
GRANT SELECT ON LARGE OBJECT 4200000002, 4200000003 TO zoo_reader;
GRANT SELECT, UPDATE ON LARGE OBJECT 4200000005 TO PUBLIC;
GRANT UPDATE ON LARGE OBJECT 4200000001 TO "zoo odd""role'x" WITH GRANT OPTION;
REVOKE ALL ON LARGE OBJECT 4200000004 FROM "zoo odd""role'x";
COMMENT ON LARGE OBJECT 4200000001 IS 'an empty one';
COMMENT ON LARGE OBJECT 4200000003 IS E'it''s "large"\nand \\ odd';
-- As an application refers to them.
CREATE TABLE zoo.attachments (id int PRIMARY KEY, content oid);
INSERT INTO zoo.attachments VALUES (1, 4200000002), (2, 4200000003), (3, NULL);
