"""Turn what happened into the SQL that makes it happen on the target.

Fed with the lines of change files in their order, gives back the lines of the SQL file. Consecutive inserts into one
table become one statement, consecutive deletes by a key too. What is true after each call: every line that was given
back follows from the lines that were fed, in their order; a line that raised has changed nothing, and may be fed again.
What a target transaction is, is decided here: one for each of the source.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pgcopydb.apply.changes import Action, Column, RowChange, Truncate
from pgcopydb.apply.decode import Decoder, Line
from pgcopydb.apply.known_rows import KnownForm, Literals, Messages, form_of
from pgcopydb.apply.sql_lines import Mark, mark_line
from pgcopydb.apply.statements import (
    TableFacts,
    delete_by_keys,
    delete_key,
    delete_statement,
    emptied_part,
    insert_head,
    insert_row,
    insert_statement,
    one_line_ident,
    refresh_statement,
    table_sql,
    truncate_statement,
    update_statements,
)
from pgcopydb.postgres.names import Name
from pgcopydb.runtime.errors import CorruptState, StateError, TargetError

_MERGED_ROWS: Final = 500
_MERGED_BYTES: Final = 1 << 17
_OWN_SCHEMA: Final = "pgcopydb"
_MATVIEW: Final = "m"
_PARTITIONED: Final = "p"
_MARKS: Final = {
    "B": Mark.BEGIN,
    "C": Mark.COMMIT,
    "R": Mark.ROLLBACK,
    "K": Mark.KEEPALIVE,
    "X": Mark.SWITCH,
    "E": Mark.ENDPOS,
}
_NOT_IN: Final[Mapping[bool | None, Collection[Mark]]] = {
    True: {Mark.BEGIN, Mark.KEEPALIVE, Mark.ENDPOS},
    False: {Mark.COMMIT},
}
"""What cannot come while a transaction is open, or while none is."""


class SchemaMismatch(TargetError):
    """A change does not fit the target's table."""


def _everything(_table: Name) -> bool:
    return True


def _itself(table: Name) -> Collection[Name]:
    return {table}


@dataclass(slots=True)
class _Merge:
    """Rows of one statement that is not complete yet. ``key`` is what a row must share to be added."""

    key: object = None
    parts: list[str] = field(default_factory=list)
    size: int = 0
    finish: Callable[[Sequence[str]], str] = "".join


@dataclass(slots=True)
class Transformer:
    """State between lines: what is being merged, and the views that the open transaction has refreshed."""

    facts: Callable[[Name], TableFacts]
    decode: Decoder
    messages: Messages | None = None
    keep_no_op: bool = False
    follows: Callable[[Name], bool] = _everything
    parts: Callable[[Name], Collection[Name]] = _itself
    """What of the source holds the rows of a table."""
    _merge: _Merge = field(default_factory=_Merge)
    _views: dict[Name, None] = field(default_factory=dict)
    _shapes: dict[tuple[Name, bool, tuple[str, ...]], None] = field(default_factory=dict)
    _truncate: tuple[str, bool, dict[Name, None]] | None = None
    _open: bool | None = None
    """Whether a transaction is; None until that is known, for the first line may be within one."""

    def forget(self) -> None:
        """The schema may have changed."""
        self._shapes.clear()
        if self.messages is not None:
            self.messages.forget()

    def feed(self, line: Line) -> bytes:
        """The SQL lines that are complete now. Raises ``SchemaMismatch`` or ``MissingTable`` for what does not fit."""
        mark = _MARKS.get(line.action)
        if mark is None:
            if self._open is False:
                raise _misplaced(line)
            return self._change(line)
        if mark in _NOT_IN.get(self._open, ()):
            raise _misplaced(line)
        out = self._discard() if mark is Mark.ROLLBACK else self._flush() + self._refresh()
        if mark is not Mark.SWITCH:
            self._open = mark is Mark.BEGIN
        return out + mark_line(mark, line.position, line.xid, line.timestamp)

    def _change(self, line: Line) -> bytes:
        message = bytes(line.message)
        known = None if self.messages is None else self.messages.find(message)
        if known is not None and known[0].fits(known[1]):
            return self._known(*known)
        change = self.decode(message)
        if isinstance(change, Truncate):
            return self._add_truncate(line.lsn, change)
        if change.relation.schema == _OWN_SCHEMA or not self.follows(change.relation):
            return b""
        facts = self.facts(change.relation)
        if facts.kind == _MATVIEW:
            self._views[change.relation] = None
            return b""
        self._check_shape(change, facts)
        if facts.into is not None:
            change = change._replace(relation=facts.into)
        if self.messages is not None and known is None and not self.keep_no_op:
            form = form_of(change, facts)
            if form is not None:
                self.messages.learn(message, form)
        return self._decoded(change, facts)

    def _known(self, form: KnownForm, values: Literals) -> bytes:
        picked = form.pick(values)
        if form.action is Action.UPDATE:
            text: str = form.text % picked
            return self._flush() + text.encode()
        if form.action is Action.INSERT:
            return self._add_row(form.merged_with, f"({', '.join(picked)})", lambda: form.head)
        key = f"({', '.join(picked)})" if len(picked) > 1 else picked[0]
        return self._add_key(form.merged_with, key, form.relation, form.facts, form.names)

    def _decoded(self, change: RowChange, facts: TableFacts) -> bytes:
        if change.action is Action.INSERT:
            key = ("I", change.relation, tuple(column.name for column in change.new))
            return self._add_row(key, insert_row(change, facts), lambda: insert_head(change, facts))
        if change.action is Action.DELETE:
            return self._delete(change, facts)
        statements = update_statements(change, facts, keep_no_op=self.keep_no_op)
        return self._flush() + b"".join(f"{statement}\n".encode() for statement in statements)

    def _add_row(self, key: object, row: str, head: Callable[[], str]) -> bytes:
        out = self._room_for(key, row)
        if not self._merge.parts:
            begin = head()
            self._merge = _Merge(key, [], 0, lambda rows: insert_statement(begin, rows))
        self._add(row)
        return out

    def _delete(self, change: RowChange, facts: TableFacts) -> bytes:
        found = delete_key(change, facts)
        if found is None:
            statement = delete_statement(change, facts)
            return self._flush() + f"{statement}\n".encode()
        names, values = found
        return self._add_key(("D", change.relation, names), values, change.relation, facts, names)

    def _add_key(self, key: object, values: str, table: Name, facts: TableFacts, names: tuple[str, ...]) -> bytes:
        out = self._room_for(key, values)
        if not self._merge.parts:
            self._merge = _Merge(key, [], 0, lambda keys: delete_by_keys(table, facts, names, keys))
        self._add(values)
        return out

    def _room_for(self, key: object, part: str) -> bytes:
        merge = self._merge
        full = len(merge.parts) >= _MERGED_ROWS or merge.size + len(part) > _MERGED_BYTES
        return self._flush() if merge.key != key or full else b""

    def _add(self, part: str) -> None:
        self._merge.parts.append(part)
        self._merge.size += len(part)

    def _flush_merge(self) -> bytes:
        merge = self._merge
        if not merge.parts:
            return b""
        self._merge = _Merge()
        text = merge.finish(merge.parts)
        count = f" -- {len(merge.parts)}" if len(merge.parts) > 1 else ""
        return f"{text}{count}\n".encode()

    def _add_truncate(self, lsn: str, change: Truncate) -> bytes:
        """wal2json tells the relations of one TRUNCATE one by one; they share a position."""
        relations = [name for name in change.relations if self.follows(name)]
        if not relations:
            return b""
        for name in relations:
            self.facts(name)
        out = self._flush_merge()
        if self._truncate is None or self._truncate[0] != lsn:
            out += self._flush_truncate()
            self._truncate = (lsn, change.restart_identity, {})
        self._truncate[2].update(dict.fromkeys(relations))
        return out

    def _flush_truncate(self) -> bytes:
        if self._truncate is None:
            return b""
        _, restart, found = self._truncate
        # Each partition of the source is listed too, and may be left out for itself.
        truncated, emptied = self._truncated([name for name in found if not self.facts(name).only_partitions], found)
        partitioned = [name for name, kind in truncated.items() if kind == _PARTITIONED]
        # Not before: the facts may have to be asked for again, and a table be gone by now.
        self._truncate = None
        out = b"".join(f"{statement}\n".encode() for statement in emptied)
        if truncated:
            change = Truncate(tuple(truncated), restart_identity=restart, cascade=False)
            out += f"{truncate_statement(change, partitioned)}\n".encode()
        return out

    def _truncated(self, names: Sequence[Name], found: Collection[Name]) -> tuple[dict[Name, str], list[str]]:
        """Tables of the target, with their kind, that lose all rows; and statements for those that lose some."""
        truncated: dict[Name, str] = {}
        emptied: list[str] = []
        for name in names:
            facts = self.facts(name)
            into = facts.into or name
            if into in truncated:
                continue
            if self._is_whole(name, facts, found):
                truncated[into] = facts.kind
            elif facts.bound:
                emptied.append(emptied_part(into, facts))
            else:
                raise SchemaMismatch(
                    f"{name} was truncated on the source, and {into} on the target holds its rows among others",
                    hint="No condition tells them from the others: begin again, with a new slot and a new copy.",
                )
        return truncated, emptied

    def _is_whole(self, name: Name, facts: TableFacts, found: Collection[Name]) -> bool:
        """Whether all that the target's table holds is truncated."""
        if facts.into is None and facts.kind != _PARTITIONED:
            return True
        parts = self.parts(facts.into or name)
        # One that is gone from the source since cannot be asked for its parts.
        return all(part in found for part in parts) if parts else facts.into is None

    def _flush(self) -> bytes:
        return self._flush_truncate() + self._flush_merge()

    def _refresh(self) -> bytes:
        """Once for each view: changes of its rows are what a REFRESH on the source was logged as."""
        out = b"".join(f"{refresh_statement(view)}\n".encode() for view in self._views)
        self._views.clear()
        return out

    def _discard(self) -> bytes:
        self._merge, self._truncate = _Merge(), None
        self._views.clear()
        return b""

    def _check_shape(self, change: RowChange, facts: TableFacts) -> None:
        columns = change.new or change.identity
        shape = (change.relation, bool(change.new), tuple(column.name for column in columns))
        if shape in self._shapes:
            return
        into = facts.into or change.relation
        for column in columns:
            if column.name not in facts.comparisons:
                raise SchemaMismatch(
                    f"column {column.name} of {change.relation} is not on the target, and the source has changed it",
                    hint=_how_to_add(into, column, facts),
                )
            if column.name in facts.computed and column.name in facts.source_types.keys() - facts.source_computed:
                raise SchemaMismatch(
                    f"column {column.name} of {into} is generated on the target, and the source has values of its own",
                    hint=f"On the target: ALTER TABLE {table_sql(into)} ALTER COLUMN {one_line_ident(column.name)} DROP"
                    " EXPRESSION; then go on with --resume.",
                )
        if change.new:
            _check_computed(into, {column.name for column in columns}, facts)
        self._shapes[shape] = None


def _check_computed(table: Name, given: Collection[str], facts: TableFacts) -> None:
    """What only the source computes has to come with the change."""
    for name in sorted((facts.source_computed & facts.comparisons.keys()) - facts.computed):
        if name in facts.never_logged or name not in given:
            raise SchemaMismatch(
                f"column {name} of {table} is generated on the source, which does not log its values, and on the target"
                " it is not",
                hint="Make it a generated column on the target too (other plugins than pgoutput send what is STORED),"
                " then go on with --resume.",
            )


def _how_to_add(table: Name, column: Column, facts: TableFacts) -> str:
    kind = facts.source_types.get(column.name) or column.type or "…"
    default = facts.defaults.get(column.name)
    statement = f"ALTER TABLE {table_sql(table)} ADD COLUMN {one_line_ident(column.name)} {kind}"
    if default is None:
        return f"On the target: {statement}; then go on with --resume."
    return (
        f"On the target: {statement} DEFAULT {' '.join(default.split())}; then go on with --resume. What it put into"
        " rows that were there before is not among the changes: compare the table in the end."
    )


def _misplaced(line: Line) -> CorruptState:
    return CorruptState(
        f"a line with action {line.action} cannot follow the one before it: lines are missing",
        hint="The file was damaged or edited. Restore it, or begin again with a new slot and a new copy.",
    )


def describe(error: StateError | TargetError, file: str, line: Line) -> str:
    """Where in the source's history a change is that does not fit."""
    return f"{file}, transaction {line.xid or '?'} at {line.lsn}: {error.message}"
