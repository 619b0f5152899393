"""Compare the schemas of both databases, in both directions, property by property.

Reads the catalogs of each side under one snapshot; what an extension brought is left to it. Both servers print what
they have themselves (``pg_get_viewdef`` and its like), and two majors may print one thing in two ways. What the older
one prints of a view is therefore read and printed again by the newer one, in a transaction that is rolled back.
Tablespaces of the source are compared under the names that they have on the target.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import psycopg

from pgcopydb.bootstrap.filtering import dependents
from pgcopydb.bootstrap.placement import Placement
from pgcopydb.bootstrap.properties import placed_setting
from pgcopydb.bootstrap.queries import query
from pgcopydb.bootstrap.snapshot import begin_under
from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Endpoint
from pgcopydb.postgres.filters import FilterRules
from pgcopydb.postgres.selection import select

logger = logging.getLogger(__name__)

_PARTS: Final = (
    *("schemas", "relations", "columns", "constraints", "indexes"),
    *("functions", "types", "triggers", "foreign", "search", "others"),
)
_TABLESPACE: Final = "tablespace"
_OWNERS: Final = frozenset({"owner"})
_GRANTS: Final = frozenset({"grants"})
_VIEWS: Final = frozenset({"view", "materialized view"})
_DEFINITION: Final = "definition"
_PARTS_OF_TABLES: Final = frozenset({"table constraint", "trigger", "rule", "policy"})
_OWNED_BY: Final = "owned by"
_NOTED: Final = frozenset({("extension", "version")})
"""Kinds and properties: a newer server has newer extensions."""


@dataclass(frozen=True, slots=True, order=True)
class SchemaObject:
    """``identity`` is quoted as in SQL."""

    kind: str
    identity: str

    def __str__(self) -> str:
        return f"{self.kind} {self.identity}"


@dataclass(frozen=True, slots=True)
class SchemaDifference:
    """``property`` is empty for an object that one side lacks; then that side's value is None, the other's empty."""

    object: SchemaObject
    property: str
    source: str | None
    target: str | None

    def __str__(self) -> str:
        if not self.property:
            return f"{self.object} is only on the {'target' if self.source is None else 'source'}"
        values = f"{_shown(self.source)} on the source, {_shown(self.target)} on the target"
        return f"{self.object}: {self.property} is {values}"


def _shown(value: str | None) -> str:
    return "nothing" if value is None else repr(value)


@dataclass(frozen=True, slots=True)
class SchemaComparison:
    """``counts``: objects of each kind, on the source and on the target. ``notes``: what may differ between servers."""

    differences: list[SchemaDifference]
    notes: list[SchemaDifference]
    counts: dict[str, tuple[int, int]]


Described = Mapping[SchemaObject, Mapping[str, str | None]]

_DATABASE: Final = SchemaObject("database", "-")
_SETTING: Final = "setting"
_PUBLIC: Final = SchemaObject("schema", "public")
_PUBLIC_CHANGED: Final = 15
"""From this version on it belongs to somebody else, and not everybody may create in it."""
_NO_MAP: Final[Mapping[str, str]] = {}


def compare_schema(
    source: Endpoint,
    target: Endpoint,
    rules: FilterRules,
    *,
    owners: bool = True,
    grants: bool = True,
    tablespaces: bool = True,
    tablespace_map: Mapping[str, str] = _NO_MAP,
    own_publications: Collection[str] = (),
) -> SchemaComparison:
    """``owners``, ``grants``, ``tablespaces``: whether these are compared. What filters leave out is not looked for.

    ``tablespace_map``: those that have another name on the target, by their name on the source. ``own_publications``:
    were made on the source for following changes.
    """
    ignored = (frozenset() if owners else _OWNERS) | (frozenset() if grants else _GRANTS)
    (one, of_source), (other, of_target) = _describe(source, ignored), _describe(target, ignored)
    own = {each for each in one if each.kind == "publication" and _plain(each.identity) in own_publications}
    one = {each: found for each, found in one.items() if each not in own}
    default = other[_DATABASE][_TABLESPACE] or ""
    one = placed(one, Placement(tablespaces, tablespace_map, default))
    other = placed(other, Placement(tablespaces, {}, default))
    if min(of_source, of_target) < _PUBLIC_CHANGED:
        one, other = ({each: found[each] for each in found if each != _PUBLIC} for found in (one, other))
    if of_source < of_target:
        one = {**one, **_printed_again(one, other, target)}
    elif of_target < of_source:
        other = {**other, **_printed_again(other, one, source)}
    left_out = _left_out(source, rules)
    found = [each for each in differing(one, other) if not _is_told(each, left_out)]
    notes = [each for each in found if (each.object.kind, each.property) in _NOTED]
    differences = [each for each in found if each not in notes]
    kinds = sorted({each.kind for each in [*one, *other]})
    counts = {
        kind: (sum(each.kind == kind for each in one), sum(each.kind == kind for each in other)) for kind in kinds
    }
    return SchemaComparison(differences, notes, counts)


def placed(described: Described, placement: Placement) -> Described:
    """With tablespaces under the target's names, none for the default of its database; or without any. Pure."""
    found: dict[SchemaObject, Mapping[str, str | None]] = {}
    for each, properties in described.items():
        if each.kind == _SETTING:
            name, value = each.identity.rpartition(" ")[2], properties["value"]
            there = value if value is None else placed_setting(name, value, placement)
            if there is not None or value is None:
                found[each] = {"value": there}
        elif _TABLESPACE not in properties:
            found[each] = properties
        elif placement.wanted:
            here = properties[_TABLESPACE]
            # The database's own is the default of what says none.
            named = placement.mapped.get(here or "", here) if each == _DATABASE else placement.on_target(here)
            found[each] = {**properties, _TABLESPACE: named or None}
        elif each != _DATABASE:
            found[each] = {name: value for name, value in properties.items() if name != _TABLESPACE}
    return found


def _printed_again(older: Described, newer: Described, printer: Endpoint) -> Described:
    """Views of the older side that look different, as the newer server prints them."""
    found: dict[SchemaObject, Mapping[str, str | None]] = {}
    with printer.connect("compare") as connection:
        for each, properties in older.items():
            text = properties.get(_DEFINITION)
            if each.kind not in _VIEWS or each not in newer or text is None or text == newer[each].get(_DEFINITION):
                continue
            try:
                with connection.transaction(force_rollback=True):
                    connection.execute(f"CREATE TEMPORARY VIEW pgcopydb_printed AS {text}".encode())
                    row = connection.execute(
                        "SELECT pg_catalog.pg_get_viewdef('pg_temp.pgcopydb_printed'::regclass)"
                    ).fetchone()
            except psycopg.Error as exc:
                # What it reads may not be there: then it does differ.
                logger.debug("%s cannot be read by the %s: %s", each, printer.side, exc)
                continue
            found[each] = {**properties, _DEFINITION: row[0] if row is not None else text}
    return found


def differing(one: Described, other: Described) -> Iterator[SchemaDifference]:
    """Pure. An object that one side lacks is one difference, and its columns and constraints none of their own."""
    missing = set(one.keys() ^ other.keys())
    wholes = {each.identity for each in missing if each.kind != "schema"}
    for each in sorted(one.keys() | other.keys()):
        if each in missing:
            if not _is_below(each.identity, wholes):
                yield SchemaDifference(each, "", "" if each in one else None, "" if each in other else None)
            continue
        for name, value in one[each].items():
            if other[each].get(name) != value:
                yield SchemaDifference(each, name, value, other[each].get(name))


def _is_below(identity: str, wholes: Collection[str]) -> bool:
    return any(sign == "." and identity[:end] in wholes for end, sign in enumerate(identity))


def _describe(endpoint: Endpoint, ignored: Collection[str]) -> tuple[Described, int]:
    """With the server's major version."""
    found: dict[SchemaObject, dict[str, str | None]] = {}
    with (
        endpoint.connect("compare") as connection,
        server_errors(endpoint.side, f"reading the schema of the {endpoint.side}"),
    ):
        begin_under(connection, None)
        for part in _PARTS:
            for kind, identity, name, value in connection.execute(query(f"schema_{part}")).fetchall():
                properties = found.setdefault(SchemaObject(kind, identity), {})
                if name not in ignored:
                    properties[name] = value
        return found, connection.info.server_version // 10_000


def _left_out(source: Endpoint, rules: FilterRules) -> set[str]:
    """Identities of what filters leave out, as this module writes them, and of what goes with it."""
    if not rules:
        return set()
    with source.connect("compare") as connection, server_errors(source.side, "reading what filters leave out"):
        selection = select(connection, rules)
        named_too = dependents(connection, selection, with_named=True)
        gone = {_own_identity(each.type, each.identity) for each in named_too}
    return {_plain(identity) for identity in gone | {*selection.schemas, *selection.extensions}}


def _own_identity(kind: str, identity: str) -> str:
    """As this module writes what ``pg_identify_object`` says to be on a table."""
    if kind not in _PARTS_OF_TABLES:
        return identity
    name, _, table = identity.rpartition(" on ")
    return f"{table}.{name}"


def _plain(identity: str) -> str:
    """Without quotes, which one writes and the other does not."""
    return identity.replace('"', "")


def _is_told(found: SchemaDifference, left_out: Collection[str]) -> bool:
    """Whether it follows from the filters."""
    identity = _plain(found.object.identity)
    if identity in left_out or _is_below(identity, left_out):
        return True
    # A sequence that another table needs stays when its owner goes.
    return found.property == _OWNED_BY and found.source is not None and _is_below(_plain(found.source), left_out)
