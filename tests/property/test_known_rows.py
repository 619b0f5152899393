"""Rows of known forms become the same SQL as rows that are decoded in full."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pgcopydb.apply.catalog import Catalogs
from pgcopydb.apply.decode import Line, decoder_of, read_line
from pgcopydb.apply.known_rows import KnownForm, Literals, Messages, messages_of
from pgcopydb.apply.transform import Transformer
from pgcopydb.daemon.change_file import change_line, row_line
from pgcopydb.daemon.plugins import BEGIN, COMMIT, MESSAGE, Plugin
from pgcopydb.daemon.receive_stage import message_reader
from pgcopydb.daemon.slot import _create_publications
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.postgres.selection import EVERYTHING
from tests.fix_servers import Database, Servers, fresh_database
from tests.fix_wal2json import require_wal2json
from tests.integration.test_follow import NO_NAN
from tests.workload import SCHEMA, Workload

HOSTILE = """
CREATE SCHEMA "s. x";
CREATE TABLE "s. x"."T: UPDATE: %s"" x" (
    "Id %d" int, "k\\" text, "a[]" int[], b bit(3), t text, y bytea, g int GENERATED ALWAYS AS (1) STORED,
    i int GENERATED ALWAYS AS IDENTITY, PRIMARY KEY ("k\\", "Id %d"));
"""
CHANGED = """
INSERT INTO "s. x"."T: UPDATE: %s"" x" ("Id %d", "k\\", "a[]", b, t, y)
    VALUES (1, 'null', '{1,2}', B'101', NULL, '\\x00ff'), (2, 'it''s', '{}', NULL, 'null', NULL),
           (3, E'\\\\', '{NULL}', B'000', E'a\\nb', ''), (4, '%s', NULL, B'111', 'unchanged-toast-datum', '\\x27');
UPDATE "s. x"."T: UPDATE: %s"" x" SET t = t || 'x';
UPDATE "s. x"."T: UPDATE: %s"" x" SET t = NULL, "a[]" = NULL, b = NULL;
UPDATE "s. x"."T: UPDATE: %s"" x" SET "Id %d" = "Id %d" + 10 WHERE "Id %d" = 3;
UPDATE "s. x"."T: UPDATE: %s"" x" SET i = DEFAULT;
DELETE FROM "s. x"."T: UPDATE: %s"" x";
"""
OPTIONS = {
    Plugin.TEST_DECODING: "'include-xids', 'true', 'skip-empty-xacts', 'true'",
    Plugin.WAL2JSON: "'format-version', '2', 'include-types', 'false', 'include-type-oids', 'true',"
    " 'include-transaction', 'true'",
    Plugin.PGOUTPUT: "'proto_version', '1', 'publication_names', 'one,other'",
}


class Counting:
    """Counts how often a form was known."""

    def __init__(self, messages: Messages) -> None:
        self.messages = messages
        self.hits = 0

    def find(self, message: bytes) -> tuple[KnownForm, Literals] | None:
        found = self.messages.find(message)
        self.hits += found is not None and found[0].fits(found[1])
        return found

    def learn(self, message: bytes, form: KnownForm) -> None:
        self.messages.learn(message, form)

    def forget(self) -> None:
        self.messages.forget()


@pytest.fixture
def database(servers: Servers) -> Iterator[Database]:
    with fresh_database(servers.get(15), "known") as made:
        yield made
        made.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = 'known'")


def lines_of(database: Database, plugin: Plugin) -> list[Line]:
    read = message_reader(plugin)
    rows = database.fetch(
        "SELECT lsn, data FROM pg_logical_slot_get_binary_changes('known', NULL, NULL,"
        f" {OPTIONS[plugin]}) WITH ORDINALITY ORDER BY ordinality"
    )
    lines = []
    for lsn, data in rows:
        message = read(bytes(data))
        if message is None or message.action == MESSAGE:
            continue
        position = Lsn.parse(lsn)
        if message.action in {BEGIN, COMMIT}:
            lines.append(read_line(change_line(message.action, position, xid=message.xid)))
        else:
            lines.append(read_line(row_line(message.action, "1", position.value, message.payload)))
    return lines


@pytest.mark.parametrize("plugin", list(Plugin))
@pytest.mark.parametrize("forget_every", [10_000_000, 37])
def test_the_same_sql(plugin: Plugin, forget_every: int, database: Database) -> None:
    if plugin is Plugin.WAL2JSON:
        require_wal2json(database.cluster)
    database.execute(SCHEMA)
    database.execute(HOSTILE)
    if plugin is Plugin.WAL2JSON:
        database.execute(NO_NAN)
    with database.connect() as connection:
        if plugin is Plugin.PGOUTPUT:
            _create_publications(connection, ("one", "other"), EVERYTHING)
        connection.commit()
        database.execute(f"SELECT pg_create_logical_replication_slot('known', '{plugin}')")
        Workload(database.dsn, 29, writers=2).run(150)
        database.execute(CHANGED)
        lines = lines_of(database, plugin)
        catalogs = Catalogs(connection, connection)
        known = Counting(messages_of(plugin))
        slowly = Transformer(catalogs.facts, decoder_of(plugin))
        fast = Transformer(catalogs.facts, decoder_of(plugin), known)
        for number, line in enumerate(lines):
            if number % forget_every == 0:
                fast.forget()
            assert fast.feed(line) == slowly.feed(line), bytes(line.message)
    assert len(lines) > 500
    rows = sum(line.action in "IUD" for line in lines)
    if forget_every > rows:
        assert known.hits > rows / 3, (known.hits, rows)
