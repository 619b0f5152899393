-- requires major < 17
-- A materialized view that can only be refreshed with the database's own search_path (set in
-- privileges.sql): from 17 on, none can.
CREATE SCHEMA zoo_path;
CREATE TABLE zoo_path.hidden (a int PRIMARY KEY);
INSERT INTO zoo_path.hidden SELECT generate_series(1, 10);
SET search_path = zoo_path, public;
CREATE FUNCTION zoo_path.total() RETURNS bigint LANGUAGE plpgsql STABLE AS 'BEGIN RETURN (SELECT sum(a) FROM hidden); END';
CREATE MATERIALIZED VIEW zoo_path.totals AS SELECT zoo_path.total() AS total;
