"""Decide which table of the target takes the rows of a table of the source, which columns go over, and what is emptied.

Pure. The target's tables may have been made by somebody else: partitioned where the source's are not, or not, or in
another way; with their columns in another order, more of them, or of other types. No row gets a place in which it would
be another one: what stands in the way of that is a ``Problem``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pgcopydb.bootstrap.type_changes import loses
from pgcopydb.postgres.names import Name, quote_ident
from pgcopydb.postgres.partitions import ORDINARY, PARTITIONED, Above, takes_rows_of

_WITH_ROWS: Final = frozenset({ORDINARY, "f"})
_KINDS: Final = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}


@dataclass(frozen=True, slots=True)
class SourceTable:
    """``via``: the root that its rows have to be written through, though the target may have the table itself."""

    oid: int
    name: Name
    above: Above = ()
    via: Name | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """``required``: a row must have a value of it, and nothing but the row gives one."""

    name: str
    type: str
    generated: bool = False
    required: bool = False


@dataclass(frozen=True, slots=True)
class Unit:
    """What is emptied at once. ``tables``: the source's whose rows come into it, by oid, where they are more than one
    or a part of one; ``whole``: no table of the source whose rows belong into it is left out."""

    name: Name
    partitioned: bool
    tables: tuple[int, ...] = ()
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Route:
    """``columns``: those that go over. ``converted``: one of them has another type on the target."""

    into: Name
    partitioned: bool
    unit: Unit
    columns: tuple[str, ...]
    converted: bool = False

    @property
    def shared(self) -> bool:
        """Whether other tables' rows come into the same table, or may."""
        return bool(self.unit.tables)


@dataclass(frozen=True, slots=True)
class Routes:
    """Tables that are not here go into the table of their own name, which is like them."""

    by_oid: Mapping[int, Route] = field(default_factory=dict)
    lacking: frozenset[Name] = frozenset()
    """Partitioned tables of the source that the target does not have."""

    def reshaped(self, oid: int) -> bool:
        """Whether the source's indexes of a table are nothing for the target's."""
        route = self.by_oid.get(oid)
        return route is not None and (route.shared or route.partitioned)

    def emptied_with(self, oid: int, name: Name) -> Name:
        """What is emptied for a table's rows; ``name`` is its own."""
        route = self.by_oid.get(oid)
        return name if route is None else route.unit.name

    def shared_units(self) -> set[Unit]:
        return {route.unit for route in self.by_oid.values() if route.shared}

    def shared_roots(self) -> frozenset[Name]:
        return frozenset(unit.name for unit in self.shared_units())


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a table cannot be copied, and what mends it."""

    message: str
    fix: str


def destinations(
    tables: Iterable[SourceTable], kinds: Mapping[Name, str], there: Mapping[Name, Above]
) -> dict[int, Name]:
    """Where the rows of each go, by oid; tables that have no place are left out.

    ``kinds``: all relations of the target, by ``relkind``. ``there``: what stands above them.
    """
    found: dict[int, Name] = {}
    for table in tables:
        into = takes_rows_of(table.name, table.above, kinds, there.get(table.name, ()))
        if into == table.name and table.via is not None and kinds.get(table.via) == PARTITIONED:
            into = table.via
        if into is not None:
            found[table.oid] = into
    return found


def units_of(
    tables: Sequence[SourceTable],
    into: Mapping[int, Name],
    kinds: Mapping[Name, str],
    there: Mapping[Name, Above],
    above: Mapping[Name, Above],
    here: Mapping[Name, str],
) -> dict[int, Unit]:
    """What is emptied for each table: a partitioned table that another one's rows go into takes its partitions along.

    ``above``: what stands above each table of the source, those that are left out too. ``here``: all of the source,
    by ``relkind``.
    """
    destined = set(into.values())
    tops = {name: _top(name, destined, kinds, there.get(name, ())) for name in destined}
    members: dict[Name, list[SourceTable]] = {}
    for table in tables:
        if table.oid in into:
            members.setdefault(tops[into[table.oid]], []).append(table)
    missing = _left_out(here, above, there, {table.name for table in tables})
    units: dict[int, Unit] = {}
    for name, those in members.items():
        partitioned = kinds[name] == PARTITIONED
        alone = len(those) == 1 and into[those[0].oid] == those[0].name
        # What a partitioned table holds for others may have been copied by an earlier run.
        whole = name not in missing or (alone and not partitioned)
        unit = Unit(name, partitioned, () if alone and whole else tuple(table.oid for table in those), whole)
        units.update(dict.fromkeys((table.oid for table in those), unit))
    return units


def _top(name: Name, destined: set[Name], kinds: Mapping[Name, str], above: Above) -> Name:
    roots = (level.parent for level in reversed(above) if kinds.get(level.parent) == PARTITIONED)
    return next((root for root in roots if root in destined), name)


def _left_out(
    here: Mapping[Name, str], above: Mapping[Name, Above], there: Mapping[Name, Above], copied: set[Name]
) -> set[Name]:
    """Tables with rows of their own that are not copied, and all that stands above them: on the source, or what would
    be emptied with them on the target."""
    found: set[Name] = set()
    for name in {name for name, kind in here.items() if kind in _WITH_ROWS} - copied:
        chain = [name, *(level.parent for level in above.get(name, ()))]
        found.update(chain, (level.parent for each in chain for level in there.get(each, ()) if level.key))
    return found


def columns_of(
    table: Name, into: Name, here: Sequence[Column], there: Mapping[str, Column], *, binary: bool
) -> tuple[tuple[str, ...], bool, list[Problem]]:
    """The columns that go over, whether one of them has another type, and what forbids it.

    ``binary``: rows have to go in binary form, whose meaning is that of one type.
    """
    problems = [
        problem
        for column in here
        if (problem := _problem_of(table, into, column, there.get(column.name), binary=binary)) is not None
    ]
    names = {column.name for column in here}
    problems += [
        Problem(
            f"column {column.name} of {into} is NOT NULL without a default, and {table} on the source has none of that"
            " name",
            f"ALTER TABLE {into.sql} ALTER COLUMN {quote_ident(column.name)} SET DEFAULT ...; or ... DROP NOT NULL;",
        )
        for column in there.values()
        if column.required and not column.generated and column.name not in names
    ]
    # What both sides compute is left to the target.
    chosen = [column for column in here if not (column.generated and _is_generated(column, there))]
    if not chosen and any(not column.generated for column in there.values()):
        problems.append(Problem(f"{table} has no columns to copy, and {into} on the target has some", _LEAVE_OUT))
    converted = any(column.name in there and there[column.name].type != column.type for column in chosen)
    return tuple(column.name for column in chosen), converted, problems


def _is_generated(column: Column, there: Mapping[str, Column]) -> bool:
    return column.name in there and there[column.name].generated


def _problem_of(table: Name, into: Name, here: Column, there: Column | None, *, binary: bool) -> Problem | None:
    column = quote_ident(here.name)
    if there is None:
        return Problem(
            f"column {here.name} of {table} is not in {into} on the target",
            f"ALTER TABLE {into.sql} ADD COLUMN {column} {here.type};",
        )
    if there.generated and not here.generated:
        return Problem(
            f"column {here.name} of {table} holds values of its own, and {into} on the target generates it",
            f"ALTER TABLE {into.sql} ALTER COLUMN {column} DROP EXPRESSION;",
        )
    if there.generated or there.type == here.type:
        return None
    if loses(here.type, there.type):
        return Problem(
            f"column {here.name} of {table} is {here.type}, that of {into} on the target {there.type}, which does not"
            " keep every value as it is",
            f"ALTER TABLE {into.sql} ALTER COLUMN {column} TYPE {here.type};",
        )
    if binary:
        return Problem(
            f"column {here.name} of {table} is {here.type}, that of {into} on the target {there.type}, which reads"
            " another binary form",
            "leave out --copy-format binary",
        )
    return None


_LEAVE_OUT: Final = "leave it out with --filters"


def no_place(table: SourceTable) -> Problem:
    """Of a table that ``destinations`` has left out."""
    root = f", nor is {table.above[-1].parent}" if table.above else ""
    return Problem(f"table {table.name} is not on the target{root}", f"create it there, or {_LEAVE_OUT}")


def no_table(table: Name, into: Name, kind: str) -> Problem | None:
    """Why rows cannot go into what is on the target."""
    if kind in {ORDINARY, PARTITIONED}:
        return None
    return Problem(f"{into} on the target is {_KINDS[kind]}, {table} on the source a table", _LEAVE_OUT)
