"""Changes of rows as SQL that does the same on the target.

Pure. Every value is a string literal, which the server reads as the column's type: what Postgres wrote comes back as
Postgres reads it. Columns that the target computes are left to it. What identifies a row is decided here; whether
exactly one row was found is checked by whoever runs the statement.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pgcopydb.apply.changes import Action, Column, RowChange, Truncate, Unchanged, Value
from pgcopydb.postgres.names import quote_ident, quote_literal
from pgcopydb.runtime.errors import StateError


@dataclass(frozen=True, slots=True)
class TableFacts:
    """What the target knows of a table.

    ``key``: columns of the primary key or of the replica identity index, empty when there is none. ``computed``:
    generated columns. ``always``: identity columns ``GENERATED ALWAYS``, which an UPDATE may not set.
    """

    key: frozenset[str]
    computed: frozenset[str]
    always: frozenset[str]


def insert_statement(changes: Sequence[RowChange], facts: TableFacts) -> str:
    """One INSERT for rows of one table that have the same columns."""
    columns = [column.name for column in changes[0].new if column.name not in facts.computed]
    table = changes[0].relation.sql
    if not columns:
        return "".join(f"INSERT INTO {table} DEFAULT VALUES;" for _ in changes)
    names = ", ".join(quote_ident(name) for name in columns)
    rows = ", ".join(f"({', '.join(_literals(change.new, facts))})" for change in changes)
    return f"INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE VALUES {rows};"  # noqa: S608  all quoted


def update_statement(change: RowChange, facts: TableFacts) -> str | None:
    """None when nothing is left to set. Raises ``StateError`` when nothing tells which row it is."""
    kept = facts.computed | facts.always
    assigned = [
        f"{quote_ident(column.name)} = {_literal(column.value)}"
        for column in change.new
        if column.name not in kept and not isinstance(column.value, Unchanged)
    ]
    if not assigned:
        return None
    return f"UPDATE {change.relation.sql} SET {', '.join(assigned)} WHERE {_condition(change, facts)};"  # noqa: S608


def delete_statement(change: RowChange, facts: TableFacts) -> str:
    """Raises ``StateError`` when nothing tells which row it is."""
    return f"DELETE FROM {change.relation.sql} WHERE {_condition(change, facts)};"  # noqa: S608


def truncate_statement(change: Truncate) -> str:
    """One statement for all relations, as on the source: foreign keys between them allow nothing else.

    The source's CASCADE has reached every relation that is listed; on the target it must not reach others.
    """
    tables = ", ".join(f"ONLY {name.sql}" for name in change.relations)
    return f"TRUNCATE {tables}{' RESTART IDENTITY' if change.restart_identity else ''};"


def row_statement(change: RowChange, facts: TableFacts) -> str | None:
    """One change as one statement."""
    if change.action is Action.INSERT:
        return insert_statement([change], facts)
    return update_statement(change, facts) if change.action is Action.UPDATE else delete_statement(change, facts)


def _condition(change: RowChange, facts: TableFacts) -> str:
    columns = change.identity or tuple(column for column in change.new if column.name in facts.key)
    if not columns or any(isinstance(column.value, Unchanged) for column in columns):
        raise StateError(
            f"{change.action.name} on {change.relation}: nothing in the message tells which row was changed",
            hint=f"On the source: ALTER TABLE {change.relation.sql} REPLICA IDENTITY FULL; or give it a primary key.",
        )
    return " AND ".join(_equals(column) for column in columns)


def _equals(column: Column) -> str:
    name = quote_ident(column.name)
    return f"{name} IS NULL" if column.value is None else f"{name} = {_literal(column.value)}"


def _literals(columns: Iterable[Column], facts: TableFacts) -> list[str]:
    return [_literal(column.value) for column in columns if column.name not in facts.computed]


def _literal(value: Value) -> str:
    if isinstance(value, Unchanged):
        raise StateError("a new row cannot have a value that is not in its message")
    return "NULL" if value is None else quote_literal(value)
