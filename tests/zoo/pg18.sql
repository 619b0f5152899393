-- requires major >= 18
CREATE SCHEMA zoo18;
CREATE EXTENSION IF NOT EXISTS btree_gist SCHEMA ext;
CREATE TABLE zoo18.generated (
    a int PRIMARY KEY, virtual int GENERATED ALWAYS AS (a * 2) VIRTUAL, stored int GENERATED ALWAYS AS (a * 3) STORED
);
INSERT INTO zoo18.generated SELECT generate_series(1, 5);
CREATE TABLE zoo18.rooms (room int, during daterange, PRIMARY KEY (room, during WITHOUT OVERLAPS));
CREATE TABLE zoo18.bookings (
    id int PRIMARY KEY, room int, during daterange,
    FOREIGN KEY (room, PERIOD during) REFERENCES zoo18.rooms (room, PERIOD during)
);
INSERT INTO zoo18.rooms VALUES (1, '[2024-01-01,2024-06-01)'), (1, '[2024-06-01,2025-01-01)');
INSERT INTO zoo18.bookings VALUES (1, 1, '[2024-05-01,2024-07-01)');
CREATE TABLE zoo18.not_null (a int, b int CONSTRAINT named NOT NULL, c int NOT NULL NO INHERIT);
INSERT INTO zoo18.not_null VALUES (NULL, 1, 1);
ALTER TABLE zoo18.not_null ADD CONSTRAINT later NOT NULL a NOT VALID;
CREATE TABLE zoo18.parents (id int PRIMARY KEY);
CREATE TABLE zoo18.children (id int PRIMARY KEY, parent int REFERENCES zoo18.parents NOT ENFORCED, CHECK (parent > 0) NOT ENFORCED);
INSERT INTO zoo18.children VALUES (1, -1);
