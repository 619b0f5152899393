"""wal2json says in a warning alone that it leaves out a change: nothing of that transaction is ever complete."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from pgcopydb.daemon.plugins import WAL2JSON_OPTIONS, read_wal2json
from pgcopydb.daemon.receive import Receiver
from pgcopydb.postgres.conninfo import ConnInfo, Side
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.postgres.replication import ReplicationSession
from pgcopydb.runtime.errors import SourceError
from pgcopydb.runtime.stop import Stop
from tests.fix_servers import Servers, fresh_database
from tests.fix_wal2json import require_wal2json
from tests.wait import wait_until


@dataclass
class Until:
    """A control that never changes."""

    endpos: Lsn
    replayed: Lsn = Lsn()  # noqa: RUF009  immutable

    def descriptors(self) -> list[int]:
        return []

    def refresh(self, receiver: Receiver) -> None:
        pass


@pytest.mark.parametrize("change", ["UPDATE keyless SET t = 'new' WHERE i = 1", "DELETE FROM keyless WHERE i = 1"])
def test_a_change_that_is_left_out(change: str, servers: Servers, tmp_path: Path) -> None:
    """However often the same receiver tries."""
    cluster = servers.get(15)
    require_wal2json(cluster)
    with fresh_database(cluster, "warned") as database:
        database.execute("CREATE TABLE keyless (i int, t text); INSERT INTO keyless VALUES (1, 'old')")
        slot = database.name
        created = database.fetch(f"SELECT lsn::text FROM pg_create_logical_replication_slot('{slot}', 'wal2json')")
        database.execute(f"BEGIN; {change}; INSERT INTO keyless VALUES (3, ''); COMMIT")
        database.execute("ALTER TABLE keyless REPLICA IDENTITY FULL")
        endpos = Lsn.parse(str(database.fetch("SELECT pg_current_wal_flush_lsn()")[0][0]))
        active = f"SELECT active FROM pg_replication_slots WHERE slot_name = '{slot}'"
        receiver = Receiver(tmp_path, 1, 16 << 20, Lsn.parse(created[0][0]))
        for _ in range(2):
            receiver.repair(Stop())
            with (
                ReplicationSession(ConnInfo.parse(Side.SOURCE, database.dsn), "pgcopydb[0] receive test") as session,
                pytest.raises(SourceError, match="has left out a change"),
            ):
                receiver.run(session, slot, WAL2JSON_OPTIONS, read_wal2json, Stop(), Until(endpos))
        assert not any(b'{"action":"C"' in path.read_bytes() for path in tmp_path.iterdir())
        wait_until(lambda: database.fetch(active) == [(False,)], 20, "the walsender")
        database.execute(f"SELECT pg_drop_replication_slot('{slot}')")
