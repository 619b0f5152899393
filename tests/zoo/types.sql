-- One table for each family of built-in types, with the values at its edges.
SET timezone = 'UTC';
CREATE SCHEMA types;
SET search_path = types, pg_catalog;

CREATE TABLE integers (id int PRIMARY KEY, i2 int2, i4 int4, i8 int8);
INSERT INTO integers VALUES
    (1, -32768, -2147483648, -9223372036854775808),
    (2, 32767, 2147483647, 9223372036854775807),
    (3, 0, 0, 9007199254740993),
    (4, NULL, NULL, NULL);

CREATE TABLE numerics (
    id int PRIMARY KEY, n numeric, scaled numeric(20, 10), negative_scale numeric(5, -2), fraction numeric(3, 5)
);
INSERT INTO numerics VALUES
    (1, 'NaN', 'NaN', 'NaN', 'NaN'),
    (2, 'Infinity', NULL, NULL, NULL),
    (3, '-Infinity', NULL, NULL, NULL),
    (4, '-0', '-0.0000000000', 0, '0.00999'),
    (5, '1.10', '1.1000000000', 12345, '-0.00999'),
    (6, '12345678901234567890', '9999999999.9999999999', 9999900, 0),
    (7, repeat('1234567890', 13)::numeric, NULL, NULL, NULL),
    (8, ('-' || repeat('9876543210', 13) || '.' || repeat('0', 129) || '1')::numeric, NULL, NULL, NULL),
    (9, '1e-1000', NULL, NULL, NULL),
    (10, '1e1000', NULL, NULL, NULL),
    (11, '0.000', '0', 0, 0),
    (12, NULL, NULL, NULL, NULL);

CREATE TABLE floats (id int PRIMARY KEY, f4 float4, f8 float8);
INSERT INTO floats VALUES
    (1, 'NaN', 'NaN'),
    (2, 'Infinity', 'Infinity'),
    (3, '-Infinity', '-Infinity'),
    (4, '-0', '-0'),
    (5, '1e-45', '5e-324'),
    (6, '1.1754942e-38', '2.225073858507201e-308'),
    (7, '3.4028235e38', '1.7976931348623157e308'),
    (8, '0.1', '0.1'),
    (9, '0.3', '0.30000000000000004'),
    (10, '16777216', '9007199254740993'),
    (11, '123456.79', '1234567890.123456789'),
    (12, NULL, NULL);

CREATE TABLE moneys (id int PRIMARY KEY, m money);
INSERT INTO moneys VALUES
    (1, '92233720368547758.07'), (2, '-92233720368547758.08'), (3, '1234.56'), (4, '-0.01'), (5, NULL);

CREATE TABLE texts (id int PRIMARY KEY, t text, v varchar, v10 varchar(10), c10 char(10), c char, n name, ch "char");
INSERT INTO texts VALUES
    (1, '', '', '', '', '', '', ''),
    (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
    (3, 'it''s "quoted"', 'a "b" ''c''', '"', 'pad', ' ', 'a name', 'x'),
    (4, E'back\\slash \\N \\. \\t \\\\', E'\\', E'\\N', E'\\.', '\', E'\\', '\'),
    (5, E'tab\there\nnew line\r\ncarriage\rreturn', E'\n', E'\t', E'\r\n', E'\n', E'a\tb', E'\t'),
    (6, E'\\.\n', E'\\.\n\\.', E'\\N\n', E'\n\\.', NULL, 'NULL', NULL),
    (7, E'\b\f\x0b\x01\x1f\x7f', E'\x01', E'\x1f', E'\x7f', E'\x01', E'\x02', E'\x03'),
    (8, 'naïve 表記 🐘 עברית العربية', U&'\00E9 and e\0301', U&'\200B\FEFF', U&'\+01F418', 'é', 'ñandú', '~'),
    (9, 'trailing space  ', '  leading', ' both ', '  pad ', NULL, ' n ', ' '),
    (10, '{curly,"braces"}', '(a,b)', '[1,2)', '<a/>', '{', '%s %(x)s %%', '%'),
    (11, 'NULL', 'null', '\N', 'N', 'N', 'null', 'N'),
    (12, ';--', '$1 $$ $tag$', '-- x', '/* */', ';', E'''; DROP TABLE x; --', ';'),
    (13, repeat('long and compressible ', 20000), repeat('x', 9000), 'short', 'short', 's', repeat('n', 63), 's'),
    (14, (SELECT string_agg(md5(i::text), '' ORDER BY i) FROM generate_series(1, 30000) AS i), NULL, NULL, NULL, NULL, NULL, NULL),
    (15, (SELECT string_agg(chr(i), '' ORDER BY i) FROM generate_series(1, 1000) AS i), NULL, NULL, NULL, NULL, NULL, NULL);

CREATE TABLE byteas (id int PRIMARY KEY, b bytea);
INSERT INTO byteas
SELECT 1, string_agg(set_byte('\x00'::bytea, 0, i), '' ORDER BY i) FROM generate_series(0, 255) AS i
UNION ALL SELECT 2, ''
UNION ALL SELECT 3, NULL
UNION ALL SELECT 4, '\x00'
UNION ALL SELECT 5, '\x5c2e0a'
UNION ALL SELECT 6, '\x5a0000000549'
UNION ALL SELECT 7, string_agg(sha512(i::text::bytea), '' ORDER BY i) FROM generate_series(1, 16384) AS i;

CREATE TABLE dates (
    id int PRIMARY KEY, d date, t time, t0 time(0), tz timetz, ts timestamp, ts3 timestamp(3), tstz timestamptz
);
INSERT INTO dates VALUES
    (1, 'infinity', '00:00', '00:00', '00:00:00+00', 'infinity', 'infinity', 'infinity'),
    (2, '-infinity', '24:00', '24:00', '24:00:00-15:59:59', '-infinity', '-infinity', '-infinity'),
    (3, '4713-01-01 BC', '23:59:59.999999', '23:59:59', '00:00:00+15:59:59', '4713-01-01 00:00:00 BC',
        '4713-01-01 00:00:00 BC', '4713-01-01 00:00:00+00 BC'),
    (4, '5874897-12-31', '12:34:56.7', '12:34:57', '12:34:56.789+05:45', '294276-12-31 23:59:59.999999',
        '294276-12-31 23:59:59.999', '294276-12-31 23:59:59.999999+00'),
    (5, '0001-01-01', '00:00:00.000001', '01:00', '01:02:03-00:00:01', '0001-12-31 23:59:59 BC',
        '1999-12-31 23:59:59.999', '1883-11-18 12:03:58-04:56:02'),
    (6, '2024-02-29', '02:30', '02:30', '02:30+01', '2024-03-31 02:30', '2024-03-31 02:30:00.123', '2024-03-31 00:59:59.999999+00'),
    (7, '2001-02-03', '04:05:06', '04:05:06', '04:05:06+07', '2001-02-03 04:05:06', '2001-02-03', '2001-02-03 04:05:06+00'),
    (8, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

CREATE TABLE intervals (id int PRIMARY KEY, i interval, ym interval year to month, ds interval day to second(3));
INSERT INTO intervals VALUES
    (1, '1 mon -1 day +02:03:04.000005', '1 year 2 mons', '1 day 02:03:04.005'),
    (2, '178000000 years', '178000000 years', '2147483647 days'),
    (3, '-178000000 years', '-178000000 years', '-2147483648 days'),
    (4, '0', '0', '0'),
    (5, '-00:00:00.000001', '-1 mon', '-1 day +00:00:00.001'),
    (6, '2562047788:00:54.775807', NULL, NULL),
    (7, '-1 year +3 mons -4 days +05:06:07', NULL, NULL),
    (8, NULL, NULL, NULL);

CREATE TYPE mood AS ENUM ('sad', 'it''s "ok"', 'happy', E'back\\slash', 'tab	new
line', '', 'null', '表 🐘');
ALTER TYPE mood ADD VALUE 'later' BEFORE 'happy';
CREATE TABLE flags (id int PRIMARY KEY, b boolean, m mood, u uuid);
INSERT INTO flags VALUES
    (1, true, 'sad', '00000000-0000-0000-0000-000000000000'),
    (2, false, 'it''s "ok"', 'ffffffff-ffff-ffff-ffff-ffffffffffff'),
    (3, NULL, E'back\\slash', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'),
    (4, NULL, 'tab	new
line', NULL),
    (5, true, '', NULL),
    (6, true, 'null', NULL),
    (7, true, '表 🐘', NULL),
    (8, true, NULL, NULL);

CREATE TABLE networks (id int PRIMARY KEY, i inet, c cidr, m macaddr, m8 macaddr8);
INSERT INTO networks VALUES
    (1, '0.0.0.0/0', '0.0.0.0/0', '00:00:00:00:00:00', '00:00:00:00:00:00:00:00'),
    (2, '192.168.1.5/24', '192.168.1.0/24', 'ff:ff:ff:ff:ff:ff', 'ff:ff:ff:ff:ff:ff:ff:ff'),
    (3, '10.1.2.3', '10.1.2.3/32', '08:00:2b:01:02:03', '08:00:2b:ff:fe:01:02:03'),
    (4, '::1', '::/0', NULL, NULL),
    (5, '2001:db8::ff00:42:8329/64', '2001:db8::/32', NULL, NULL),
    (6, '::ffff:1.2.3.4', '::ffff:1.2.3.0/120', NULL, NULL),
    (7, NULL, NULL, NULL, NULL);

CREATE TABLE bits (id int PRIMARY KEY, b bit, b9 bit(9), v varbit, v5 varbit(5));
INSERT INTO bits VALUES
    (1, B'0', B'101010101', B'', B''),
    (2, B'1', B'000000000', B'1', B'10101'),
    (3, NULL, X'1FF'::bit(9), repeat('1001', 1000)::varbit, B'0'),
    (4, NULL, NULL, NULL, NULL);

CREATE TABLE jsons (id int PRIMARY KEY, j json, b jsonb, p jsonpath);
INSERT INTO jsons VALUES
    (1, '{"b":1,  "a":2, "b":3}', '{"b":1,  "a":2, "b":3}', '$'),
    (2, '[1.10, 12345678901234567890, 1e400, -0, 0.1e-5]', '[1.10, 12345678901234567890, 1e400, -0, 0.1e-5]', '$.a[*] ? (@ > 1)'),
    (3, '"\u0000 \ud83d\ude00 \\ \" \/ \b\f\n\r\t"', '"\ud83d\ude00 \\ \" \/ \b\f\n\r\t \u007f"', 'strict $."odd key"[last]'),
    (4, 'null', 'null', '$.* ? (@.type() == "string" && @ like_regex "^a\"b")'),
    (5, '{"":""}', '{"": "", " ": {"a": [{}, [], [[]], null, true, false]}}', '$.datetime().double()'),
    (6, E'\n\t [ ]\n', '[]', '$x + 1'),
    (7, (SELECT json_agg(i) FROM generate_series(1, 5000) AS i), (SELECT jsonb_agg(md5(i::text)) FROM generate_series(1, 5000) AS i), NULL),
    (8, NULL, NULL, NULL);

CREATE TABLE shapes (id int PRIMARY KEY, p point, l line, s lseg, b box, pa path, po polygon, c circle);
INSERT INTO shapes VALUES
    (1, '(0.1,-0)', '{1,2,3}', '[(0,0),(1,1)]', '((1,1),(0,0))', '[(0,0),(1,1),(2,0)]', '((0,0),(1,1),(2,0))', '<(0,0),1>'),
    (2, '(Infinity,NaN)', '{0.1,0.2,0.30000000000000004}', '[(1e-300,1e300),(0,-1)]', '((2,2),(-1,-1))', '((0,0),(1,1))', '((0,0))',
        '<(1e10,1e-10),0>'),
    (3, '(5e-324,1.7976931348623157e308)', '{-1,0,0}', NULL, NULL, NULL, NULL, '<(1,1),Infinity>'),
    (4, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

CREATE TABLE text_search (id int PRIMARY KEY, v tsvector, q tsquery);
INSERT INTO text_search VALUES
    (1, 'a:1A b:2B,3C c:4 ''it''''s'':16383 ''sp ace'' ''back\\slash''', 'a & (b:AB | !c:*) <-> d <3> ''it''''s'''),
    (2, '', ''),
    (3, to_tsvector('pg_catalog.english', 'The quick brown foxes jumped'), to_tsquery('pg_catalog.english', 'foxes & jump:*')),
    (4, NULL, NULL);

CREATE TABLE internals (
    id int PRIMARY KEY, lsn pg_lsn, x8 xid8, x xid, c cid, t tid, ts txid_snapshot, ps pg_snapshot, o oid, ov oidvector,
    iv int2vector, r refcursor, a aclitem
);
INSERT INTO internals VALUES
    (1, '0/0', '0', '0', '0', '(0,0)', '1:1:', '1:1:', 0, '', '', '', NULL),
    (2, 'FFFFFFFF/FFFFFFFF', '18446744073709551615', '4294967295', '4294967295', '(4294967295,65535)', '10:20:10,14,15',
        '10:20:10,14,15', 4294967295, '1 2 4294967295', '1 -2 3', 'a cursor', 'zoo_reader=r*w/zoo_owner'),
    (3, '16/B374D848', '4294967296', '3', '1', '(1,2)', '1:4294967296010:2', '1:4294967296010:2', 1259, '23', '1', NULL, '=r/zoo_owner'),
    (4, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

-- Stored as OIDs, which are not the same on another server: only the names may travel.
CREATE FUNCTION plus_one(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + 1';
CREATE TABLE registered (
    id int PRIMARY KEY, class regclass, type regtype, proc regproc, procedure regprocedure, operator regoper,
    operators regoperator, role regrole, namespace regnamespace, config regconfig, dictionary regdictionary,
    collation_ regcollation
);
INSERT INTO registered VALUES
    (1, 'pg_catalog.pg_class', 'int4', 'pg_catalog.now', 'pg_catalog.abs(int4)', 'pg_catalog.||/', 'pg_catalog.+(int4,int4)', 'zoo_owner',
        'pg_catalog', 'pg_catalog.english', 'pg_catalog.simple', '"C"'),
    (2, 'types.registered', 'types.mood[]', 'types.plus_one', 'types.plus_one(int)', '0', '0', 'zoo_reader',
        'types', '-', '-', '-'),
    (3, '-', '-', '-', '-', NULL, NULL, '-', '-', NULL, NULL, NULL),
    (4, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

CREATE TYPE float_range AS RANGE (subtype = float8, subtype_diff = float8mi, multirange_type_name = float_multirange);
CREATE TABLE ranges (
    id int PRIMARY KEY, i4 int4range, i8 int8range, n numrange, ts tsrange, tstz tstzrange, d daterange, f float_range,
    i4m int4multirange, i8m int8multirange, nm nummultirange, tsm tsmultirange, tstzm tstzmultirange, dm datemultirange,
    fm float_multirange
);
INSERT INTO ranges VALUES
    (1, 'empty', 'empty', 'empty', 'empty', 'empty', 'empty', 'empty', '{}', '{}', '{}', '{}', '{}', '{}', '{}'),
    (2, '(,)', '[1,5]', '[1.10,NaN]', '["2001-01-01 00:00:00",infinity]', '[-infinity,"2001-01-01 00:00:00+00")', '[,2001-01-01]',
        '(-0,5e-324]', '{(,)}', '{[1,2),[5,6]}', '{[1.10,2.0),(3,)}', '{["2001-01-01 10:00:00",infinity)}',
        '{[-infinity,"2001-01-01 00:00:00+00"],("2002-02-02 00:00:00+00",)}', '{[2001-01-01,2001-01-03),[2002-01-01,infinity)}',
        '{[0.1,0.2],(0.3,Infinity)}'),
    (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

CREATE TYPE address AS (street text, "house no" int, tags text[]);
CREATE TYPE person AS (name varchar(20), home address, mood mood);
CREATE DOMAIN positive AS int CONSTRAINT positive_check CHECK (VALUE > 0);
CREATE DOMAIN small_positive AS positive DEFAULT 7 NOT NULL CONSTRAINT small CHECK (VALUE < 100);
CREATE DOMAIN word AS text COLLATE "C" CHECK (VALUE !~ '\s') CHECK (length(VALUE) < 50);
CREATE DOMAIN words AS word[] CHECK (cardinality(VALUE) < 10);
CREATE DOMAIN settled AS person CHECK ((VALUE).name IS DISTINCT FROM 'nobody');
CREATE DOMAIN unchecked AS int;
CREATE TABLE composites (
    id int PRIMARY KEY, a address, p person, s settled, d positive, sd small_positive, w word, ws words, u unchecked
);
INSERT INTO composites VALUES
    (1, ROW('High "St", (north)', 7, '{"a b",NULL,"",c}'), ROW('Ann, "A"', ROW('x', 1, '{}'), 'happy'),
        ROW('Bob', ROW(E'back\\slash', NULL, NULL), NULL), 1, 1, 'w', '{a,b,NULL}', -1),
    (2, ROW(NULL, NULL, NULL), NULL, NULL, NULL, 99, NULL, NULL, 5),
    (3, ROW('', 0, '{}'), ROW('', ROW('', 0, ARRAY['']), ''), ROW(NULL, ROW('', 1, '{NULL}'), 'null'), 2147483647, DEFAULT, '', '{}', 0);
ALTER DOMAIN unchecked ADD CONSTRAINT from_now_on CHECK (VALUE > 0) NOT VALID;

CREATE TABLE arrays (
    id int PRIMARY KEY, i int[], t text[], n numeric[], b bytea[], ts timestamptz[], m mood[], a address[], d positive[],
    j jsonb[], r int4range[], o boolean[], u uuid[], c char(3)[], f float8[], p point[], bx box[], x interval[]
);
INSERT INTO arrays (id, i, t, n, b, ts, m, a, d, j, r, o, u, c, f, p, bx, x) VALUES
    (1, '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}'),
    (2, '{NULL}', '{NULL,"NULL",null,"",\\N}', '{NaN,Infinity,1.10,-0}', ARRAY['\x00'::bytea, '\x5c22', NULL],
        '{infinity,"2001-02-03 04:05:06+00"}', ARRAY['sad', 'it''s "ok"', '', NULL]::mood[],
        ARRAY[ROW('a "b", c', 1, '{x,"y z"}')::address, NULL, ROW(NULL, NULL, NULL)::address], '{1,2}',
        ARRAY['{"a": "b"}'::jsonb, 'null', NULL, '"\\\""'], '{empty,"[1,2)","(,)"}', '{t,f,NULL}',
        '{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}', '{a,ab,abc}', '{NaN,-0,5e-324}', '{"(1,2)","(3,4)"}',
        '{(1,1),(0,0);(2,2),(1,1)}', '{"1 mon","-1 day"}'),
    (3, '[0:1]={1,2}', '[-2:-1][3:4]={{a,b},{"c,d","e\"f"}}', '{{1,2},{3,4}}', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
        NULL, NULL, '{{{1},{2}},{{3},{4}}}', NULL, NULL, NULL),
    (4, (SELECT array_agg(g) FROM generate_series(1, 20000) AS g), ARRAY[E'tab\t', E'new\nline', '{}', ',', ' lead', '表🐘'],
        NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
    (5, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

-- No key of any kind, equal rows, and rows of NULL alone.
CREATE TABLE no_key (a int, b text);
INSERT INTO no_key VALUES (1, 'x'), (1, 'x'), (NULL, NULL), (NULL, NULL), (2, NULL), (NULL, '');
