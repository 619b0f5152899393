"""Fixtures: PostgreSQL servers, started once a session when first asked for, and a fresh database for each test.

A major without a local binary is started in a container where a Docker engine answers. Otherwise it is a skip that
says how to get it, or a failure where ``CI`` or ``PGCOPYDB_REQUIRE_SERVERS=1`` is set.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest

from demo.clusters import Cluster, find_major
from tests.containers import ContainerCluster, docker_answers

VERSION_PAIRS = ((15, 15), (15, 17), (15, 18), (17, 18))

_names = itertools.count(1)


@dataclass
class Servers:
    """The session's clusters: one for each major and role."""

    _clusters: dict[tuple[int, str], Cluster] = field(default_factory=dict)

    def get(self, major: int, role: str = "source") -> Cluster:
        """The running cluster; ``role`` tells two of one major apart."""
        key = (major, role)
        if key not in self._clusters:
            self._clusters[key] = _cluster(major)
        cluster = self._clusters[key]
        # A test may have stopped it.
        cluster.start()
        return cluster

    def close(self) -> None:
        for cluster in self._clusters.values():
            cluster.close()


@dataclass(frozen=True)
class Database:
    """One database of a running cluster."""

    cluster: Cluster
    name: str

    @property
    def dsn(self) -> str:
        return self.cluster.dsn(self.name)

    def connect(self, **overrides: Any) -> psycopg.Connection[tuple[Any, ...]]:
        """A connection with autocommit on, that speaks UTF-8; overrides go to ``psycopg.connect``."""
        return psycopg.connect(self.dsn, **{"autocommit": True, "client_encoding": "utf8", **overrides})

    def execute(self, statements: str) -> None:
        """Run one or more statements, each on its own unless they open a transaction themselves."""
        with self.connect() as connection:
            connection.execute(statements.encode())

    def fetch(self, query: str) -> list[tuple[Any, ...]]:
        with self.connect() as connection:
            return connection.execute(query.encode()).fetchall()


@dataclass(frozen=True)
class DbPair:
    """Two empty databases on two clusters."""

    source: Database
    target: Database


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    servers = Servers()
    yield servers
    servers.close()


@pytest.fixture
def source_db(servers: Servers) -> Iterator[Database]:
    with fresh_database(servers.get(15), "source") as database:
        yield database


@pytest.fixture
def target_db(servers: Servers) -> Iterator[Database]:
    with fresh_database(servers.get(15, "target"), "target") as database:
        yield database


@pytest.fixture(params=VERSION_PAIRS, ids=lambda pair: f"{pair[0]}->{pair[1]}")
def db_pair(request: pytest.FixtureRequest, servers: Servers) -> Iterator[DbPair]:
    source, target = request.param
    with (
        fresh_database(servers.get(source), "source") as source_database,
        fresh_database(servers.get(target, "target"), "target") as target_database,
    ):
        yield DbPair(source_database, target_database)


@contextmanager
def fresh_database(cluster: Cluster, word: str, **options: str) -> Iterator[Database]:
    """An empty database whose name begins with ``word``; gone in the end, whoever is still connected."""
    database = Database(cluster, f"{word}_{next(_names)}")
    cluster.create_database(database.name, **options)
    try:
        yield database
    finally:
        # A test may have stopped the server.
        cluster.start()
        cluster.drop_database(database.name)


def _cluster(major: int) -> Cluster:
    if find_major(major) is not None:
        return Cluster.of_major(major)
    if docker_answers():
        return ContainerCluster.of_image(major)
    reason = (
        f"PostgreSQL {major} is not on this machine: install its server package (Debian: postgresql-{major}; 17 and 18"
        f" come with `make dev`), or set PGCOPYDB_TEST_PG{major}_BIN to a folder that holds initdb and postgres"
    )
    if os.environ.get("CI") or os.environ.get("PGCOPYDB_REQUIRE_SERVERS") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
