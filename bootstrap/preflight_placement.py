"""Whether what has a tablespace of its own on the source has one to go to on the target.

Reads both servers; changes nothing. The same rules as ``placement``, before there is a work directory to read from.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from pgcopydb.bootstrap.findings import Finding, Severity
from pgcopydb.bootstrap.options import CloneOptions
from pgcopydb.bootstrap.placement import read_tablespaces
from pgcopydb.bootstrap.properties import tablespaces_of
from pgcopydb.bootstrap.queries import query
from pgcopydb.postgres.connect import Connection
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.names import Name, quote_ident
from pgcopydb.postgres.selection import Selection
from pgcopydb.postgres.server import ServerFacts

_CONSTRAINT: Final = "constraint"
_PLURALS: Final = {"table": "tables", "index": "indexes", "materialized view": "materialized views"}


@dataclass(frozen=True, slots=True)
class UsedTablespaces:
    """Of the source: how many of each kind are in each tablespace, settings that name one, the database's own."""

    objects: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    """A setting that names it, by tablespace."""
    default: str = "pg_default"

    def names(self) -> set[str]:
        return {*self.objects, *self.settings, self.default}


def read_used(source: Connection, selection: Selection, settings: list[tuple[str, str, str]]) -> UsedTablespaces:
    """What filters leave out does not count."""
    objects: dict[str, Counter[str]] = {}
    for _, _, kind, schema, name, tablespace, table_schema, table in source.execute(query("placed_objects")).fetchall():
        kept = selection.keeps(Name(table_schema, table)) and Name(schema, name) not in selection.indexes
        if kept and kind != _CONSTRAINT:
            objects.setdefault(tablespace, Counter())[kind] += 1
    named = {
        tablespace: f"setting {name} of {f'role {role}' if role else 'the database'}"
        for role, name, value in settings
        for tablespace in tablespaces_of(name, value)
    }
    return UsedTablespaces(objects, named, read_tablespaces(source)[1])


def check_placement(
    connection: Connection,
    facts: ServerFacts,
    used: UsedTablespaces,
    options: CloneOptions,
    *,
    to_be_made: bool = False,
) -> Iterator[Finding]:
    """Findings about the target's tablespaces. ``to_be_made``: the database is not there yet."""
    if options.restore.no_tablespaces:
        return
    mapped = options.restore.tablespace_map
    there, default = read_tablespaces(connection)
    yield from _unused(used, mapped)
    for name, counts in sorted(used.objects.items()):
        place = mapped.get(name, name)
        held = ", ".join(f"{n} {kind if n == 1 else _PLURALS[kind]}" for kind, n in sorted(counts.items()))
        if place not in there:
            yield _missing(name, place, held, [*there])
        elif place != default and not there[place]:
            yield Finding(
                Severity.ERROR,
                Side.TARGET,
                f"tablespace {place}",
                f"{facts.user} cannot create in it, and {held} of the source go there (or use --no-tablespaces)",
                f"GRANT CREATE ON TABLESPACE {quote_ident(place)} TO {quote_ident(facts.user)};",
            )
    if not options.skip.db_properties:
        yield from _settings(used, mapped, there)
    if not to_be_made:
        yield from _default(facts, used, mapped, there, default)


def _missing(name: str, place: str, held: str, there: list[str]) -> Finding:
    near = difflib.get_close_matches(place, there, n=3)
    nearest = f"; the nearest names here are {', '.join(near)}" if near else ""
    mapped = f", {name} is mapped to it" if place != name else ""
    return Finding(
        Severity.ERROR,
        Side.TARGET,
        f"tablespace {place}",
        f"does not exist here, and {held} of the source go there{mapped}{nearest} (or name another with"
        f" --tablespace-map {name}=OTHER, or leave placement out with --no-tablespaces)",
        f"CREATE TABLESPACE {quote_ident(place)} LOCATION '…';",
    )


def _unused(used: UsedTablespaces, mapped: Mapping[str, str]) -> Iterator[Finding]:
    for name in sorted(set(mapped) - used.names()):
        near = difflib.get_close_matches(name, sorted(used.names()), n=3)
        yield Finding(
            Severity.WARNING,
            Side.SOURCE,
            "--tablespace-map",
            f"nothing on the source is in tablespace {name}",
            f"the nearest names are {', '.join(near)}" if near else None,
        )


def _settings(used: UsedTablespaces, mapped: Mapping[str, str], there: Mapping[str, bool]) -> Iterator[Finding]:
    for name, setting in sorted(used.settings.items()):
        place = mapped.get(name, name)
        if place not in there and name not in used.objects:
            yield Finding(
                Severity.WARNING,
                Side.TARGET,
                f"tablespace {place}",
                f"does not exist here, and {setting} names it (or use --tablespace-map {name}=OTHER)",
                f"CREATE TABLESPACE {quote_ident(place)} LOCATION '…';",
            )


def _default(
    facts: ServerFacts, used: UsedTablespaces, mapped: Mapping[str, str], there: Mapping[str, bool], default: str
) -> Iterator[Finding]:
    """Where the database is was decided when it was made; what is in it says nothing of its own."""
    place = mapped.get(used.default, used.default)
    if place == default:
        return
    create = "" if place in there else f"CREATE TABLESPACE {quote_ident(place)} LOCATION '…'; "
    yield Finding(
        Severity.WARNING,
        Side.TARGET,
        f"database {facts.dbname}",
        f"is in tablespace {default}, the source's database in {used.default}: what has no tablespace of its own"
        f" goes to {default}",
        f"{create}ALTER DATABASE {quote_ident(facts.dbname)} SET TABLESPACE {quote_ident(place)};"
        " -- from another database, while nobody is connected",
    )
