"""Which objects of the archive stand on the target, whatever their numbers there.

``fetch_addresses`` asks the source, right after pg_dump, how its objects are found by name (``object_address`` in the
store). ``standing`` reads the same of the target's own objects and compares. Both only read. An entry that can be
restored twice, or whose object comes into being with another one, never counts as standing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import orjson
import psycopg
from psycopg import sql

from pgcopydb.bootstrap.archive import ArchiveEntry
from pgcopydb.bootstrap.queries import query
from pgcopydb.bootstrap.store import CatalogStore
from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Connection
from pgcopydb.postgres.conninfo import Side

_CHUNK: Final = 1000
_FIRST_USER_OID: Final = 16384
_OF_THIS_DATABASE: Final = {
    "pg_subscription": "subdbid = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())"
}
"""For catalogs that all databases of a server share."""

_REPEATABLE: Final = frozenset({"ACL", "COMMENT", "SECURITY LABEL", "DEFAULT ACL", "PROCEDURAL LANGUAGE"})


@dataclass(frozen=True, slots=True)
class Address:
    """What ``pg_get_object_address`` takes."""

    type: str
    names: tuple[str, ...]
    args: tuple[str, ...]

    @property
    def rough(self) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
        """Without quotes: which type names are quoted depends on a server's keywords."""
        return (
            self.type,
            tuple(name.replace('"', "") for name in self.names),
            tuple(arg.replace('"', "") for arg in self.args),
        )


def fetch_addresses(store: CatalogStore, source: Connection, entries: Iterable[ArchiveEntry]) -> None:
    """Write ``object_address`` anew. An object that was dropped since pg_dump looked has none."""
    wanted = sorted({entry.address for entry in entries if entry.catalog_oid and entry.kind not in _REPEATABLE})
    with store.transaction():
        store.execute("DELETE FROM object_address")
        for start in range(0, len(wanted), _CHUNK):
            store.executemany(
                "INSERT INTO object_address VALUES (?, ?, ?, ?, ?)",
                list(_identify(source, wanted[start : start + _CHUNK])),
            )


def _identify(source: Connection, addresses: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, str, str, str]]:
    try:
        rows = _ask(source, addresses)
    except psycopg.Error as exc:
        # Before version 14 one dropped object fails the whole query.
        if exc.sqlstate is None or len(addresses) == 1:
            if exc.sqlstate is None:
                raise
            return
        for address in addresses:
            yield from _identify(source, [address])
        return
    for catalog_oid, oid, kind, names, args in rows:
        yield catalog_oid, oid, kind, orjson.dumps(names).decode(), orjson.dumps(args).decode()


def _ask(
    connection: Connection, addresses: Sequence[tuple[int, int]]
) -> list[tuple[int, int, str, list[str], list[str]]]:
    parameters = {"catalogs": [str(c) for c, _ in addresses], "objects": [str(o) for _, o in addresses]}
    rows = connection.execute(query("object_addresses"), parameters).fetchall()
    return [(row[0], row[1], row[2], row[3], row[4]) for row in rows]


def addresses_of(store: CatalogStore, entries: Iterable[ArchiveEntry]) -> dict[int, Address]:
    """By dump id; entries without a lasting address are left out."""
    known = {
        (row["catalog_oid"], row["oid"]): Address(
            row["type"], tuple(orjson.loads(row["names"])), tuple(orjson.loads(row["args"]))
        )
        for row in store.rows("SELECT * FROM object_address")
    }
    return {
        entry.dump_id: known[entry.address]
        for entry in entries
        if entry.kind not in _REPEATABLE and entry.address in known
    }


def standing(store: CatalogStore, target: Connection, entries: Sequence[ArchiveEntry]) -> set[int]:
    """The dump ids of the entries whose object exists on the target. ``target`` is in autocommit mode."""
    addresses = addresses_of(store, entries)
    wanted: dict[tuple[str, tuple[str, ...], tuple[str, ...]], list[int]] = {}
    for dump_id, address in addresses.items():
        wanted.setdefault(address.rough, []).append(dump_id)
    if not wanted:
        return set()
    found: set[int] = set()
    catalogs = sorted({entry.catalog_oid for entry in entries if entry.dump_id in addresses})
    with server_errors(Side.TARGET, "reading which objects stand on the target"):
        for there in _user_objects(target, catalogs):
            for dump_id in wanted.get(there.rough, ()):
                if addresses[dump_id] == there or _resolves(target, addresses[dump_id]):
                    found.add(dump_id)
    return found


def _user_objects(target: Connection, catalogs: Sequence[int]) -> list[Address]:
    """Only those that a user made; a list, because ``standing`` asks on the same connection meanwhile."""
    there = target.execute(query("object_catalogs"), {"catalogs": [str(oid) for oid in catalogs]}).fetchall()
    if not there:
        return []
    objects = sql.SQL(" UNION ALL ").join(
        sql.SQL("SELECT {}::oid AS catalog, oid AS object FROM pg_catalog.{} WHERE oid >= {} AND {}").format(
            sql.Literal(str(oid)),
            sql.Identifier(name),
            sql.Literal(_FIRST_USER_OID),
            sql.SQL(_OF_THIS_DATABASE.get(name, "true")),
        )
        for oid, name in there
    )
    rows = target.execute(
        sql.SQL(
            "SELECT a.type, a.object_names, a.object_args FROM ({}) AS o,"
            " LATERAL pg_catalog.pg_identify_object_as_address(o.catalog, o.object, 0) AS a WHERE a.type IS NOT NULL"
        ).format(objects)
    )
    return [Address(row[0], tuple(row[1]), tuple(row[2])) for row in rows]


def _resolves(target: Connection, address: Address) -> bool:
    try:
        target.execute(
            "SELECT FROM pg_catalog.pg_get_object_address(%s, %s::text[], %s::text[])",
            (address.type, list(address.names), list(address.args)),
        )
    except psycopg.Error as exc:
        if exc.sqlstate is None:
            raise
        return False
    return True
