"""Filters while changes are followed: what is left out stays so, also what is made, cut off or dropped meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fix_command import Command
from tests.fix_servers import DbPair, Servers
from tests.fix_wal2json import require_wal2json
from tests.following import Following, pair_of

SCHEMA = """
CREATE SCHEMA app; CREATE SCHEMA old;
CREATE TABLE app.kept (id int PRIMARY KEY, t text);
CREATE TABLE app.gone (id int PRIMARY KEY, t text);
CREATE TABLE app.empty (id int PRIMARY KEY, t text);
CREATE TABLE app.tmp_1 (i int);
CREATE TABLE app.log (at int NOT NULL, t text) PARTITION BY RANGE (at);
CREATE TABLE app.log_1 PARTITION OF app.log FOR VALUES FROM (0) TO (100);
CREATE TABLE app.log_2 PARTITION OF app.log FOR VALUES FROM (100) TO (200);
CREATE TABLE old.stale (id int PRIMARY KEY);
INSERT INTO app.kept SELECT i, 'k' || i FROM generate_series(1, 20) i;
INSERT INTO app.gone SELECT i, 'g' || i FROM generate_series(1, 20) i;
INSERT INTO app.empty SELECT i, 'e' || i FROM generate_series(1, 20) i;
INSERT INTO app.log SELECT i, 'l' || i FROM generate_series(1, 190, 7) i;
"""
FILTERS = """
[exclude-table]
app.gone
app.log
app.~/^tmp_/
[exclude-table-data]
app.empty
[exclude-schema]
old
"""
CHANGES = """
INSERT INTO app.kept VALUES (100, 'new'); UPDATE app.kept SET t = 'changed' WHERE id < 5;
DELETE FROM app.kept WHERE id = 7;
INSERT INTO app.gone VALUES (100, 'new'); UPDATE app.gone SET t = 'changed'; DELETE FROM app.gone WHERE id = 7;
INSERT INTO app.empty VALUES (100, 'new'); UPDATE app.empty SET t = 'changed'; DELETE FROM app.empty WHERE id = 7;
INSERT INTO app.log VALUES (3, 'x'), (150, 'y');
INSERT INTO app.tmp_1 VALUES (1); INSERT INTO old.stale VALUES (1);
CREATE TABLE app.tmp_2 (i int); INSERT INTO app.tmp_2 VALUES (1); DROP TABLE app.tmp_2;
CREATE TABLE app.tmp_3 (i int); INSERT INTO app.tmp_3 VALUES (1);
CREATE TABLE old.newer (i int); INSERT INTO old.newer VALUES (1);
CREATE TABLE app.log_3 PARTITION OF app.log FOR VALUES FROM (200) TO (300); INSERT INTO app.log VALUES (250, 'z');
ALTER TABLE app.log DETACH PARTITION app.log_2; INSERT INTO app.log_2 VALUES (160, 'cut off'); DROP TABLE app.log_2;
TRUNCATE app.gone, app.tmp_1;
INSERT INTO app.gone VALUES (1, 'again');
"""


@pytest.fixture
def pair(servers: Servers) -> Iterator[DbPair]:
    with pair_of(servers, 15, 17) as pair:
        yield pair


@pytest.mark.parametrize("plugin", ["test_decoding", "wal2json", "pgoutput"])
def test_changes_of_what_is_left_out(
    pgcopydb: Command, pair: DbPair, workdir_path: Path, tmp_path: Path, plugin: str
) -> None:
    if plugin == "wal2json":
        require_wal2json(pair.source.cluster)
    pair.source.execute(SCHEMA)
    filters = tmp_path / "filters.ini"
    filters.write_text(FILTERS, encoding="utf-8")
    run = Following(pgcopydb, pair, workdir_path).start("--plugin", plugin, "--filters", str(filters))
    for statement in CHANGES.replace("\n", " ").split(";")[:-1]:
        pair.source.execute(statement)
    run.catches_up_idle()
    run.process.kill()
    run.process.wait()
    # Without the option the filters that it began with go on.
    pair.source.execute("INSERT INTO app.gone VALUES (2, 'later'); INSERT INTO app.kept VALUES (200, 'later')")
    run.start("--plugin", plugin)
    run.set_end()
    assert run.process.wait(60) == 0, run.log
    query = "SELECT * FROM app.kept ORDER BY 1"
    assert pair.target.fetch(query) == pair.source.fetch(query)
    assert pair.target.fetch("SELECT count(*) FROM app.empty") == [(0,)]
    assert pair.target.fetch(
        "SELECT c.relname FROM pg_class c WHERE relkind = 'r' AND relnamespace = 'app'::regnamespace ORDER BY 1"
    ) == [("empty",), ("kept",)]


@pytest.mark.parametrize("plugin", ["test_decoding", "pgoutput"])
def test_a_partition_made_later_of_one_of_the_only_tables(
    pgcopydb: Command, pair: DbPair, workdir_path: Path, tmp_path: Path, plugin: str
) -> None:
    pair.source.execute(SCHEMA)
    filters = tmp_path / "filters.ini"
    filters.write_text("[include-only-table]\napp.log\n", encoding="utf-8")
    run = Following(pgcopydb, pair, workdir_path).start("--plugin", plugin, "--filters", str(filters))
    made = "CREATE TABLE app.log_3 PARTITION OF app.log FOR VALUES FROM (200) TO (300)"
    pair.target.execute(made)
    pair.source.execute(f"{made}; INSERT INTO app.log VALUES (250, 'z'), (20, 'a'); INSERT INTO app.kept VALUES (99)")
    pair.source.execute("CREATE TABLE app.other (i int); INSERT INTO app.other VALUES (1)")
    run.set_end()
    assert run.process.wait(60) == 0, run.log
    query = "SELECT * FROM app.log ORDER BY 1, 2"
    assert pair.target.fetch(query) == pair.source.fetch(query)
    assert pair.target.fetch("SELECT FROM pg_class WHERE relname = 'kept'") == []


def test_what_is_left_out_is_left_alone_at_the_end(
    pgcopydb: Command, pair: DbPair, workdir_path: Path, tmp_path: Path
) -> None:
    """A sequence of the target's own, and a view whose rows nobody wants, whatever the source did with theirs."""
    pair.source.execute(SCHEMA)
    pair.source.execute(
        "CREATE SEQUENCE old.number; CREATE SEQUENCE app.number; CREATE TABLE app.served (id serial);"
        "CREATE MATERIALIZED VIEW app.seen AS SELECT t FROM app.kept;"
        "CREATE MATERIALIZED VIEW app.shown AS SELECT t FROM app.kept"
    )
    pair.target.execute("CREATE SCHEMA old; CREATE SEQUENCE old.number; SELECT setval('old.number', 5)")
    filters = tmp_path / "filters.ini"
    filters.write_text(f"{FILTERS}[exclude-table-data]\napp.seen\n[exclude-table]\napp.served\n", encoding="utf-8")
    run = Following(pgcopydb, pair, workdir_path)
    run.start("--plugin", "test_decoding", "--filters", str(filters))
    pair.target.execute("CREATE SEQUENCE app.served_id_seq START 70")
    pair.source.execute(
        "SELECT setval('old.number', 1000), setval('app.number', 1000), setval('app.served_id_seq', 1000);"
        "REFRESH MATERIALIZED VIEW app.seen; REFRESH MATERIALIZED VIEW app.shown"
    )
    run.set_end()
    assert run.process.wait(60) == 0, run.log
    assert "made on the source since the copy" not in run.log
    values = "SELECT (SELECT last_value FROM old.number), (SELECT last_value FROM app.number), last_value"
    assert pair.target.fetch(f"{values} FROM app.served_id_seq") == [(5, 1000, 70)]
    populated = "SELECT relname, relispopulated FROM pg_class WHERE relkind = 'm' ORDER BY 1"
    assert pair.target.fetch(populated) == [("seen", False), ("shown", True)]
