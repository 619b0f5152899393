"""What becomes of changes that follow each other, and of those that do not fit."""

from __future__ import annotations

from collections.abc import Iterable

import orjson
import pytest

from pgcopydb.apply.catalog import MissingTable
from pgcopydb.apply.decode import decoder_of, read_line
from pgcopydb.apply.known_rows import messages_of
from pgcopydb.apply.sql_lines import expected_rows
from pgcopydb.apply.statements import Comparison, TableFacts
from pgcopydb.apply.transform import SchemaMismatch, Transformer
from pgcopydb.daemon.change_file import change_line, row_line
from pgcopydb.daemon.plugins import Plugin
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.postgres.names import Name
from pgcopydb.runtime.errors import CorruptState, StateError

BEGIN = change_line("B", Lsn(10), xid="7")
COMMIT = change_line("C", Lsn(1000), xid="7", timestamp="2026-01-10 15:00+00")


def table(key: str = "id", columns: str = "id v", kind: str = "r", *, only_partitions: bool = False) -> TableFacts:
    comparisons = dict.fromkeys(columns.split(), Comparison.EXACT)
    return TableFacts(frozenset(key.split()), comparisons=comparisons, kind=kind, only_partitions=only_partitions)


class Catalogs:
    """Tables that can be made and changed."""

    def __init__(self) -> None:
        self.tables = {Name("public", name): table() for name in ("t", "u")}

    def facts(self, name: Name) -> TableFacts:
        if name not in self.tables:
            raise MissingTable(f"table {name} is not on the target")
        return self.tables[name]


@pytest.fixture
def catalogs() -> Catalogs:
    return Catalogs()


@pytest.fixture(params=[True, False], ids=["known forms", "decoded in full"])
def transformer(request: pytest.FixtureRequest, catalogs: Catalogs) -> Transformer:
    plugin = Plugin.TEST_DECODING
    return Transformer(catalogs.facts, decoder_of(plugin), messages_of(plugin) if request.param else None)


def row(text: str, lsn: int = 100) -> bytes:
    return row_line(text.split(": ")[1][0], "7", lsn, orjson.dumps(f"table {text}"))


def insert(number: int, name: str = "public.t", value: str = "x") -> bytes:
    return row(f"{name}: INSERT: id[integer]:{number} v[text]:'{value}'")


def delete(number: int, name: str = "public.t") -> bytes:
    return row(f"{name}: DELETE: id[integer]:{number}")


def fed(transformer: Transformer, lines: Iterable[bytes]) -> list[str]:
    """Statements without the marks."""
    out = b"".join(transformer.feed(read_line(line)) for line in lines)
    return [line for line in out.decode().splitlines() if not line.startswith(("BEGIN", "COMMIT", "ROLLBACK", "--"))]


def test_rows_of_one_statement_are_bounded_in_number(transformer: Transformer) -> None:
    for made in (insert, delete):
        statements = fed(transformer, [BEGIN, *map(made, range(1201)), COMMIT])
        assert [expected_rows(line.encode()) for line in statements] == [500, 500, 201]
        assert statements[0].endswith("; -- 500")


def test_rows_of_one_statement_are_bounded_in_size(transformer: Transformer) -> None:
    statements = fed(transformer, [BEGIN, *(insert(number, value="y" * 50_000) for number in range(5)), COMMIT])
    assert [expected_rows(line.encode()) for line in statements] == [2, 2, 1]


def test_the_order_of_what_is_not_of_one_statement(transformer: Transformer) -> None:
    lines = [
        *(insert(1), insert(2), insert(3, "public.u"), insert(4)),
        row("public.t: INSERT: id[integer]:5"),
        *(delete(1), delete(2), delete(3, "public.u"), insert(1)),
        row("public.t: UPDATE: id[integer]:4 v[text]:'z'"),
        insert(6),
    ]
    assert [
        line.partition(" VALUES ")[0].partition(" WHERE ")[0] for line in fed(transformer, [BEGIN, *lines, COMMIT])
    ] == [
        'INSERT INTO "public"."t" ("id", "v") OVERRIDING SYSTEM VALUE',
        'INSERT INTO "public"."u" ("id", "v") OVERRIDING SYSTEM VALUE',
        'INSERT INTO "public"."t" ("id", "v") OVERRIDING SYSTEM VALUE',
        'INSERT INTO "public"."t" ("id") OVERRIDING SYSTEM VALUE',
        'DELETE FROM ONLY "public"."t"',
        'DELETE FROM ONLY "public"."u"',
        'INSERT INTO "public"."t" ("id", "v") OVERRIDING SYSTEM VALUE',
        """UPDATE ONLY "public"."t" SET "v" = 'z'""",
        'INSERT INTO "public"."t" ("id", "v") OVERRIDING SYSTEM VALUE',
    ]


def test_what_is_given_up_leaves_nothing(transformer: Transformer, catalogs: Catalogs) -> None:
    catalogs.tables[Name("public", "view")] = table(kind="m")
    for lines in ([insert(1), insert(2, "public.view")], [row("public.t: TRUNCATE: (no-flags)")], [delete(1)]):
        assert fed(transformer, [BEGIN, *lines, change_line("R", Lsn(10))]) == []
    assert fed(transformer, [BEGIN, insert(3), COMMIT]) == [
        """INSERT INTO "public"."t" ("id", "v") OVERRIDING SYSTEM VALUE VALUES ('3', 'x');"""
    ]


def test_rows_of_views_and_of_our_own(transformer: Transformer, catalogs: Catalogs) -> None:
    catalogs.tables[Name("public", "view")] = table(kind="m")
    lines = [insert(1, "public.view"), insert(1), delete(2, "public.view"), insert(9, "pgcopydb.sentinel")]
    assert fed(transformer, [BEGIN, *lines, COMMIT]) == [
        """INSERT INTO "public"."t" ("id", "v") OVERRIDING SYSTEM VALUE VALUES ('1', 'x');""",
        'REFRESH MATERIALIZED VIEW "public"."view";',
    ]
    assert fed(transformer, [BEGIN, COMMIT]) == []


def test_tables_of_one_truncate(transformer: Transformer, catalogs: Catalogs) -> None:
    """Those at one position belong together, each once. Partitions say for themselves what is empty."""
    catalogs.tables[Name("public", "parted")] = table(kind="p", only_partitions=True)
    catalogs.tables[Name("public", "whole")] = table(kind="p")
    lines = [
        *(row(f"public.{name}: TRUNCATE: (no-flags)", 200) for name in ("t", "parted", "u", "t")),
        row("public.t: TRUNCATE: restart_seqs", 300),
        row("public.parted: TRUNCATE: (no-flags)", 400),
        row("public.whole: TRUNCATE: cascade", 500),
        insert(1),
    ]
    assert fed(transformer, [BEGIN, *lines, COMMIT])[:-1] == [
        'TRUNCATE ONLY "public"."t", ONLY "public"."u";',
        'TRUNCATE ONLY "public"."t" RESTART IDENTITY;',
        'TRUNCATE "public"."whole";',
    ]


MISSING = insert(2, "public.missing")
NEW_COLUMN = row("public.t: INSERT: id[integer]:2 v[text]:'x' added[int]:1")
NO_IDENTITY = row("public.t: DELETE: (no-tuple-data)")


@pytest.mark.parametrize(
    ("before", "wrong", "error"),
    [
        (insert(1), MISSING, MissingTable),
        (delete(1), MISSING, MissingTable),
        (row("public.u: TRUNCATE: (no-flags)"), MISSING, MissingTable),
        (insert(1), row("public.t, public.missing: TRUNCATE: (no-flags)"), MissingTable),
        (insert(1), NEW_COLUMN, SchemaMismatch),
        (delete(1), NEW_COLUMN, SchemaMismatch),
        (insert(1), NO_IDENTITY, StateError),
        (delete(1), NO_IDENTITY, StateError),
        (insert(1), row("public.t: INSERT: id[integer]:1 v[text]:unchanged-toast-datum"), StateError),
    ],
)
def test_a_line_that_does_not_fit_has_changed_nothing(
    before: bytes, wrong: bytes, error: type[Exception], transformer: Transformer, catalogs: Catalogs
) -> None:
    """It may be fed again when the target is mended; what came before is there once."""
    out = fed(transformer, [BEGIN, before])
    for _ in range(3):
        with pytest.raises(error):
            fed(transformer, [wrong])
        transformer.forget()
    catalogs.tables[Name("public", "missing")] = table()
    catalogs.tables[Name("public", "t")] = table(columns="id v added")
    if error is not StateError:
        out += fed(transformer, [wrong])
    out += fed(transformer, [COMMIT])
    again = Transformer(catalogs.facts, decoder_of(Plugin.TEST_DECODING))
    assert out == fed(again, [BEGIN, before, *([] if error is StateError else [wrong]), COMMIT])


def test_a_truncated_table_that_is_gone_when_it_is_asked_for_again(
    transformer: Transformer, catalogs: Catalogs
) -> None:
    fed(transformer, [BEGIN, row("public.u: TRUNCATE: (no-flags)")])
    gone = catalogs.tables.pop(Name("public", "u"))
    for _ in range(2):
        with pytest.raises(MissingTable):
            fed(transformer, [COMMIT])
    catalogs.tables[Name("public", "u")] = gone
    assert fed(transformer, [COMMIT]) == ['TRUNCATE ONLY "public"."u";']


@pytest.mark.parametrize(
    "lines",
    [
        [BEGIN, BEGIN],
        [BEGIN, insert(1), change_line("K", Lsn(50))],
        [BEGIN, insert(1), change_line("E", Lsn(50))],
        [BEGIN, COMMIT, insert(1)],
        [BEGIN, COMMIT, COMMIT],
        [change_line("K", Lsn(5)), insert(1)],
        [change_line("R", Lsn(5)), COMMIT],
    ],
)
def test_lines_that_cannot_follow_each_other(lines: list[bytes], transformer: Transformer) -> None:
    fed(transformer, lines[:-1])
    with pytest.raises(CorruptState, match="cannot follow the one before it: lines are missing"):
        fed(transformer, lines[-1:])


def test_a_transaction_over_several_files(transformer: Transformer) -> None:
    fed(transformer, [insert(1), change_line("X", Lsn(1 << 24)), insert(2), COMMIT])
    fed(transformer, [BEGIN, change_line("X", Lsn(2 << 24)), insert(2), change_line("X", Lsn(3 << 24)), COMMIT])
