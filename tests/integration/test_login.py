"""Which logins that failed are worth another try."""

from __future__ import annotations

import pytest
from psycopg import pq
from psycopg.conninfo import make_conninfo
from psycopg.pq import PGconn

from pgcopydb.postgres.connect import Endpoint
from pgcopydb.postgres.conninfo import ConnInfo, Side
from pgcopydb.runtime.errors import Kind, PgcopydbError
from tests.fix_servers import Database


def endpoint(dsn: str) -> Endpoint:
    return Endpoint(ConnInfo.parse(Side.SOURCE, dsn), "run")


def test_a_server_that_has_started_since_it_refused(source_db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers when it is asked whether it is there, which says nothing of why it refused."""
    source_db.cluster.create_database("elsewhere")
    elsewhere = Database(source_db.cluster, "elsewhere")
    asked = 0

    class Meanwhile:
        @staticmethod
        def ping(conninfo: bytes) -> int:
            nonlocal asked
            asked += 1
            elsewhere.execute(f"ALTER DATABASE {source_db.name} ALLOW_CONNECTIONS true")
            return PGconn.ping(conninfo)

    try:
        elsewhere.execute(f"ALTER DATABASE {source_db.name} ALLOW_CONNECTIONS false")
        monkeypatch.setattr(pq, "PGconn", Meanwhile)
        endpoint(source_db.dsn).connect("test").close()
        assert asked == 1
    finally:
        source_db.cluster.drop_database("elsewhere")


def test_a_server_that_refuses(source_db: Database) -> None:
    with pytest.raises(PgcopydbError, match="does not exist") as refused:
        endpoint(source_db.cluster.dsn("no_such_database")).connect("test")
    assert refused.value.kind is Kind.OPERATOR
    assert "pg_hba.conf" in (refused.value.hint or "")


@pytest.mark.parametrize("of", ["database", "role"])
def test_a_server_without_room(of: str, source_db: Database) -> None:
    source_db.execute("CREATE ROLE narrow LOGIN")
    name = source_db.name if of == "database" else "narrow"
    source_db.execute(f"ALTER {of} {name} CONNECTION LIMIT 0")
    try:
        with pytest.raises(PgcopydbError, match="too many connections") as refused:
            endpoint(make_conninfo(source_db.dsn, user="narrow")).connect("test")
        assert refused.value.kind is Kind.RETRY
        assert "max_connections" in (refused.value.hint or "")
    finally:
        source_db.execute("DROP ROLE narrow")
