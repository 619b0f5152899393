"""A copy of a database into itself would empty the tables that it is about to read: it is refused, whatever both are
called.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from demo.clusters import Cluster
from tests.content import assert_same_content
from tests.fix_command import Command
from tests.fix_servers import Database, fresh_database
from tests.wait import wait_until

ROWS = "CREATE TABLE t (i int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 100)"


@pytest.fixture(scope="module")
def primary() -> Iterator[Cluster]:
    with Cluster.of_major(15) as cluster:
        yield cluster


def refused(pgcopydb: Command, workdir: Path, source: str, target: str, *command: str) -> str:
    arguments = (*(command or ("clone", "--drop-if-exists")), "--source", source, "--target", target)
    done = pgcopydb.run(*arguments, "--dir", workdir, check=False)
    assert done.returncode == 4, done.stderr
    errors = [line for line in done.stderr.splitlines() if " ERROR " in line]
    assert len(errors) == 2, done.stderr
    assert "source and target are the same database" in errors[0]
    assert "hint: " in errors[1]
    return done.stderr


@pytest.mark.parametrize("command", [(), ("copy", "table-data"), ("copy", "data")], ids=" ".join)
def test_by_another_name(command: tuple[str, ...], source_db: Database, pgcopydb: Command, workdir_path: Path) -> None:
    source_db.execute(ROWS)
    by_socket = source_db.cluster.dsn(source_db.name, host=str(source_db.cluster.socket_dir))
    refused(pgcopydb, workdir_path, source_db.dsn, by_socket, *command)
    assert source_db.fetch("SELECT count(*) FROM t") == [(100,)]
    assert not (workdir_path / "schema" / "schema.dump").exists()


def test_check_says_it(source_db: Database, pgcopydb: Command, workdir_path: Path) -> None:
    servers = ("--source", source_db.dsn, "--target", source_db.dsn)
    done = pgcopydb.run("check", *servers, "--dir", workdir_path, "--json", check=False)
    assert done.returncode == 4
    assert "source and target are the same database" in [row["message"] for row in orjson.loads(done.stdout)]


def test_by_a_role_that_may_not_ask_for_the_system(primary: Cluster, pgcopydb: Command, workdir_path: Path) -> None:
    with fresh_database(primary, "asked") as database:
        database.execute(
            "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC; CREATE ROLE nosy LOGIN;"
            f"ALTER DATABASE {database.name} OWNER TO nosy; SET ROLE nosy; {ROWS}"
        )
        dsn = primary.dsn(database.name, user="nosy")
        refused(pgcopydb, workdir_path, dsn, primary.dsn(database.name, user="nosy", host=str(primary.socket_dir)))
        assert database.fetch("SELECT count(*) FROM t") == [(100,)]
        database.execute("REASSIGN OWNED BY nosy TO postgres; DROP ROLE nosy")


def test_from_a_standby_into_its_primary(primary: Cluster, pgcopydb: Command, workdir_path: Path) -> None:
    with fresh_database(primary, "served") as database:
        database.execute(ROWS)
        with Cluster.of_major(15, primary=primary) as cluster:
            standby = Database(cluster, database.name)
            wait_until(lambda: standby.fetch("SELECT count(*) FROM t") == [(100,)], 30, "the standby to have the rows")
            assert "of a server and its standby" in refused(pgcopydb, workdir_path, standby.dsn, database.dsn)
        assert database.fetch("SELECT count(*) FROM t") == [(100,)]


def test_a_server_that_was_made_of_a_base_backup_is_another_one(
    primary: Cluster, pgcopydb: Command, workdir_path: Path
) -> None:
    """Its databases have the numbers and the system identifier of the source's."""
    with fresh_database(primary, "copied") as database, Cluster.of_major(15, primary=primary) as cluster:
        copy = Database(cluster, database.name)
        copy.execute("SELECT pg_promote()")
        database.execute(ROWS)
        pgcopydb.run("clone", "--source", database.dsn, "--target", copy.dsn, "--dir", workdir_path)
        assert_same_content(database.dsn, copy.dsn)


def test_another_database_of_the_server_is_no_matter(
    source_db: Database, pgcopydb: Command, workdir_path: Path
) -> None:
    source_db.execute(ROWS)
    with fresh_database(source_db.cluster, "neighbour") as neighbour:
        pgcopydb.run("clone", "--source", source_db.dsn, "--target", neighbour.dsn, "--dir", workdir_path)
        assert_same_content(source_db.dsn, neighbour.dsn)
