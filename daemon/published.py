"""What pgoutput's publications leave out, found when the end position is reached.

UPDATE and DELETE of a table without a replica identity are not published, for the source's own would fail; and a table
that was made since the publications, outside of a partitioned one that they have, is not in them. Reads the source's
catalogs and its counters of changed rows; keeps those of the beginning in ``unpublished.json``. Counters are lost in a
crash, so that after a restart of the source they say nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pgcopydb.daemon.identity import followed_tables, without_identity
from pgcopydb.daemon.plugins import Plugin
from pgcopydb.daemon.stream import Stream
from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Connection
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.filters import Fate
from pgcopydb.postgres.names import Name
from pgcopydb.postgres.selection import Selection, load_selection, select_later
from pgcopydb.runtime.errors import CorruptState, PartialFailure
from pgcopydb.runtime.sealed import read_sealed, write_sealed
from pgcopydb.runtime.workdir import WorkDir

_SHOWN: Final = 10
_COUNTERS: Final = """
SELECT n.nspname, c.relname,
       pg_catalog.pg_stat_get_tuples_updated(c.oid) + pg_catalog.pg_stat_get_tuples_deleted(c.oid)
  FROM unnest(%s::text[], %s::text[]) AS wanted (schema, name)
  JOIN pg_catalog.pg_namespace n ON n.nspname = wanted.schema
  JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name
"""
_SINCE: Final = """
SELECT concat_ws(' ', pg_catalog.pg_postmaster_start_time(), pg_catalog.pg_stat_get_db_stat_reset_time(oid))
  FROM pg_catalog.pg_database WHERE datname = current_database()
"""
_PUBLISHED: Final = "SELECT schemaname, tablename FROM pg_catalog.pg_publication_tables WHERE pubname = ANY (%s)"


def remember_counters(source: Connection, workdir: WorkDir, selection: Selection) -> None:
    """Before the slot is made: a change that is counted later may be one that the slot has."""
    found = _counters(source, without_identity(followed_tables(source, Plugin.PGOUTPUT, selection)))
    tables = [{"schema": name.schema, "name": name.name, "changed": count} for name, count in found.items()]
    content = {"since": _since(source), "tables": tables}
    write_sealed(workdir.unpublished, content)


def check_published(source: Connection, workdir: WorkDir, stream: Stream) -> None:
    """Raises ``PartialFailure`` when something was left out, or may have been."""
    changed = _changed(source, workdir)
    if changed:
        raise PartialFailure(
            f"everything that pgoutput published is applied, but rows of tables without a replica identity were or may "
            f"have been updated or deleted on the source: {_listed(changed)}",
            hint="Compare them with `pgcopydb compare data`, and copy again those that differ. REPLICA IDENTITY FULL "
            "before the slot is made, or --plugin test_decoding, spares that.",
        )
    found = made_since(source, workdir, stream)
    if found:
        raise PartialFailure(
            f"everything that pgoutput published is applied, but tables with rows were made on the source since:"
            f" {_listed(found)}",
            hint="Make them on the target and copy their rows.",
        )


def made_since(source: Connection, workdir: WorkDir, stream: Stream) -> list[Name]:
    """Tables with rows that pgoutput does not send."""
    with server_errors(Side.SOURCE, "reading what is published"):
        published = {Name(*row) for row in source.execute(_PUBLISHED, (list(stream.publications),)).fetchall()}
    selection = load_selection(workdir)
    tables = [table.name for table in followed_tables(source, Plugin.PGOUTPUT, selection) if not table.partitioned]
    return [
        name
        for name in tables
        if name not in published and select_later(source, selection, name).fate is Fate.KEPT and _has_rows(source, name)
    ]


def _changed(source: Connection, workdir: WorkDir) -> list[Name]:
    if not workdir.unpublished.exists():
        return []
    try:
        before = read_sealed(workdir.unpublished)
        counters = {Name(table["schema"], table["name"]): int(table["changed"]) for table in before["tables"]}
        since = str(before["since"])
    except (ValueError, KeyError, TypeError) as exc:
        raise CorruptState(
            f"{workdir.unpublished} does not hold counters: {exc}", hint="Compare both sides: `pgcopydb compare data`."
        ) from exc
    now = _counters(source, list(counters))
    known = since == _since(source)
    return sorted(name for name, count in now.items() if not known or count != counters[name])


def _has_rows(source: Connection, table: Name) -> bool:
    with server_errors(Side.SOURCE, f"looking into {table}"):
        row = source.execute(f"SELECT EXISTS (SELECT FROM ONLY {table.sql})".encode()).fetchone()  # noqa: S608  quoted
    return bool(row and row[0])


def _counters(source: Connection, tables: Sequence[Name]) -> dict[Name, int]:
    with server_errors(Side.SOURCE, "reading how many rows were changed"):
        values = ([table.schema for table in tables], [table.name for table in tables])
        return {Name(row[0], row[1]): int(row[2]) for row in source.execute(_COUNTERS, values).fetchall()}


def _since(source: Connection) -> str:
    with server_errors(Side.SOURCE, "reading since when it counts"):
        row = source.execute(_SINCE).fetchone()
    return str(row[0]) if row else ""


def _listed(tables: Sequence[Name]) -> str:
    more = f" and {len(tables) - _SHOWN} more" if len(tables) > _SHOWN else ""
    return ", ".join(str(table) for table in tables[:_SHOWN]) + more
