"""Fixture: databases with every type in every way that a row can be told from others, and what follows their changes.

``tests/matrix/schema.sql`` makes the tables on both sides, from those of the zoo; ``work.sql`` changes them on the
source.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from demo.clusters import Cluster
from tests.content import assert_same_content
from tests.fix_command import Command
from tests.fix_servers import Database, Servers, fresh_database
from tests.fix_wal2json import require_wal2json
from tests.fix_zoo import FOLDER, create_roles, meets, requirements

MATRIX: Final = FOLDER.parent / "matrix"
PSQL_OPTIONS: Final = "-c session_replication_role=replica -c search_path=pg_catalog -c client_min_messages=warning"
SEQUENCES: Final = """
SELECT nspname, relname FROM pg_class JOIN pg_namespace AS n ON n.oid = relnamespace WHERE relkind = 'S'
"""
HOSTILE_SETTINGS: Final = {
    "array_nulls": "off",
    "bytea_output": "escape",
    "datestyle": "German",
    "extra_float_digits": "-15",
    "intervalstyle": "iso_8601",
    "quote_all_identifiers": "on",
    "search_path": "types, pg_catalog",
    "standard_conforming_strings": "off",
    "timezone": "'Asia/Kathmandu'",
    "xmloption": "document",
}
"""Of the databases: they must not decide how a value is written or read."""

Files = tuple[Path, ...]


@dataclass
class Matrix:
    """Makes the tables once for each cluster; each run works with copies."""

    servers: Servers
    _templates: dict[tuple[int, Files], str] = field(default_factory=dict)
    _stack: ExitStack = field(default_factory=ExitStack)

    def close(self) -> None:
        self._stack.close()

    def follow(
        self, plugin: str, majors: tuple[int, int], command: Command, workdir: Path, *, by_psql: bool = False
    ) -> None:
        """Change everything on the source and follow it; fails unless the target has become the same.

        ``by_psql``: the SQL files do the same to another target when psql runs them.
        """
        one, other = self.servers.get(majors[0]), self.servers.get(majors[1], "target")
        if plugin == "wal2json":
            require_wal2json(one)
        files = _files_for(plugin, one, other)
        with (
            fresh_database(one, "source", template=self._template(one, files)) as source,
            fresh_database(other, "target", template=self._template(other, files)) as target,
        ):
            env = {"PGCOPYDB_SOURCE_PGURI": source.dsn, "PGCOPYDB_TARGET_PGURI": target.dsn}
            try:
                _follow(plugin, source, target, command, workdir, env)
            finally:
                command.run("stream", "cleanup", "--dir", workdir / "cleanup", env=env)
            assert_same_content(source.dsn, target.dsn)
            if by_psql:
                with fresh_database(other, "replayed", template=self._template(other, files)) as replayed:
                    _run_by_psql(sorted((workdir / "cdc").glob("*.sql*")), replayed)
                    sequences = [(schema, name) for schema, name in source.fetch(SEQUENCES)]
                    assert_same_content(source.dsn, replayed.dsn, ignore_tables=sequences)

    def _template(self, cluster: Cluster, files: Files) -> str:
        if (cluster.port, files) not in self._templates:
            create_roles(cluster)
            database = self._stack.enter_context(fresh_database(cluster, "matrix"))
            for path in files:
                database.execute(path.read_text(encoding="utf-8"))
            self._templates[cluster.port, files] = database.name
        return self._templates[cluster.port, files]


@pytest.fixture(scope="module")
def matrix(servers: Servers) -> Iterator[Matrix]:
    matrix = Matrix(servers)
    yield matrix
    matrix.close()


def _follow(
    plugin: str, source: Database, target: Database, command: Command, workdir: Path, env: dict[str, str]
) -> None:
    lossy = ["--wal2json-lossy-nan"] if plugin == "wal2json" else []
    command.run("stream", "setup", "--plugin", plugin, *lossy, "--dir", workdir, env=env)
    source.execute((MATRIX / "work.sql").read_text(encoding="utf-8"))
    for database in (source, target):
        for name, value in HOSTILE_SETTINGS.items():
            database.execute(f"ALTER DATABASE {database.name} SET {name} = {value}")
    source.execute("UPDATE pgcopydb.sentinel SET apply = true, endpos = pg_current_wal_flush_lsn()")
    command.run("follow", "--keep-files", "--dir", workdir, env=env)


def _files_for(plugin: str, *clusters: Cluster) -> Files:
    servers = [Database(cluster, "postgres") for cluster in clusters]
    there = [
        path
        for path in (*(FOLDER / f"{name}.sql" for name in ("types", "hostile", "xml")), MATRIX / "icu.sql")
        if all(meets(each, needed) for needed in requirements(path.read_text(encoding="utf-8")) for each in servers)
    ]
    return (*there, *([MATRIX / "no_nan.sql"] if plugin == "wal2json" else []), MATRIX / "schema.sql")


def _run_by_psql(files: list[Path], database: Database) -> None:
    program = database.cluster.bin_dir / "psql"
    arguments = [argument for path in files for argument in ("-f", str(path))]
    subprocess.run(
        [program, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", database.dsn, *arguments],
        env={**os.environ, "PGOPTIONS": PSQL_OPTIONS},
        check=True,
    )
