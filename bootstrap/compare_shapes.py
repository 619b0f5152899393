"""What is compared with what, where both sides do not divide their rows in the same way. Pure.

A partition is compared with the one of its name when both are in the same place; otherwise the whole is compared that
they are parts of. Columns are the source's: what else the target has is no difference of what was copied.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pgcopydb.bootstrap.type_changes import loses
from pgcopydb.postgres.names import Name, quote_ident
from pgcopydb.postgres.partitions import ORDINARY, PARTITIONED, Above, takes_rows_of

Columns = Mapping[str, str]
"""Types by name, in their order."""


@dataclass(frozen=True, slots=True)
class Shape:
    """One side. ``relations`` hold rows of their own, ``partitioned`` tables do not; ``above``: what stands above."""

    relations: Mapping[Name, Columns]
    partitioned: Mapping[Name, Columns]
    above: Mapping[Name, Above]

    def kinds(self) -> dict[Name, str]:
        return {**dict.fromkeys(self.relations, ORDINARY), **dict.fromkeys(self.partitioned, PARTITIONED)}

    def below(self, root: Name) -> set[Name]:
        return {name for name, levels in self.above.items() if any(level.parent == root for level in levels)}


def compared_whole(one: Shape, other: Shape) -> frozenset[Name]:
    """Tables whose rows are not in the same parts of them on both sides."""
    roots = {*_elsewhere(one, other), *_elsewhere(other, one)}
    above = {root: {level.parent for side in (one, other) for level in side.above.get(root, ())} for root in roots}
    return frozenset(root for root in roots if not above[root] & roots)


def _elsewhere(here: Shape, there: Shape) -> Iterator[Name]:
    kinds = there.kinds()
    for name in here.relations:
        into = takes_rows_of(name, here.above.get(name, ()), kinds, there.above.get(name, ()))
        if into is not None and (into != name or kinds[into] == PARTITIONED):
            yield into


def gathered(side: Shape, roots: frozenset[Name]) -> dict[Name, Columns]:
    """The relations of a side with these in the place of what is below them."""
    below = set().union(*(side.below(root) for root in roots))
    whole = {root: columns for root in roots if (columns := _columns(side, root)) is not None}
    return whole | {name: columns for name, columns in side.relations.items() if name not in below}


def _columns(side: Shape, name: Name) -> Columns | None:
    return side.partitioned.get(name, side.relations.get(name))


def values_of(source: Columns, target: Columns) -> list[str]:
    """Expressions that are the same on both sides where the target holds what the source does.

    A value of another type is compared as the target's, which it has become when it was copied.
    """
    return [_value(name, kind, target[name]) for name, kind in source.items()]


def _value(name: str, source: str, target: str) -> str:
    column = quote_ident(name)
    # A type that somebody has made has a schema before its name, and need not be on the source.
    if source == target or "." in target or loses(source, target):
        return column
    return f"CASE WHEN {column} IS NOT NULL THEN pg_catalog.format('%s', {column})::{target} END"
