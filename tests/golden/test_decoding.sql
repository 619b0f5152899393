BEGIN; -- {"xid":745,"lsn":"0/24D42C8"}
INSERT INTO "shop"."customer" ("id", "name", "balance", "picture", "since") OVERRIDING SYSTEM VALUE VALUES ('1', 'Ann', '1.10', E'\\x00ff', '2026-01-10 15:00:00+00'), ('2', 'it''s Bob', NULL, E'\\x', NULL); -- 2
INSERT INTO "shop"."Order line" ("order", "line", "what") OVERRIDING SYSTEM VALUE VALUES ('7', '1', E'two\nlines'), ('7', '2', E'a \\ and a '''); -- 2
COMMIT; -- {"xid":745,"lsn":"0/24D43A8","timestamp":"2026-01-10 15:00:01.123456+00"}
BEGIN; -- {"xid":746,"lsn":"0/24D43A8"}
UPDATE ONLY "shop"."customer" SET "name" = NULL, "balance" = 'NaN', "picture" = E'\\x', "since" = NULL WHERE "id" = '2';
COMMIT; -- {"xid":746,"lsn":"0/24D43E0","timestamp":"2026-01-10 15:00:02.123456+00"}
BEGIN; -- {"xid":747,"lsn":"0/24D43E0"}
UPDATE ONLY "shop"."customer" SET "id" = '10', "name" = 'Ann', "balance" = '1.10', "picture" = E'\\x00ff', "since" = '2026-01-10 15:00:00+00' WHERE "id" = '1';
COMMIT; -- {"xid":747,"lsn":"0/24D4418","timestamp":"2026-01-10 15:00:03.123456+00"}
BEGIN; -- {"xid":748,"lsn":"0/24D4450"}
UPDATE ONLY "shop"."customer" SET "name" = NULL, "balance" = 'NaN', "picture" = E'\\x7878', "since" = NULL WHERE "id" = '2';
COMMIT; -- {"xid":748,"lsn":"0/24D4488","timestamp":"2026-01-10 15:00:04.123456+00"}
BEGIN; -- {"xid":749,"lsn":"0/24D44C0"}
UPDATE ONLY "shop"."customer" SET "name" = 'Bob', "balance" = 'NaN', "since" = NULL WHERE "id" = '2';
COMMIT; -- {"xid":749,"lsn":"0/24D44F8","timestamp":"2026-01-10 15:00:05.123456+00"}
BEGIN; -- {"xid":750,"lsn":"0/24D44F8"}
DELETE FROM ONLY "shop"."Order line" WHERE ("order", "line") IN (('7', '1'), ('7', '2')); -- 2
COMMIT; -- {"xid":750,"lsn":"0/24D4568","timestamp":"2026-01-10 15:00:06.123456+00"}
BEGIN; -- {"xid":751,"lsn":"0/24D4568"}
INSERT INTO "shop"."event" ("at", "kind", "price") OVERRIDING SYSTEM VALUE VALUES ('2026-01-10', 'sold', '1.0'), ('2026-01-10', 'sold', '1.0'), ('2026-01-10', NULL, '1.00'); -- 3
UPDATE ONLY "shop"."event" SET "price" = '1.00' WHERE ctid = (SELECT ctid FROM ONLY "shop"."event" WHERE "at" = '2026-01-10' AND "kind" = 'sold' AND "price" = '1.0' AND pg_catalog.format('%s', "price") COLLATE pg_catalog."C" = '1.0' LIMIT 1);
UPDATE ONLY "shop"."event" SET "kind" = NULL WHERE ctid = (SELECT ctid FROM ONLY "shop"."event" WHERE "at" = '2026-01-10' AND "price" = '1.00' AND pg_catalog.format('%s', "price") COLLATE pg_catalog."C" = '1.00' AND "kind" IS NULL LIMIT 1);
DELETE FROM ONLY "shop"."event" WHERE ctid = (SELECT ctid FROM ONLY "shop"."event" WHERE "at" = '2026-01-10' AND "kind" = 'sold' AND "price" = '1.0' AND pg_catalog.format('%s', "price") COLLATE pg_catalog."C" = '1.0' LIMIT 1);
COMMIT; -- {"xid":751,"lsn":"0/24D46B8","timestamp":"2026-01-10 15:00:07.123456+00"}
BEGIN; -- {"xid":752,"lsn":"0/24D46F0"}
INSERT INTO "shop"."parcel" ("number", "grams") OVERRIDING SYSTEM VALUE VALUES ('1', '1500');
UPDATE ONLY "shop"."parcel" SET "grams" = '2500' WHERE "number" = '1';
WITH gone AS (DELETE FROM ONLY "shop"."parcel" WHERE "number" = '1' RETURNING *) INSERT INTO "shop"."parcel" ("number", "grams") OVERRIDING SYSTEM VALUE SELECT '2', '2500' FROM gone;
COMMIT; -- {"xid":752,"lsn":"0/24D4798","timestamp":"2026-01-10 15:00:08.123456+00"}
BEGIN; -- {"xid":753,"lsn":"0/24D47D0"}
TRUNCATE ONLY "shop"."event", ONLY "shop"."Order line" RESTART IDENTITY;
COMMIT; -- {"xid":753,"lsn":"0/24D4808","timestamp":"2026-01-10 15:00:09.123456+00"}
-- KEEPALIVE {"lsn":"0/24D4840"}
-- SWITCH WAL {"lsn":"0/3000000"}
