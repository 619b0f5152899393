"""Which lines of a transaction remain when some tables have its changes in their rows."""

from __future__ import annotations

import pytest

from pgcopydb.apply.already_copied import AlreadyCopied
from pgcopydb.apply.changes import Action, Column, RowChange, Truncate
from pgcopydb.apply.statements import TableFacts, row_statements, truncate_statement
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.postgres.names import Name

PLAIN, QUOTED = Name("public", "t"), Name('s."x', 'a\nb"."c')
OTHER = Name("public", "other")
COPIED = AlreadyCopied({PLAIN: Lsn(100), QUOTED: Lsn(200)})


def changes(table: Name) -> list[bytes]:
    key = (Column("id", "int", "1"),)
    row = (*key, Column("v", "text", f'INSERT INTO "{OTHER.schema}"'))
    facts = TableFacts(frozenset({"id"}))
    made = [
        RowChange(Action.INSERT, table, row, ()),
        RowChange(Action.UPDATE, table, row, ()),
        RowChange(Action.DELETE, table, (), key),
    ]
    return [f"{line}\n".encode() for change in made for line in row_statements(change, facts)]


@pytest.mark.parametrize("kind", ["r", "p"])
@pytest.mark.parametrize(
    ("table", "commit", "remain"),
    [(PLAIN, 100, False), (PLAIN, 101, True), (QUOTED, 101, False), (QUOTED, 200, False), (QUOTED, 201, True)],
)
def test_rows_up_to_where_a_table_was_read_are_left_out(table: Name, commit: int, remain: bool, kind: str) -> None:
    facts = TableFacts(frozenset({"id"}), kind=kind)
    key = (Column("id", "int", "1"),)
    lines = [f"{line}\n".encode() for line in row_statements(RowChange(Action.DELETE, table, (), key), facts)]
    lines += changes(table)
    others = changes(OTHER)
    left = list(COPIED.left(lines + others, Lsn(commit)))
    assert left == (lines + others if remain else others)


def truncate(*tables: Name, identity: bool = False) -> bytes:
    return f"{truncate_statement(Truncate(tables, identity, cascade=False))}\n".encode()


def test_a_truncate_keeps_the_other_tables() -> None:
    before = [truncate(QUOTED, OTHER, PLAIN, identity=True), truncate(PLAIN)]
    assert list(COPIED.left(before, Lsn(50))) == [truncate(OTHER, identity=True)]
    assert list(COPIED.left(before, Lsn(150))) == [truncate(OTHER, PLAIN, identity=True), truncate(PLAIN)]
    assert list(COPIED.left(before, Lsn(300))) == before


def test_other_lines_remain() -> None:
    refresh = b'REFRESH MATERIALIZED VIEW "public"."t";\n'
    assert list(COPIED.left([refresh], Lsn(1))) == [refresh]
