"""Every kind of object that pg_dump knows, from server to server: by one ``clone``, and by the steps of the manual.

As a superuser, and as what a managed service gives: a role that owns the database and is no superuser on either side.
A source is read by several runs and never written; each run has a target of its own.
"""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from demo.clusters import Cluster
from pgcopydb.bootstrap.archive import KINDS
from pgcopydb.bootstrap.restore import SECTIONS, read_entries
from pgcopydb.runtime.workdir import WorkDir
from tests.content import assert_same_content, assert_same_schema
from tests.fix_command import Command
from tests.fix_servers import Database, Servers, fresh_database
from tests.fix_zoo import FOLDER, create_roles, load_zoo
from tests.integration.test_schema_restore import forget_subscription
from tests.wait import wait_until

OBJECTS: Final = FOLDER.parent / "objects"
STEPS: Final = Path(__file__).parents[2] / "docs" / "manual" / "steps.md"
PAIRS: Final = ((15, 15), (15, 17), (17, 18))
ORDINARY: Final = "zoo_ordinary"
ORDINARY_FILES: Final = ("types", "tables", "constraints", "routines", "large_objects", "privileges")
# What the role that copies could not read, as `check` says: hidden by a policy from its owner too; without any right.
UNREADABLE: Final = "DROP TABLE zoo.top_secret; SELECT lo_unlink(4200000004);"
REFUSED: Final = {
    "42501": "permission denied",
    "42704": "undefined, because what makes it was refused",
    "42883": "the same, of a function",
    "42P01": "the same, of a relation",
    "42P13": "an aggregate that keeps what only C understands",
}
"""Why an ordinary role may not load a statement of the zoo."""

NOT_OF_A_SCHEMA: Final = frozenset(
    {
        # What a dump has of rows, and of the whole database.
        *("BLOB", "BLOB COMMENTS", "BLOB METADATA", "BLOBS", "LARGE OBJECT", "LARGE OBJECTS", "TABLE DATA"),
        *("MATERIALIZED VIEW DATA", "SEQUENCE SET", "STATISTICS DATA", "DATABASE", "DATABASE PROPERTIES"),
        *("ENCODING", "SEARCHPATH", "STDSTRINGS", "WARNING"),
        # pg_dump writes it for pg_upgrade only.
        "SUBSCRIPTION TABLE",
        # No server here has a module that provides labels.
        "SECURITY LABEL",
        # In a list it is a SERVER.
        "FOREIGN SERVER",
    }
)
FOR_SUPERUSERS: Final = frozenset(
    {
        *("ACCESS METHOD", "EVENT TRIGGER", "FOREIGN DATA WRAPPER", "FOREIGN TABLE", "SERVER"),
        *("OPERATOR CLASS", "OPERATOR FAMILY", "PROCEDURAL LANGUAGE", "PUBLICATION TABLES IN SCHEMA", "SUBSCRIPTION"),
        *("TEXT SEARCH PARSER", "TEXT SEARCH TEMPLATE", "TRANSFORM", "SHELL TYPE", "USER MAPPING"),
    }
)

SUBSCRIPTIONS: Final = """
SELECT subname, subowner::regrole::text, subenabled, subconninfo, subslotname, subsynccommit, subpublications
FROM pg_subscription JOIN pg_database AS d ON d.oid = subdbid WHERE d.datname = current_database()
"""


@dataclass(frozen=True)
class Side:
    """A database, and the role that copies from it or into it."""

    database: Database
    role: str | None

    @property
    def dsn(self) -> str:
        database = self.database
        return database.dsn if self.role is None else database.cluster.dsn(database.name, user=self.role)


@dataclass
class Sources:
    """Loaded when first asked for, with all that every target of it can take."""

    servers: Servers
    _loaded: dict[tuple[int, str | None], Side] = field(default_factory=dict)
    _stack: ExitStack = field(default_factory=ExitStack)

    def get(self, major: int, role: str | None) -> Side:
        if (major, role) not in self._loaded:
            source = Side(self._stack.enter_context(database_of(self.servers.get(major), "source", role)), role)
            targets = [Database(self.servers.get(other, "target"), "postgres") for one, other in PAIRS if one == major]
            (load_all if role is None else load_as_owner)(source.database, targets)
            self._loaded[major, role] = source
        return self._loaded[major, role]

    def close(self) -> None:
        self._stack.close()


@pytest.fixture(scope="module")
def sources(servers: Servers) -> Iterator[Sources]:
    sources = Sources(servers)
    yield sources
    sources.close()


@contextmanager
def database_of(cluster: Cluster, word: str, role: str | None) -> Iterator[Database]:
    """A database that ``role`` owns; a subscription in it does not keep it from going."""
    if role is not None:
        create_ordinary_role(cluster)
    with fresh_database(cluster, word, **({"owner": role} if role is not None else {})) as database:
        try:
            yield database
        finally:
            forget_subscription(database)


def create_ordinary_role(cluster: Cluster) -> None:
    create_roles(cluster)
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", (ORDINARY,)).fetchone() is None:
            connection.execute(
                f"CREATE ROLE {ORDINARY} LOGIN CREATEDB CREATEROLE; CREATE ROLE zoo_stranger;"
                f"""GRANT zoo_owner, zoo_reader, "zoo odd""role'x" TO {ORDINARY} WITH ADMIN OPTION"""
            )


def load_all(source: Database, targets: list[Database]) -> None:
    create_roles(source.cluster)
    for name in ("rental", "rare"):
        source.execute((OBJECTS / f"{name}.sql").read_text(encoding="utf-8"))
    with source.connect() as connection:
        connection.add_notice_handler(lambda _: None)
        connection.execute(
            sql.SQL(
                'CREATE SUBSCRIPTION {} CONNECTION {} PUBLICATION x, "y z"'
                " WITH (connect = false, slot_name = 'of_x', synchronous_commit = 'remote_write')"
            ).format(sql.Identifier(source.name), sql.Literal(make_conninfo(host="/nowhere", password="it's")))
        )
    load_zoo(source, *targets)


def load_as_owner(source: Database, _targets: list[Database]) -> None:
    """All that is not refused to a role that owns the database and is no superuser."""
    files = [OBJECTS / "rental.sql", *(FOLDER / f"{name}.sql" for name in ORDINARY_FILES)]
    done = subprocess.run(
        [
            source.cluster.bin_dir / "psql",
            *("-X", "-q", "-v", "VERBOSITY=sqlstate"),
            *(argument for path in files for argument in ("-f", path)),
            *("-d", Side(source, ORDINARY).dsn),
        ],
        env={"PGCLIENTENCODING": "UTF8"},
        check=True,
        capture_output=True,
        text=True,
    )
    errors = [line for line in done.stderr.splitlines() if "ERROR" in line]
    others = [line for line in errors if line.split()[-1] not in REFUSED]
    assert not others, "\n".join(others)
    source.execute(UNREADABLE)
    # Nothing is done as this role, so the one that copies need not be a member of it.
    source.execute(f"SET ROLE {ORDINARY}; GRANT SELECT ON rental.film TO zoo_stranger")


def run_clone(pgcopydb: Command, workdir: Path, env: dict[str, str]) -> None:
    pgcopydb.run("clone", "--dir", workdir, env=env)


def run_steps(pgcopydb: Command, workdir: Path, env: dict[str, str]) -> None:
    """The commands of the manual, as they stand there."""
    script = next(block for block in re.findall(r"(?s)```\n(.*?)```", STEPS.read_text("utf-8")) if "snapshot" in block)
    first, *commands, last = [line.split() for line in script.splitlines()]
    assert (first[-1], last[0]) == ("&", "kill")
    holder = pgcopydb.start("snapshot", "--dir", workdir, env=env)
    wait_until((workdir / "snapshot").exists, 30, "the snapshot")
    for program, *arguments in commands:
        assert (program, arguments[-2:]) == ("pgcopydb", ["--dir", "$D"])
        pgcopydb.run(*arguments[:-2], "--dir", workdir, env=env)
    holder.send_signal(signal.SIGTERM)
    assert holder.wait(30) == 0


@pytest.mark.parametrize("way", [run_clone, run_steps], ids=["clone", "steps"])
@pytest.mark.parametrize("role", [None, ORDINARY], ids=["superuser", "owner"])
@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair[0]}->{pair[1]}")
def test_all_of_it_arrives(
    pair: tuple[int, int],
    role: str | None,
    way: Callable[[Command, Path, dict[str, str]], None],
    sources: Sources,
    servers: Servers,
    pgcopydb: Command,
    workdir_path: Path,
) -> None:
    source = sources.get(pair[0], role)
    with database_of(servers.get(pair[1], "target"), "target", role) as database:
        env = {"PGCOPYDB_SOURCE_PGURI": source.dsn, "PGCOPYDB_TARGET_PGURI": Side(database, role).dsn}
        way(pgcopydb, workdir_path, env)
        dumped = {entry.kind for section in SECTIONS for entry in read_entries(WorkDir(workdir_path), section)}
        missing = set(KINDS) - NOT_OF_A_SCHEMA - dumped
        assert missing == (set() if role is None else FOR_SUPERUSERS)
        assert_same_content(source.database.dsn, database.dsn)
        assert_same_schema(source.database.dsn, database.dsn, pg_dump_options=["--no-subscriptions"])
        assert database.fetch(SUBSCRIPTIONS) == source.database.fetch(SUBSCRIPTIONS)


CHECKED = """
CREATE TABLE last AS SELECT i FROM generate_series(1, 3) AS i;
CREATE FUNCTION is_last(int) RETURNS bool LANGUAGE sql AS 'SELECT EXISTS (SELECT FROM public.last WHERE i = $1)';
CREATE TABLE middle AS SELECT 1 + i % 3 AS i FROM generate_series(1, 3000) AS i;
ALTER TABLE middle ADD CHECK (is_last(i));
CREATE FUNCTION is_middle(int) RETURNS bool LANGUAGE plpgsql AS
$$ BEGIN
    IF NOT EXISTS (SELECT FROM public.middle WHERE i = $1) THEN RAISE 'there is no % in the middle', $1; END IF;
    RETURN true;
END $$;
CREATE TABLE first AS SELECT 1 + i % 3 AS i, repeat('x', 100) AS t FROM generate_series(1, 3000) AS i;
ALTER TABLE first ADD CHECK (is_middle(i));
"""


def test_checks_that_read_other_tables(
    source_db: Database, target_db: Database, pgcopydb: Command, workdir_path: Path
) -> None:
    """The largest table comes first, and its check wants the others filled."""
    source_db.execute(CHECKED)
    source_db.execute("VACUUM ANALYZE")
    options = ("--table-jobs", "1", "--split-tables-larger-than", "64kB")
    arguments = ("clone", "--source", source_db.dsn, "--target", target_db.dsn, "--dir", str(workdir_path), *options)
    said = pgcopydb.run(*arguments).stderr
    assert said.count("are tried again now that the others are in") == 2
    assert " ERROR " not in said
    assert_same_content(source_db.dsn, target_db.dsn)

    source_db.execute("CREATE OR REPLACE FUNCTION is_last(i int) RETURNS bool LANGUAGE sql AS 'SELECT $1 < 0'")
    refused = pgcopydb.run(*arguments, "--restart", "--drop-if-exists", check=False)
    assert refused.returncode == 7
    named = re.findall(r"ERROR  (table .*): writing rows", refused.stderr)
    assert any(name.startswith("table public.middle") for name in named)
    assert len(named) == len(set(named))
    assert target_db.fetch("SELECT count(*) FROM last") == [(3,)]
