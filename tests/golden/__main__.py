"""Make the golden files again."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence

from demo.clusters import Cluster
from pgcopydb.apply.catalog import Catalogs
from pgcopydb.apply.pipe import transform_pipe
from pgcopydb.daemon.change_file import change_line, row_line
from pgcopydb.daemon.plugins import BEGIN, COMMIT, Plugin
from pgcopydb.daemon.receive_stage import message_reader, stream_options
from pgcopydb.daemon.stream import Stream
from pgcopydb.postgres.connect import Endpoint
from pgcopydb.postgres.conninfo import ConnInfo, Side
from pgcopydb.postgres.lsn import Lsn
from tests.fix_servers import Database
from tests.fix_wal2json import require_wal2json
from tests.golden import FOLDER, SCHEMA, TRANSACTIONS

MAJOR = 15
"""The one that has wal2json."""
FIRST = 0x24D42C8
STEP = 0x38
TIME = "2026-01-10 15:00:{:02}.123456+00"
LARGE = b"78" * 2100
SMALL = b"7878"
OF_WAL2JSON = re.compile(rb'"xid":\d+,"timestamp":"[^"]+"')


class Ordered:
    """Positions and numbers of transactions, in their order, as the same ones every time."""

    def __init__(self) -> None:
        self._lsns: dict[int, Lsn] = {}
        self._xids: dict[str, str] = {}

    def lsn(self, found: int) -> Lsn:
        return self._lsns.setdefault(found, Lsn(FIRST + STEP * len(self._lsns)))

    def xid(self, found: str) -> str:
        return self._xids.setdefault(found, str(745 + len(self._xids)))

    @property
    def time(self) -> str:
        return TIME.format(len(self._xids))


def lines_of(database: Database, plugin: Plugin) -> Iterator[bytes]:
    """As receive writes them."""
    reader = message_reader(plugin)
    stream = Stream("", plugin, "", Side.SOURCE, "", 1, 1 << 24, publications=("golden",))
    arguments = [text for option in stream_options(stream).items() for text in option]
    query = "SELECT lsn, data FROM pg_logical_slot_get_binary_changes(%s, NULL, NULL, VARIADIC %s::text[])"
    ordered = Ordered()
    xid = ""
    with database.connect(options="-c timezone=UTC -c datestyle=ISO") as connection:
        for text, data in connection.execute(query.encode(), [f"golden_{plugin}", arguments]):
            message = reader(bytes(data))
            if message is None:
                continue
            lsn = ordered.lsn(Lsn.parse(text).value)
            if message.action == BEGIN:
                xid = ordered.xid(message.xid or "")
                yield change_line(BEGIN, lsn, xid=xid)
            elif message.action == COMMIT:
                yield change_line(COMMIT, lsn, xid=xid, timestamp=ordered.time)
            else:
                mine = b'"xid":%b,"timestamp":"%b"' % (xid.encode(), ordered.time.encode())
                payload = OF_WAL2JSON.sub(mine, message.payload).replace(LARGE, SMALL)
                yield row_line(message.action, xid, lsn.value, payload)
        end = ordered.lsn(1 << 62)
        yield change_line("K", end)
        yield change_line("X", Lsn((end.value // (1 << 24) + 1) << 24))


def positions() -> list[bytes]:
    """A file that begins with a transaction that was broken off, and ends where receiving ends."""
    start = 3 << 24
    return [
        change_line("B", Lsn(start + 0x28), xid="760"),
        change_line("R", Lsn(start + 0x28)),
        change_line("K", Lsn(start + 0x100)),
        change_line("E", Lsn(start + 0x200)),
    ]


def write(name: str, plugin: Plugin, lines: Sequence[bytes], database: Database) -> None:
    content = b"".join(lines)
    (FOLDER / f"{name}.json").write_bytes(content)
    ends = [Endpoint(ConnInfo.parse(side, database.dsn), "golden").connect("transform") for side in Side]
    out = io.BytesIO()
    transform_pipe(io.BytesIO(content), out, Catalogs(ends[0], ends[1]), plugin, name=name)
    for connection in ends:
        connection.close()
    (FOLDER / f"{name}.sql").write_bytes(out.getvalue())


def main() -> None:
    with Cluster.of_major(MAJOR) as cluster:
        require_wal2json(cluster)
        cluster.create_database("golden")
        database = Database(cluster, "golden")
        database.execute(SCHEMA)
        database.execute("CREATE PUBLICATION golden FOR ALL TABLES")
        for plugin in Plugin:
            database.execute(f"SELECT pg_create_logical_replication_slot('golden_{plugin}', '{plugin}')")
        with database.connect() as connection:
            for statements in TRANSACTIONS:
                with connection.transaction():
                    for statement in statements:
                        connection.execute(statement.encode())
        for plugin in Plugin:
            write(plugin, plugin, list(lines_of(database, plugin)), database)
        write("positions", Plugin.TEST_DECODING, positions(), database)


main()
