"""In which tablespaces things are put on the target: those of the source's names, others by ``--tablespace-map``, or
none with ``--no-tablespaces``.

Reads what has a tablespace of its own on the source (``placed_object``), and which tablespaces the target has.
pg_restore names a tablespace as the source does. Where one has another name on the target it restores without
tablespaces: tables are then moved while they are empty, and what is made later is made under a ``default_tablespace``
of its own. That is done too where a used tablespace is the default of the target's database: by its name no partitioned
table can be put there.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pgcopydb.bootstrap.archive import ArchiveEntry
from pgcopydb.bootstrap.options import RestoreOptions
from pgcopydb.bootstrap.queries import query
from pgcopydb.bootstrap.run_state import remembered
from pgcopydb.bootstrap.store import CatalogStore
from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Connection
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.names import Name, quote_ident
from pgcopydb.runtime.errors import TargetError, UsageError
from pgcopydb.runtime.stop import Stop

logger = logging.getLogger(__name__)

DATABASE_DEFAULT: Final = ""
"""As ``default_tablespace`` has it: where the database is."""

TABLESPACE_MAP: Final = "tablespace_map"
"""The setting of the store that says what ``--tablespace-map`` said."""

_NO_TABLESPACES: Final = "no_tablespaces"

_BATCH: Final = 200
"""Tables that are moved in one transaction: each takes a lock and a file."""

_MOVES: Final = {
    "TABLE": "ALTER TABLE ONLY {name} SET TABLESPACE {tablespace}",
    "MATERIALIZED VIEW": "ALTER MATERIALIZED VIEW {name} SET TABLESPACE {tablespace}",
}
_PAIR: Final = re.compile(r'\s*(?:"((?:[^"]|"")+)"|([^="]+?))\s*=\s*(?:"((?:[^"]|"")+)"|([^="]+?))\s*')
_SHARED: Final = "pg_global"


def parse_map(pairs: Collection[str]) -> dict[str, str]:
    """From ``old=new`` each, names as they are in the catalogs or in double quotes. Raises ``UsageError``."""
    found: dict[str, str] = {}
    for pair in pairs:
        match = _PAIR.fullmatch(pair)
        if match is None:
            raise UsageError(
                f"--tablespace-map: {pair!r} is not OLD=NEW",
                hint='Write the name on the source, =, the name on the target; a name that holds = in quotes: "a=b".',
            )
        old, new = (
            (quoted or "").replace('""', '"') or bare for quoted, bare in (match.group(1, 2), match.group(3, 4))
        )
        if _SHARED in {old, new}:
            raise UsageError(
                f"--tablespace-map: {pair!r}: nothing of a database is in {_SHARED}",
                hint="It holds what all databases of a server share. Take another tablespace.",
            )
        if found.setdefault(old, new) != new:
            raise UsageError(
                f"--tablespace-map maps {old} both to {found[old]} and to {new}", hint="Give each name once."
            )
    return found


@dataclass(frozen=True, slots=True)
class Placement:
    """``mapped``: what the operator said. ``default``: the tablespace of the target's database."""

    wanted: bool = True
    mapped: Mapping[str, str] = field(default_factory=dict)
    default: str = "pg_default"
    placed: Mapping[tuple[int, int], str] = field(default_factory=dict)
    """Tablespaces on the source, by the address of what is in them."""

    def on_target(self, tablespace: str | None) -> str:
        """A name of the target; ``DATABASE_DEFAULT`` where none has to be said."""
        if tablespace is None:
            return DATABASE_DEFAULT
        name = self.mapped.get(tablespace, tablespace)
        return DATABASE_DEFAULT if name == self.default else name

    @property
    def renames(self) -> bool:
        """Whether pg_restore cannot do it by itself."""
        return self.wanted and any(self.on_target(name) != name for name in set(self.placed.values()))

    def of_entry(self, entry: ArchiveEntry) -> str:
        """Where the object of an archive's entry is put."""
        return self.on_target(self.placed.get(entry.address))

    def groups(self, entries: Sequence[ArchiveEntry]) -> Iterator[tuple[str, list[ArchiveEntry]]]:
        """Those to be made in each tablespace; at last what goes to the default or needs none, in its order."""
        by_name: dict[str, list[ArchiveEntry]] = {}
        for entry in entries:
            by_name.setdefault(self.of_entry(entry), []).append(entry)
        last = by_name.pop(DATABASE_DEFAULT, [])
        yield from by_name.items()
        if last:
            yield DATABASE_DEFAULT, last


def read_tablespaces(connection: Connection) -> tuple[dict[str, bool], str]:
    """Whether this role may create in each, and which is the database's default."""
    rows = connection.execute(query("tablespaces")).fetchall()
    return {row[0]: row[1] for row in rows}, next(row[0] for row in rows if row[2])


def placement_of(store: CatalogStore, connection: Connection, options: RestoreOptions) -> Placement:
    """What holds for this run; ``connection`` is to the target. ``TargetError`` where a tablespace is missing."""
    mapped = remembered(store, TABLESPACE_MAP, dict(options.tablespace_map) or None, "--tablespace-map") or {}
    if remembered(store, _NO_TABLESPACES, options.no_tablespaces or None, "--no-tablespaces"):
        return Placement(wanted=False)
    placed = {
        (row["catalog_oid"], row["oid"]): row["tablespace"]
        for row in store.rows("SELECT catalog_oid, oid, tablespace FROM placed_object")
    }
    with server_errors(Side.TARGET, "reading the tablespaces of the target"):
        there, default = read_tablespaces(connection)
    missing = sorted({mapped.get(name, name) for name in placed.values()} - set(there))
    if missing:
        raise TargetError(
            f"the target has no tablespace {', '.join(missing)}, and what is placed there on the source would have"
            " nowhere to go",
            hint="Create it (CREATE TABLESPACE … LOCATION …), name another with --tablespace-map OLD=NEW, or leave"
            " placement out with --no-tablespaces. Nothing was changed.",
        )
    return Placement(mapped=mapped, default=default, placed=placed)


def move_tables(
    store: CatalogStore, connection: Connection, entries: Sequence[ArchiveEntry], placement: Placement, stop: Stop
) -> None:
    """Put what these entries have made where it belongs; nothing has rows yet, and doing it again changes nothing."""
    statements = list(_moves(store, entries, placement))
    for start in range(0, len(statements), _BATCH):
        stop.check()
        with server_errors(Side.TARGET, "moving empty tables to their tablespaces"), connection.transaction():
            for statement in statements[start : start + _BATCH]:
                connection.execute(statement.encode())
    logger.info("Moved %d empty tables and materialized views to their tablespaces", len(statements))


def _moves(store: CatalogStore, entries: Sequence[ArchiveEntry], placement: Placement) -> Iterator[str]:
    for entry in entries:
        tablespace = placement.of_entry(entry)
        form = _MOVES.get(entry.kind)
        if form is None or tablespace == DATABASE_DEFAULT:
            continue
        row = store.row("SELECT schema, name FROM placed_object WHERE catalog_oid = ? AND oid = ?", entry.address)
        assert row is not None  # noqa: S101  what is placed stands there
        yield form.format(name=Name(row["schema"], row["name"]).sql, tablespace=quote_ident(tablespace))
