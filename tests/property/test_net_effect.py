"""What many changes come to is what they do one after the other: server, transform, net effect, server."""

from __future__ import annotations

from collections.abc import Iterator

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pgcopydb.apply.catalog import Catalogs
from pgcopydb.apply.decode import decoder_of, read_line
from pgcopydb.apply.execute import Conflict, Executor
from pgcopydb.apply.net_effect import NetEffect, reduced
from pgcopydb.apply.sql_lines import expected_rows, read_mark
from pgcopydb.apply.transform import Transformer
from pgcopydb.daemon.change_file import change_line, row_line
from pgcopydb.daemon.plugins import Plugin
from pgcopydb.postgres.connect import Endpoint
from pgcopydb.postgres.conninfo import ConnInfo, Side
from pgcopydb.postgres.lsn import Lsn
from tests.content import assert_same_content
from tests.fix_servers import Database, Servers
from tests.property.test_statements import SCHEMA, both, keys, statement, steps, texts

TYPES = """
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TYPE mood AS ENUM ('sad', 'glad');
CREATE TABLE typed (k char(3), l varchar(5), m numeric(5, 2), d positive, b bit(3), vb varbit(5), t timestamp(2),
    i interval second(2), c "char", n name, a numeric(5, 2)[], r int4range, e mood, x json, f float4, "o'clock" time(1),
    PRIMARY KEY (k, l, m));
CREATE TABLE "it's ""a"" table" ("key's" int, "v = 'x', ""w"" y" text, ") OVERRIDING SYSTEM VALUE VALUES (" text,
    PRIMARY KEY ("key's"));
CREATE TABLE tiny (k int PRIMARY KEY, v int, w text);
"""
some = st.integers(1, 3)
typed = st.sampled_from(
    [
        "d = 7, b = B'101', vb = B'1'",
        "t = '2026-01-01 10:00:00.126', i = '00:00:01.128'",
        "c = 'x', n = 'a name', a = '{1.005, NULL}', r = '[1,5)'",
        """e = 'glad', x = '{"a": "it''s"}', f = 0.1, "o'clock" = '10:00:00.19'""",
        "d = NULL, b = NULL, f = 'NaN'",
    ]
)
more_steps = st.one_of(
    st.builds(
        lambda k, length, m: (
            f"INSERT INTO typed (k, l, m) VALUES ('{'x' * k}', '{'y' * length}', {m}.{m}) ON CONFLICT DO NOTHING",
            (),
        ),
        some,
        some,
        some,
    ),
    st.builds(lambda m, values: (f"UPDATE typed SET {values} WHERE m = {m}.{m}", ()), some, typed),
    st.builds(lambda k, values: (f"UPDATE typed SET {values} WHERE k = '{'x' * k}'", ()), some, typed),
    statement("DELETE FROM typed WHERE k = rpad('', %s, 'x')", some),
    statement(
        "UPDATE typed t SET l = l || 'z' WHERE length(l) = %s AND m = 1.1"
        " AND NOT EXISTS (SELECT FROM typed o WHERE (o.k, o.l, o.m) = (t.k, t.l || 'z', t.m))",
        some,
    ),
    statement("""INSERT INTO "it's ""a"" table" VALUES (%s, %s, %s) ON CONFLICT DO NOTHING""", keys, texts, texts),
    statement("""UPDATE "it's ""a"" table" SET "v = 'x', ""w"" y" = %s WHERE "key's" <> %s""", texts, keys),
    statement("""UPDATE "it's ""a"" table" SET ") OVERRIDING SYSTEM VALUE VALUES (" = %s""", texts),
    statement("""DELETE FROM "it's ""a"" table" WHERE "key's" %% 2 = %s""", st.integers(0, 1)),
    statement("INSERT INTO keyed SELECT i FROM generate_series(%s, 1500) i ON CONFLICT DO NOTHING", keys),
    statement("UPDATE keyed SET n = n + 1, f = f"),
)
few_rows = st.one_of(
    statement("INSERT INTO tiny VALUES (%s, 0) ON CONFLICT DO NOTHING", some),
    statement("INSERT INTO tiny (k, v, w) VALUES (%s, 0, 'w') ON CONFLICT DO NOTHING", some),
    statement("UPDATE tiny SET v = v + 1 WHERE k = %s", some),
    statement("UPDATE tiny SET w = %s WHERE k <= %s", st.sampled_from([None, "w", "x"]), some),
    statement("DELETE FROM tiny WHERE k = %s", some),
    statement("DELETE FROM tiny WHERE k >= %s", some),
    statement("UPDATE tiny SET k = 4 - k WHERE k <> 2 AND (SELECT count(*) FROM tiny WHERE k <> 2) = 1"),
)
work = st.one_of(
    st.lists(few_rows, min_size=10, max_size=40),
    st.lists(more_steps, min_size=10, max_size=40),
    st.lists(st.one_of(steps, more_steps, few_rows), min_size=1, max_size=60),
)


@pytest.fixture(scope="module", params=[(15, 18), (18, 15)], ids=lambda majors: f"{majors[0]}->{majors[1]}")
def pair(request: pytest.FixtureRequest, servers: Servers) -> Iterator[tuple[Database, Database]]:
    source, target = request.param
    with both(servers, (source, "source"), (target, "target"), SCHEMA + TYPES) as databases:
        yield databases


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(work)
def test_the_target_becomes_what_the_source_is(
    pair: tuple[Database, Database], work: list[tuple[str, tuple[object, ...]]]
) -> None:
    source, target = pair
    with source.connect() as writer:
        for text, values in work:
            writer.execute(text.encode(), values or None)
    replica = {"session_replication_role": "replica"}
    with (
        Endpoint(ConnInfo.parse(Side.SOURCE, source.dsn), "test").connect("apply") as reader,
        Endpoint(ConnInfo.parse(Side.TARGET, target.dsn), "test").connect("apply", settings=replica) as connection,
    ):
        lines = statements(source, Catalogs(reader, connection))
        net = NetEffect()
        few = list(reduced(lines, net))
        assert len(few) <= len(lines)
        assert net.changes == sum(max(0, expected_rows(line)) for line in lines)
        with connection.transaction():
            Executor(connection, differs).run(few)
    # Sequences are no part of a stream of changes.
    assert_same_content(source.dsn, target.dsn, ignore_tables=[("public", "computed_id_seq")])


def statements(source: Database, catalogs: Catalogs) -> list[bytes]:
    """The lines of the SQL file for what the slot says."""
    slot = f"pg_logical_slot_get_changes('{source.name}', NULL, NULL, 'include-xids', 'false')"
    got = source.fetch(f"SELECT lsn - '0/0', data FROM {slot}")
    transformer = Transformer(catalogs.facts, decoder_of(Plugin.TEST_DECODING), parts=catalogs.parts)
    found: list[bytes] = []
    for position, data in got:
        if data in {"BEGIN", "COMMIT"}:
            line = change_line(data[0], Lsn(int(position)), xid="7", timestamp="2026-01-10 15:00+00")
        else:
            line = row_line(data.split(": ")[1][0], "7", int(position), orjson.dumps(data))
        found += transformer.feed(read_line(line)).splitlines(keepends=True)
    return [line for line in found if read_mark(line) is None]


def differs(conflict: Conflict) -> None:
    pytest.fail(str(conflict))
