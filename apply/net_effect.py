"""Many changes as few statements: what the lines of SQL files come to when all of them are one transaction.

Reads lines as ``statements`` writes them; gives back lines that leave the target as the given ones would, one after the
other. Changes of one row, told by its key, become one, and those of a table a few statements: deletions, then updates,
then insertions. A line that names no key, or is of a form that is not known here, keeps its place among those of its
table; a TRUNCATE, and a line of a table that was named to be left alone, keeps it among all. Pure. It holds where
neither triggers nor foreign keys look at the states in between; whether that is so is the caller's to know, as is what
to do when a statement is refused, for a value that is unique may be in two rows for a moment that the source never had.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from pgcopydb.apply.line_forms import (
    DELETE_HEAD_END,
    INSERT_HEAD_END,
    Delete,
    Insert,
    Update,
    Values,
    delete_form,
    find_literals,
    find_values,
    in_rows,
    insert_form,
    known,
    split_literals,
    update_form,
)
from pgcopydb.apply.sql_lines import expected_rows, table_of

_WINDOW_BYTES: Final = 4 << 20
"""Of lines that are looked at together."""
_STATEMENT_ROWS: Final = 1000
_STATEMENT_BYTES: Final = 1 << 17
_LONGEST_LINE: Final = 1 << 16
"""A longer one holds large values or many rows already: it gains nothing."""

Key = tuple[bytes, ...]
"""The literals of a key."""


@dataclass(slots=True)
class _Phase:
    """Changes of one table that may change places: each row is told by the same key, and has one change.

    ``pending``: insertions that nothing else has come behind, as they were written; where nothing does, their rows need
    not be looked at.
    """

    rows: bytes = b""
    keys: tuple[bytes, ...] = ()
    deleted: dict[Key, None] = field(default_factory=dict)
    updated: dict[Key, tuple[tuple[bytes, ...], Values]] = field(default_factory=dict)
    inserted: dict[Key, tuple[Insert, Values]] = field(default_factory=dict)
    pending: list[tuple[Insert, bytes, int]] = field(default_factory=list)

    def update(self, form: Update, key: Key, values: Values) -> bool:
        """False when it cannot be told what the two come to: then it has to follow all that is here."""
        if form.sets_key or not self._told_by(form.rows, form.keys):
            return False
        if key in self.inserted:
            return self._change_inserted(form, key, values)
        before = self.updated.get(key)
        if before is None:
            if key in self.deleted:
                return False
            self.updated[key] = (form.columns, values)
        elif before[0] == form.columns:
            self.updated[key] = (form.columns, values)
        else:
            both = {**dict(zip(*before, strict=True)), **dict(zip(form.columns, values, strict=True))}
            self.updated[key] = (tuple(both), list(both.values()))
        return True

    def delete(self, form: Delete, keys: Sequence[Key]) -> bool:
        """As ``update``."""
        if not self._told_by(form.rows, form.keys):
            return False
        if len(set(keys)) != len(keys) or any(key in self.deleted and key not in self.inserted for key in keys):
            return False
        for key in keys:
            if self.inserted.pop(key, None) is None:
                self.updated.pop(key, None)
                self.deleted[key] = None
        return True

    def statements(self) -> Iterator[bytes]:
        yield from self._deletions()
        yield from self._updates()
        yield from self._insertions()

    def _told_by(self, rows: bytes, keys: tuple[bytes, ...]) -> bool:
        if not self.keys:
            self.rows, self.keys = rows, keys
        return self.keys == keys and (not self.pending or self._look_at_pending())

    def _look_at_pending(self) -> bool:
        found: dict[Key, tuple[Insert, Values]] = {}
        for form, text, count in self.pending:
            if any(name not in form.columns for name in self.keys):
                return False
            places = [form.columns.index(name) for name in self.keys]
            rows = in_rows(text, find_values(text), len(form.columns), brackets=2)
            if rows is None or len(rows) != count:
                return False
            for values in rows:
                key = tuple([values[place] for place in places])
                if key in found or key in self.inserted or key in self.updated:
                    return False
                found[key] = (form, values)
        self.inserted.update(found)
        self.pending = []
        return True

    def _change_inserted(self, form: Update, key: Key, values: Values) -> bool:
        insert, row = self.inserted[key]
        if any(name not in insert.columns for name in form.columns):
            return False
        for name, value in zip(form.columns, values, strict=True):
            row[insert.columns.index(name)] = value
        return True

    def _deletions(self) -> Iterator[bytes]:
        for keys in _pieces([b", ".join(key) for key in self.deleted]):
            if len(self.keys) == 1:
                yield b"DELETE FROM %s WHERE %s IN (%s);%s" % (
                    self.rows,
                    self.keys[0],
                    b", ".join(keys),
                    _end(len(keys)),
                )
                continue
            values = self._values(self.keys, [b"(%s)" % key for key in keys])
            yield b"DELETE FROM %s AS t USING %s WHERE %s;%s" % (self.rows, values, self._joined(), _end(len(keys)))

    def _updates(self) -> Iterator[bytes]:
        by_columns: dict[tuple[bytes, ...], list[tuple[Key, Values]]] = {}
        for key, (columns, values) in self.updated.items():
            by_columns.setdefault(columns, []).append((key, values))
        for columns, changes in by_columns.items():
            if len(changes) == 1:
                yield self._one_update(columns, *changes[0])
                continue
            assigned = b", ".join([b"%s = v.%s" % (name, name) for name in columns])
            rows = [b"(%s)" % b", ".join([*key, *values]) for key, values in changes]
            for piece in _pieces(rows):
                source = self._values(self.keys + columns, piece)
                end = _end(len(piece))
                yield b"UPDATE %s AS t SET %s FROM %s WHERE %s;%s" % (self.rows, assigned, source, self._joined(), end)

    def _one_update(self, columns: tuple[bytes, ...], key: Key, values: Values) -> bytes:
        assigned = b", ".join([b"%s = %s" % pair for pair in zip(columns, values, strict=True)])
        where = b" AND ".join([b"%s = %s" % pair for pair in zip(self.keys, key, strict=True)])
        return b"UPDATE %s SET %s WHERE %s;\n" % (self.rows, assigned, where)

    def _insertions(self) -> Iterator[bytes]:
        by_form: dict[Insert, list[tuple[bytes, int]]] = {}
        for form, values in self.inserted.values():
            by_form.setdefault(form, []).append((b"(%s)" % b", ".join(values), 1))
        for form, text, count in self.pending:
            by_form.setdefault(form, []).append((text, count))
        for form, texts in by_form.items():
            for piece in _pieces_of_rows(texts):
                count = sum(number for _, number in piece)
                yield b"%s%s%s;%s" % (
                    form.head,
                    INSERT_HEAD_END,
                    b", ".join([text for text, _ in piece]),
                    _end(count),
                )

    def _values(self, names: tuple[bytes, ...], rows: Sequence[bytes]) -> bytes:
        """Rows as a table ``v``. The first of them is equal to none and gives the columns the types that the target's
        have at this moment, in which the server reads all the others."""
        row_type = b"NULL::%s" % self.rows.removeprefix(b"ONLY ")
        first = b", ".join([b"(%s).%s" % (row_type, name) for name in names])
        return b"(VALUES (%s), %s) AS v(%s)" % (first, b", ".join(rows), b", ".join(names))

    def _joined(self) -> bytes:
        return b" AND ".join([b"t.%s = v.%s" % (name, name) for name in self.keys])


@dataclass(slots=True)
class NetEffect:
    """What was added since the last ``take``. ``apart``: tables whose lines keep their place among all others.

    ``size``: bytes of lines; ``changes``: how many rows were changed by all lines that ever were added.
    """

    apart: Collection[bytes] = frozenset()
    size: int = 0
    changes: int = 0
    _tables: dict[bytes, list[_Phase | bytes]] = field(default_factory=dict)
    _updates: dict[tuple[bytes, ...], Update] = field(default_factory=dict)
    _inserts: dict[bytes, Insert] = field(default_factory=dict)
    _deletes: dict[bytes, Delete] = field(default_factory=dict)

    def add(self, line: bytes) -> bool:
        """False for one that keeps its place among all: it comes behind what ``take`` gives, and was not added."""
        if len(line) > _LONGEST_LINE:
            added = False
        elif line.startswith(b"UPDATE "):
            added = self._add_update(line)
        elif line.startswith(b"INSERT "):
            added = self._add_insert(line)
        else:
            added = line.startswith(b"DELETE ") and self._add_delete(line)
        if not added:
            table = table_of(line)
            if table is None or table in self.apart:
                return False
            self._tables.setdefault(table, []).append(line)
            self.changes += max(0, expected_rows(line))
        self.size += len(line)
        return True

    def take(self) -> Iterator[bytes]:
        tables, self._tables, self.size = self._tables, {}, 0
        for phases in tables.values():
            for phase in phases:
                if isinstance(phase, bytes):
                    yield phase
                else:
                    yield from phase.statements()

    def _add_update(self, line: bytes) -> bool:
        shape, literals = split_literals(line)
        form = known(self._updates, shape, update_form)
        if form is None or form.table in self.apart:
            return False
        count = len(form.columns) - len(form.nulls)
        key = tuple(literals[count:])
        values = literals[:count]
        for place in form.nulls:
            values.insert(place, b"NULL")
        phase = self._phase(form.table)
        if not phase.update(form, key, values):
            if form.sets_key:
                return False
            phase = self._new_phase(form.table)
            phase.update(form, key, values)
        self.changes += 1
        return True

    def _add_insert(self, line: bytes) -> bool:
        head, found, rest = line.partition(INSERT_HEAD_END)
        form = known(self._inserts, head, insert_form) if found else None
        if form is None or form.table in self.apart:
            return False
        count = expected_rows(line)
        self._phase(form.table).pending.append((form, rest[: rest.rindex(b";")], count))
        self.changes += count
        return True

    def _add_delete(self, line: bytes) -> bool:
        head, found, rest = line.partition(DELETE_HEAD_END)
        form = known(self._deletes, head, delete_form) if found else None
        if form is None or form.table in self.apart:
            return False
        text, width = rest[: rest.rindex(b";") - 1], len(form.keys)
        rows = in_rows(text, find_literals(text), width, brackets=2 if width > 1 else 0)
        if rows is None:
            return False
        keys = [tuple(row) for row in rows]
        if not self._phase(form.table).delete(form, keys) and not self._new_phase(form.table).delete(form, keys):
            return False
        self.changes += len(keys)
        return True

    def _phase(self, table: bytes) -> _Phase:
        phases = self._tables.get(table)
        if phases and isinstance(phases[-1], _Phase):
            return phases[-1]
        return self._new_phase(table)

    def _new_phase(self, table: bytes) -> _Phase:
        phase = _Phase()
        self._tables.setdefault(table, []).append(phase)
        return phase


def reduced(lines: Iterable[bytes], net: NetEffect) -> Iterator[bytes]:
    """What lines come to, a bounded number of them at a time. ``net`` is empty before and after."""
    for line in lines:
        if net.size + len(line) > _WINDOW_BYTES:
            yield from net.take()
        if not net.add(line):
            yield from net.take()
            net.changes += max(0, expected_rows(line))
            yield line
    yield from net.take()


def _end(count: int) -> bytes:
    return b" -- %d\n" % count if count > 1 else b"\n"


def _pieces(rows: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Each for one statement."""
    for piece in _pieces_of_rows([(row, 1) for row in rows]):
        yield [row for row, _ in piece]


def _pieces_of_rows(texts: Iterable[tuple[bytes, int]]) -> Iterator[list[tuple[bytes, int]]]:
    piece: list[tuple[bytes, int]] = []
    size = rows = 0
    for text, count in texts:
        if piece and (rows + count > _STATEMENT_ROWS or size + len(text) > _STATEMENT_BYTES):
            yield piece
            piece, size, rows = [], 0, 0
        piece.append((text, count))
        size += len(text)
        rows += count
    if piece:
        yield piece
