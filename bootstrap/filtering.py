"""What filters leave out of the schema: with each table that goes, all that cannot be without it.

Reads the source's dependencies under the snapshot, writes ``left_out`` of the store: the addresses of all objects that
are not restored. What is true afterwards: nothing that is kept depends on something that is not. A kept table that
would is a ``ConfigError`` that names both.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from pgcopydb.bootstrap.archive import ArchiveEntry
from pgcopydb.bootstrap.queries import query
from pgcopydb.bootstrap.store import CatalogStore
from pgcopydb.postgres.connect import Connection, Endpoint
from pgcopydb.postgres.filters import Fate, FilterRules
from pgcopydb.postgres.names import Name, quote_ident
from pgcopydb.postgres.selection import EVERYTHING, Selection, load_selection, select
from pgcopydb.runtime.errors import ConfigError, StateError
from pgcopydb.runtime.logs import NOTICE
from pgcopydb.runtime.workdir import WorkDir

logger = logging.getLogger(__name__)

CLASS: Final = 1259
"""The number of ``pg_class``."""
_CONSTRAINT: Final = 2606
_NAMESPACE: Final = 2615
_EXTENSION: Final = 3079
_SHOWN: Final = 5
_WITH_ROWS: Final = frozenset("rpf")
_OWNED_BY: Final = "SEQUENCE OWNED BY"
_MISSED: Final = frozenset({"trigger", "policy"})
"""Kinds of parts of a kept table that change what it does when they are left out."""

Address = tuple[int, int]


def rules_of_run(workdir: WorkDir, rules: FilterRules, *, resume: bool) -> FilterRules:
    """The rules of a run that may be resumed. Raises ``StateError`` when they are not those that it began with."""
    if not resume or not workdir.exists():
        return rules
    begun = load_selection(workdir).rules
    if not rules:
        if begun:
            logger.warning("The earlier run was filtered: its %d rules hold, without --filters too", len(begun.rules))
        return begun
    if [(rule.section, rule.text) for rule in rules.rules] != [(rule.section, rule.text) for rule in begun.rules]:
        raise StateError(
            "the earlier run had other filters" if begun else "the earlier run had no filters",
            hint="Leave --filters out, to go on as it was begun; or begin again with --restart.",
        )
    return begun


def resolve(workdir: WorkDir, source: Endpoint, rules: FilterRules) -> None:
    """Let everything that follows changes know what is left out, before there are any."""
    if rules and not workdir.filters.exists():
        with source.connect("filters") as connection:
            select(connection, rules).save(workdir)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An object that goes, and the table that it is part of, if any."""

    address: Address
    type: str
    identity: str
    table: Name | None
    table_kind: str


def fetch_selection(connection: Connection, store: CatalogStore, workdir: WorkDir, rules: FilterRules) -> Selection:
    """Resolve the rules under the snapshot, and write what goes with what they leave out."""
    if not rules:
        return EVERYTHING
    selection = select(connection, rules)
    selection.save(workdir)
    named, gone = _resolved(connection, selection)
    extensions = _extensions(connection)
    hosts = {(_NAMESPACE, selection.schema_oids.get(name, 0)) for name in _hosts(extensions, selection)}
    rows = [(*each.address, each.type, each.identity) for each in gone if each.address not in hosts]
    rows += [(_EXTENSION, oid, "extension", name) for name, oid, _ in extensions if name in selection.extensions]
    store.executemany("INSERT OR IGNORE INTO left_out VALUES (?, ?, ?, ?)", rows)
    store.executemany("INSERT OR IGNORE INTO spared_sequence VALUES (?)", [(oid,) for oid in named.spared])
    return selection


class _Named(NamedTuple):
    """What filters leave out by themselves. ``spared``: sequences that stay though their owner goes.

    ``broken_keys``: foreign keys of kept tables whose rows would lack the ones that they refer to.
    """

    addresses: set[Address]
    spared: list[int]
    broken_keys: list[tuple[Any, ...]]


def _resolved(connection: Connection, selection: Selection) -> tuple[_Named, list[LeftOut]]:
    """With all that goes with it. Says what somebody should know; raises where a kept table cannot be without it."""
    named = _named(connection, selection)
    _warn_of_keys(named.broken_keys)
    gone = _closure(connection, named.addresses, named.spared)
    _check_kept(connection, selection, gone)
    return named, gone


def _named(connection: Connection, selection: Selection) -> _Named:
    tables = {
        selection.oids[name]
        for name, decision in selection.relations.items()
        if decision.fate is Fate.LEFT_OUT and name in selection.oids
    }
    roots = {(CLASS, oid) for oid in tables}
    roots |= {(CLASS, selection.oids[name]) for name in selection.indexes}
    roots |= {(_NAMESPACE, selection.schema_oids[name]) for name in selection.schemas}
    of_sequences = {
        "tables": [str(oid) for oid in tables],
        "schemas": [str(selection.schema_oids[name]) for name in selection.schemas],
    }
    spared = connection.execute(query("spared_sequences"), of_sequences).fetchall()
    without_rows = [
        str(selection.oids[name]) for name, decision in selection.relations.items() if decision.fate is Fate.NO_ROWS
    ]
    keys = connection.execute(query("broken_keys"), {"tables": without_rows}).fetchall() if without_rows else []
    roots |= {(_CONSTRAINT, row[0]) for row in keys}
    return _Named(roots, [row[0] for row in spared], keys)


def _warn_of_keys(broken_keys: Sequence[tuple[Any, ...]]) -> None:
    for _, schema, table, name, definition in broken_keys:
        logger.warning("The foreign key %s of %s.%s is left out: rows that it refers to are", name, schema, table)
        logger.warning(
            "fix: ALTER TABLE %s ADD CONSTRAINT %s %s NOT VALID;",
            Name(schema, table).sql,
            quote_ident(name),
            definition,
        )


def _closure(connection: Connection, roots: Iterable[Address], spared: Sequence[int]) -> list[LeftOut]:
    ordered = sorted(roots)
    parameters = {
        "catalogs": [str(catalog) for catalog, _ in ordered],
        "objects": [str(oid) for _, oid in ordered],
        "spared": [str(oid) for oid in spared],
    }
    rows = connection.execute(query("left_out"), parameters).fetchall()
    return [
        LeftOut((row[0], row[1]), row[2], row[3], None if row[5] is None else Name(row[4], row[5]), row[6] or "")
        for row in rows
    ]


def dependents(connection: Connection, selection: Selection, *, with_named: bool = False) -> list[LeftOut]:
    """What goes with what filters name. Raises as ``fetch_selection`` does."""
    named, gone = _resolved(connection, selection)
    return [each for each in gone if with_named or each.address not in named.addresses]


def addresses_left_out(connection: Connection, selection: Selection) -> set[Address]:
    """All that filters leave out, whether or not what is kept can be without it."""
    if not selection:
        return set()
    named = _named(connection, selection)
    return {each.address for each in _closure(connection, named.addresses, named.spared)}


def left_out_relations(connection: Connection, selection: Selection) -> set[int]:
    """Numbers of tables, views, sequences and indexes that are named or go with what is."""
    if not selection:
        return set()
    gone = (each.address for each in dependents(connection, selection, with_named=True))
    return {oid for catalog, oid in gone if catalog == CLASS}


def views_without_rows(connection: Connection, selection: Selection) -> list[int]:
    """Materialized views that are not refreshed: those that filters name, and those that read from them."""
    named = {
        (CLASS, selection.oids[name]) for name, decision in selection.relations.items() if decision.fate is Fate.NO_ROWS
    }
    views = {row[0] for row in connection.execute("SELECT oid::bigint FROM pg_catalog.pg_class WHERE relkind = 'm'")}
    roots = {address for address in named if address[1] in views}
    found = [each for each in _closure(connection, roots, []) if each.table_kind == "m"] if roots else []
    for each in found:
        if each.address not in roots:
            logger.warning("%s is not refreshed: it reads one whose rows are left out", _said(each))
    return [each.address[1] for each in found]


def _check_kept(connection: Connection, selection: Selection, gone: Sequence[LeftOut]) -> None:
    """Nothing of a table that is kept may go but what can be told."""
    addresses = {each.address for each in gone}
    for each in gone:
        if each.table is None or not selection.keeps(each.table) or each.table_kind not in _WITH_ROWS:
            continue
        if each.type in _MISSED:
            logger.warning("left out with what it needs: %s", _said(each))
        else:
            needs = _needs(connection, each.address, addresses)
            raise ConfigError(
                f"filters: table {each.table} is kept, but {_said(each)} needs {needs}, which is left out",
                hint=f"Leave {each.table} out too, or keep {needs}.",
            )
    for each in gone:
        logger.log(NOTICE, "left out by filters: %s", _said(each))


def _said(each: LeftOut) -> str:
    return f"{each.type} {each.identity}"


def _needs(connection: Connection, address: Address, gone: set[Address]) -> str:
    rows: list[tuple[Any, ...]] = connection.execute(
        "SELECT d.refclassid::bigint, d.refobjid::bigint,"
        " pg_catalog.pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid)"
        " FROM pg_catalog.pg_depend d WHERE d.classid = %s::oid AND d.objid = %s::oid AND d.deptype <> 'i'",
        address,
    ).fetchall()
    return next((str(row[2]) for row in rows if (row[0], row[1]) in gone), "something")


def _extensions(connection: Connection) -> list[tuple[str, int, str]]:
    """Name, number and schema."""
    rows = connection.execute(
        "SELECT e.extname, e.oid::bigint, n.nspname"
        " FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace"
    ).fetchall()
    return [(row[0], row[1], row[2]) for row in rows]


def _hosts(extensions: Iterable[tuple[str, int, str]], selection: Selection) -> set[str]:
    """Schemas without which an extension that is kept cannot be created."""
    return {schema for name, _, schema in extensions if name not in selection.extensions}


def left_out_addresses(store: CatalogStore) -> set[Address]:
    return {(row["catalog_oid"], row["oid"]) for row in store.rows("SELECT catalog_oid, oid FROM left_out")}


def relations_left_out(store: CatalogStore) -> set[int]:
    """Numbers of tables, views, sequences and indexes that are not restored."""
    return {oid for catalog, oid in left_out_addresses(store) if catalog == CLASS}


def select_entries(store: CatalogStore, entries: Sequence[ArchiveEntry]) -> list[ArchiveEntry]:
    """The archive's entries that filters keep."""
    gone = left_out_addresses(store)
    if not gone:
        return list(entries)
    spared = {row["oid"] for row in store.rows("SELECT oid FROM spared_sequence")}
    dropped = {entry.dump_id for entry in entries if entry.catalog_oid and entry.address in gone}
    orphans = {entry.dump_id for entry in entries if entry.catalog_oid == CLASS and entry.oid in spared}
    kept = [
        entry
        for entry in entries
        if entry.dump_id not in dropped
        and not (entry.catalog_oid == 0 and dropped.intersection(entry.depends))
        and not (entry.kind == _OWNED_BY and orphans.intersection(entry.depends))
    ]
    logger.info("Left out of the schema by filters: %d of %d entries", len(entries) - len(kept), len(entries))
    return kept


def dump_flags(connection: Connection, store: CatalogStore, selection: Selection) -> list[str]:
    """What pg_dump must not even look at: it locks what it dumps, which takes privileges.

    Schemas that are left out, but for those where an extension lives that is kept; tables that cannot be locked, and
    sequences that cannot be read.
    """
    if not selection:
        return []
    hosts = _hosts(_extensions(connection), selection)
    flags = [f"--exclude-schema={quote_ident(name)}" for name in selection.schemas if name not in hosts]
    relations = [str(oid) for oid in relations_left_out(store)]
    rows = connection.execute(
        "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c"
        " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.oid = ANY (%s::oid[]) AND c.relkind IN ('r', 'p', 'S')"
        " AND NOT pg_catalog.has_table_privilege(c.oid, 'SELECT') ORDER BY 1, 2",
        (relations,),
    ).fetchall()
    return [*flags, *(f"--exclude-table={Name(*row).sql}" for row in rows)]
