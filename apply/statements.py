"""Changes of rows as SQL that does the same on the target, one line each.

Pure. Every value is a string literal, which the server reads as the column's type: what Postgres wrote comes back as
Postgres reads it. Columns that the target computes are left to it. What identifies a row is decided here; whether
exactly as many rows were found is checked by whoever runs the statement.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from pgcopydb.apply.changes import Action, Column, RowChange, Truncate, Unchanged, Value
from pgcopydb.postgres.names import Name
from pgcopydb.runtime.errors import StateError

_PARTITIONED: Final = "p"
ANY_ROWS: Final = " -- *"
"""Behind a statement that may touch any number of rows."""
_SPECIAL: Final = re.compile(r"['\\\n\r]")
_ESCAPED: Final = re.compile(r"[\\\n\r]")
_IN_LITERAL: Final = str.maketrans({"'": "''", "\\": "\\\\", "\n": "\\n", "\r": "\\r"})
_IN_NAME: Final = str.maketrans({'"': '""', "\\": "\\\\", "\n": "\\000a", "\r": "\\000d"})


class Comparison(StrEnum):
    """How a value of a column is told from all others, where no key does it."""

    EXACT = "exact"
    """By ``=``."""
    BOTH = "both"
    """By ``=``, which an index may serve, and by its text: 1.0 and 1.00 are equal, and two values."""
    TEXT = "text"
    """By its text: its type has no ``=``, or none that is about what it holds."""


@dataclass(frozen=True, slots=True)
class TableFacts:
    """What is known of a table.

    ``key``: columns that identify a row on the source, empty when only all columns do, or nothing. ``computed``:
    generated columns of the target. ``always``: its identity columns ``GENERATED ALWAYS``, which an UPDATE may not set.
    ``operators``: what takes the place of ``=`` for columns whose type has one elsewhere than in ``pg_catalog``.
    ``casts``: what is put behind a constant that a column is compared with, where its type has to be said.
    ``kind``: ``relkind`` on the target. ``source_types``: the columns that the source has now; ``defaults``: of those.
    ``only_partitions``: its rows on the source are those of its partitions.
    ``into``: the target's table that takes the place of this one, where that has another name; ``kind`` and the columns
    are its. ``bound``: the condition that rows of this one meet there, empty where none tells them from others'.
    ``source_computed``: generated columns of the source, ``never_logged`` those of them that no change holds.
    ``converted``: types on the target of columns that have another one on the source.
    """

    key: frozenset[str]
    computed: frozenset[str] = frozenset()
    always: frozenset[str] = frozenset()
    comparisons: Mapping[str, Comparison] = field(default_factory=dict)
    operators: Mapping[str, str] = field(default_factory=dict)
    casts: Mapping[str, str] = field(default_factory=dict)
    kind: str = "r"
    source_types: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, str] = field(default_factory=dict)
    only_partitions: bool = False
    into: Name | None = None
    bound: str = ""
    source_computed: frozenset[str] = frozenset()
    never_logged: frozenset[str] = frozenset()
    converted: Mapping[str, str] = field(default_factory=dict)


def one_line_ident(name: str) -> str:
    """A quoted identifier without a newline in it."""
    if "\n" in name or "\r" in name:
        return f'U&"{name.translate(_IN_NAME)}"'
    return '"' + name.replace('"', '""') + '"'


def one_line_literal(text: str) -> str:
    """A string constant without a newline in it, whatever ``standard_conforming_strings`` is."""
    if _SPECIAL.search(text) is None:
        return f"'{text}'"
    if _ESCAPED.search(text) is None:
        return f"'{text.replace(chr(39), chr(39) * 2)}'"
    return f"E'{text.translate(_IN_LITERAL)}'"


def table_sql(table: Name) -> str:
    """For use in a statement."""
    return f"{one_line_ident(table.schema)}.{one_line_ident(table.name)}"


def rows_of(table: Name, facts: TableFacts) -> str:
    """The rows of the table itself: those of tables that inherit from it have changes of their own."""
    return table_sql(table) if facts.kind == _PARTITIONED else f"ONLY {table_sql(table)}"


def insert_head(change: RowChange, facts: TableFacts) -> str:
    """What comes before the rows of an INSERT, for rows with the columns of this one."""
    names = ", ".join(one_line_ident(column.name) for column in change.new if column.name not in facts.computed)
    return f"INSERT INTO {table_sql(change.relation)} ({names}) OVERRIDING SYSTEM VALUE VALUES "  # noqa: S608  all quoted


def insert_row(change: RowChange, facts: TableFacts) -> str:
    """One row of an INSERT. Empty parentheses stand for a row without columns, which ``insert_statement`` knows."""
    return f"({', '.join(_literals(change.new, facts))})"


def insert_statement(head: str, rows: Sequence[str]) -> str:
    """One INSERT."""
    if rows[0] == "()":
        table = head.removeprefix("INSERT INTO ").partition(" (")[0]
        return f"INSERT INTO {table} SELECT FROM generate_series(1, {len(rows)});"
    return f"{head}{', '.join(rows)};"


def update_statements(change: RowChange, facts: TableFacts, *, keep_no_op: bool = False) -> list[str]:
    """None when nothing is left to set; two when an identity column that cannot be set may have changed.

    Raises ``StateError`` when nothing tells which row it is.
    """
    old = {column.name: column.value for column in change.identity}
    condition = _condition(change, facts)
    always = [column for column in change.new if column.name in facts.always]
    if any(column.name in old and old[column.name] != column.value for column in always):
        return [_written_again(change, facts, condition)]
    kept = facts.computed | facts.always
    # Without an old row the key is what it was.
    same = old or {column.name: column.value for column in change.new if column.name in facts.key}
    assigned = [
        f"{one_line_ident(column.name)} = {_literal(column.value)}"
        for column in change.new
        if column.name not in kept
        and not isinstance(column.value, Unchanged)
        and (keep_no_op or column.name not in same or same[column.name] != column.value)
    ]
    unknown = [column for column in always if column.name not in same]
    found: list[str] = []
    if unknown:
        differs = " OR ".join(f"NOT ({_same(column, facts)})" for column in unknown)
        found = [f"{_written_again(change, facts, f'{condition} AND ({differs})')}{ANY_ROWS}"]
    if assigned:
        table = rows_of(change.relation, facts)
        found.append(f"UPDATE {table} SET {', '.join(assigned)} WHERE {condition};")  # noqa: S608  all quoted
    return found


def _written_again(change: RowChange, facts: TableFacts, condition: str) -> str:
    """A row in the place of the one that is there, which keeps what the message does not have."""
    given = {column.name: column.value for column in change.new if not isinstance(column.value, Unchanged)}
    names = [name for name in dict.fromkeys((*given, *facts.comparisons)) if name not in facts.computed]
    values = ", ".join(_literal(given[name]) if name in given else f"gone.{one_line_ident(name)}" for name in names)
    return (
        f"WITH gone AS (DELETE FROM {rows_of(change.relation, facts)} WHERE {condition} RETURNING *)"  # noqa: S608
        f" INSERT INTO {table_sql(change.relation)} ({', '.join(map(one_line_ident, names))}) OVERRIDING SYSTEM VALUE"
        f" SELECT {values} FROM gone;"
    )


def delete_statement(change: RowChange, facts: TableFacts) -> str:
    """Raises ``StateError`` when nothing tells which row it is."""
    return f"DELETE FROM {rows_of(change.relation, facts)} WHERE {_condition(change, facts)};"  # noqa: S608


def delete_key(change: RowChange, facts: TableFacts) -> tuple[tuple[str, ...], str] | None:
    """Columns and values of a key by which several rows can be deleted at once; None when there is none."""
    columns = identity_of(change, facts)
    if not (facts.key and columns):
        return None
    if any(column.value is None or isinstance(column.value, Unchanged) for column in columns):
        return None
    if any(column.name in facts.operators for column in columns):
        return None  # IN compares with the = that the session's path leads to
    values = ", ".join(_constant(column, facts) for column in columns)
    return tuple(column.name for column in columns), f"({values})" if len(columns) > 1 else values


def delete_by_keys(table: Name, facts: TableFacts, columns: Sequence[str], keys: Sequence[str]) -> str:
    """One DELETE for all rows with these keys."""
    names = ", ".join(one_line_ident(name) for name in columns)
    left = f"({names})" if len(columns) > 1 else names
    return f"DELETE FROM {rows_of(table, facts)} WHERE {left} IN ({', '.join(keys)});"  # noqa: S608  all quoted


def truncate_statement(change: Truncate, partitioned: Iterable[Name] = ()) -> str:
    """One statement for all relations, as on the source: foreign keys between them allow nothing else.

    The source's CASCADE has reached every relation that is listed; on the target it must not reach others.
    ``partitioned``: those that are partitioned on the target, which cannot be truncated alone.
    """
    whole = set(partitioned)
    tables = ", ".join(f"{'' if name in whole else 'ONLY '}{table_sql(name)}" for name in change.relations)
    return f"TRUNCATE {tables}{' RESTART IDENTITY' if change.restart_identity else ''};"


def emptied_part(table: Name, facts: TableFacts) -> str:
    """A partition of the source is truncated whose rows the target has among others."""
    return f"DELETE FROM {rows_of(table, facts)} WHERE {facts.bound};{ANY_ROWS}"  # noqa: S608  the server's own words


def refresh_statement(view: Name) -> str:
    return f"REFRESH MATERIALIZED VIEW {table_sql(view)};"


def row_statements(change: RowChange, facts: TableFacts) -> list[str]:
    """One change by itself."""
    if change.action is Action.INSERT:
        return [insert_statement(insert_head(change, facts), [insert_row(change, facts)])]
    return update_statements(change, facts) if change.action is Action.UPDATE else [delete_statement(change, facts)]


def identity_of(change: RowChange, facts: TableFacts) -> tuple[Column, ...]:
    """The columns that tell which row it is: the key alone where it is known, for it has an index."""
    columns = change.identity or change.new
    key = tuple(column for column in columns if column.name in facts.key)
    if len(key) == len(facts.key) and key:
        return key
    return change.identity


def _condition(change: RowChange, facts: TableFacts) -> str:
    columns = identity_of(change, facts)
    if not (columns or change.sparse) or any(isinstance(column.value, Unchanged) for column in columns):
        table = table_sql(change.relation)
        raise StateError(
            f"{change.action.name} on {change.relation}: nothing in the message tells which row was changed",
            hint=f"On the source: ALTER TABLE {table} REPLICA IDENTITY FULL; or give it a primary key. This change was "
            "logged without: make it on the target by hand, or begin again.",
        )
    if facts.key and {column.name for column in columns} <= facts.key:
        return " AND ".join(_equals(column, facts) for column in columns)
    if change.sparse:
        # Columns of the source alone: one that only the target has is not known to have been NULL.
        given = {column.name for column in columns}
        every = [column.name for column in change.new] or list(facts.source_types)
        columns += tuple(Column(name, "", None) for name in every if name not in given and name in facts.comparisons)
    compared = [column for column in columns if column.name not in facts.computed]
    where = " AND ".join(_same(column, facts) for column in compared)
    table = rows_of(change.relation, facts)
    # Rows that are equal in all columns are interchangeable; exactly one of them is meant.
    if facts.kind == _PARTITIONED:
        return f"(tableoid, ctid) IN (SELECT tableoid, ctid FROM {table} WHERE {where} LIMIT 1)"  # noqa: S608
    return f"ctid = (SELECT ctid FROM {table} WHERE {where} LIMIT 1)"  # noqa: S608


def _equals(column: Column, facts: TableFacts) -> str:
    name = one_line_ident(column.name)
    if column.value is None:
        return f"{name} IS NULL"
    return f"{name} {facts.operators.get(column.name, '=')} {_constant(column, facts)}"


def _constant(column: Column, facts: TableFacts) -> str:
    """A value to compare a column with."""
    return f"{_literal(column.value)}{facts.casts.get(column.name, '')}"


def _same(column: Column, facts: TableFacts) -> str:
    name = one_line_ident(column.name)
    comparison = facts.comparisons.get(column.name, Comparison.TEXT)
    if column.value is None:
        # Of a row with a NULL in each field, IS NULL is true too.
        return f"{name}::text IS NULL" if comparison is Comparison.TEXT else f"{name} IS NULL"
    if comparison is Comparison.EXACT:
        return _equals(column, facts)
    # As the type prints it, which a cast to text does not: that of inet adds /32, that of char takes blanks away. By
    # its own collation a text may be equal to others.
    by_text = f"pg_catalog.format('%s', {name}) COLLATE pg_catalog.\"C\" = {_printed(column, facts)}"
    if comparison is Comparison.BOTH:
        return f"{_equals(column, facts)} AND {by_text}"
    # NULL is printed as nothing.
    return by_text if column.value else f"{name} IS NOT NULL AND {by_text}"


def _printed(column: Column, facts: TableFacts) -> str:
    """A value as the target's type prints it."""
    converted = facts.converted.get(column.name)
    if converted is None:
        return _literal(column.value)
    return f"pg_catalog.format('%s', {_literal(column.value)}::{converted})"


def _literals(columns: Iterable[Column], facts: TableFacts) -> list[str]:
    return [_literal(column.value) for column in columns if column.name not in facts.computed]


def _literal(value: Value) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, Unchanged):
        raise StateError(
            "a new row lacks a value that was too large to be logged again",
            hint="This change cannot be made from what was logged: make it on the target by hand, or begin again.",
        )
    return one_line_literal(value)
