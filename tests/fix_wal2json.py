"""Say that a test needs the plugin wal2json in a server, and make the server allow it."""

from __future__ import annotations

import os
import time

import psycopg
import pytest

from demo.clusters import Cluster

_SETTING = "output_plugin_libraries"
_RELOAD_SECONDS = 10.0
_DEBIAN_MAJOR = 15


def require_wal2json(cluster: Cluster) -> None:
    """When it returns a slot of the running cluster can use wal2json. Skips, or fails where CI is set, without it."""
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        # The server looks, for it may be in a container.
        found = connection.execute(
            "SELECT (pg_stat_file(setting || '/wal2json.so', true)).size > 0 FROM pg_config WHERE name = 'PKGLIBDIR'"
        ).fetchone()
        if found != (True,):
            _not_there(cluster.major)
        allowed = _allowed(connection)
        # Only recent minor releases have the setting.
        if allowed is None or "wal2json" in allowed:
            return
        connection.execute(f"ALTER SYSTEM SET {_SETTING} = {', '.join([*allowed, 'wal2json'])}")
        connection.execute("SELECT pg_reload_conf()")
    _wait_until_allowed(cluster)


def _not_there(major: int) -> None:
    reason = (
        f"wal2json is not installed for PostgreSQL {major} (Debian: postgresql-{major}-wal2json;"
        " scripts/install-servers brings it for 15)"
    )
    # The newer servers are wheels, for which there is no wal2json: only Debian's server must have it.
    required = os.environ.get("CI") or os.environ.get("PGCOPYDB_REQUIRE_SERVERS") == "1"
    if required and major == _DEBIAN_MAJOR:
        pytest.fail(reason)
    pytest.skip(reason)


def _allowed(connection: psycopg.Connection[tuple[object, ...]]) -> list[str] | None:
    row = connection.execute("SELECT current_setting(%s, true)", (_SETTING,)).fetchone()
    return None if row is None or row[0] is None else [part.strip() for part in str(row[0]).split(",") if part.strip()]


def _wait_until_allowed(cluster: Cluster) -> None:
    deadline = time.monotonic() + _RELOAD_SECONDS
    while time.monotonic() < deadline:
        with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
            if "wal2json" in (_allowed(connection) or []):
                return
        time.sleep(0.05)
    pytest.fail(f"the server did not read {_SETTING} again")
