"""Whether the target can hold the source's text, and sort it: encoding, locale of the database, collations.

Equal encodings take every byte as it is. Different ones are converted by the server where UTF-8 is the target's and
the source knows what its bytes mean; anything else is refused, for it would fail in the middle or lose something.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import psycopg

from pgcopydb.bootstrap.findings import Finding, Severity
from pgcopydb.bootstrap.options import CloneOptions
from pgcopydb.bootstrap.queries import query
from pgcopydb.postgres.connect import Connection
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.filters import FilterRules
from pgcopydb.postgres.names import Name, quote_ident, quote_literal

_PROBE: Final = "pgcopydb_preflight"
PROVIDERS: Final = {"c": "libc", "i": "icu", "b": "builtin"}


@dataclass(frozen=True, slots=True)
class DatabaseLocale:
    encoding: str
    collate: str
    ctype: str
    provider: str
    locale: str

    @property
    def sorts_as(self) -> str:
        """What decides the order of text."""
        if self.provider == "c":
            return f"{self.collate}/{self.ctype}"
        return f"{PROVIDERS.get(self.provider, self.provider)} {self.locale}"


@dataclass(frozen=True, slots=True)
class NeededCollation:
    """``own``: a user made it, so that it is made anew; else it comes with the server."""

    name: Name
    own: bool
    provider: str
    collate: str
    ctype: str
    locale: str

    def create(self, schema: str) -> str:
        """A statement that makes one like it, under the same name."""
        provider = PROVIDERS.get(self.provider, self.provider)
        options = f"provider = {provider}, " + (
            f"lc_collate = {quote_literal(self.collate)}, lc_ctype = {quote_literal(self.ctype)}"
            if self.provider == "c"
            else f"locale = {quote_literal(self.locale)}"
        )
        return f"CREATE COLLATION {Name(schema, self.name.name).sql} ({options})"

    @property
    def where(self) -> str:
        return f"{self.collate}/{self.ctype} of libc" if self.provider == "c" else f"{self.locale} of ICU"


def read_locale(connection: Connection) -> DatabaseLocale:
    row: Sequence[str] = connection.execute(query("database_locale")).fetchone() or ("UTF8", "C", "C", "c", "")
    return DatabaseLocale(*row)


def read_collations(source: Connection) -> list[NeededCollation]:
    rows = source.execute(query("needed_collations")).fetchall()
    return [NeededCollation(Name(row[0], row[1]), *row[2:]) for row in rows]


def check_locale(connection: Connection, database: str, source: DatabaseLocale) -> Iterator[Finding]:
    """Findings about the target's database."""
    target = read_locale(connection)
    if target.encoding == source.encoding:
        if target.sorts_as != source.sorts_as:
            yield Finding(
                Severity.WARNING,
                Side.TARGET,
                "collation",
                f"is {target.sorts_as} here and {source.sorts_as} on the source: text sorts differently",
            )
        return
    converted = target.encoding == "UTF8" and source.encoding != "SQL_ASCII"
    if converted:
        remark = ": the server converts all text"
    elif source.encoding == "SQL_ASCII":
        remark = ": nobody knows which encoding its bytes are in, so that they cannot be converted"
    else:
        remark = ": not every text of the source can be stored"
    yield Finding(
        Severity.NOTE if converted else Severity.ERROR,
        Side.TARGET,
        "encoding",
        f"is {target.encoding} here and {source.encoding} on the source{remark}",
        f"CREATE DATABASE {quote_ident(database)} TEMPLATE template0 ENCODING {quote_literal(source.encoding)}"
        f" LC_COLLATE {quote_literal(source.collate)} LC_CTYPE {quote_literal(source.ctype)};",
    )


def check_collations(
    connection: Connection, needed: Sequence[NeededCollation], options: CloneOptions
) -> Iterator[Finding]:
    """What this server's libc or ICU does not have. Inside a transaction that is rolled back."""
    # What uses a collation may be left out.
    severity = Severity.ERROR if options.filters == FilterRules() else Severity.WARNING
    there = {
        row[0]
        for row in connection.execute(
            "SELECT collname FROM pg_catalog.pg_collation WHERE collnamespace = 'pg_catalog'::regnamespace"
            " AND collencoding IN (-1, (SELECT encoding FROM pg_catalog.pg_database"
            " WHERE datname = current_database()))"
        ).fetchall()
    }
    for each in needed:
        if each.own:
            refusal = None if options.restore.skip_collations else collation_refusal(connection, each)
            if refusal is None:
                continue
            message = f"cannot be made here: {refusal}"
        elif each.name.schema != "pg_catalog" or each.name.name in there:
            continue
        else:
            message = "is used on the source, and this server does not have it"
        yield Finding(
            severity,
            Side.TARGET,
            f"collation {each.name}",
            message,
            f"install the locale {each.where} on the target's host, then restart it"
            + (" and run pg_import_system_collations('pg_catalog')" if not each.own else ""),
        )


def collation_refusal(connection: Connection, collation: NeededCollation) -> str | None:
    """What the server says that cannot make a collation like this; nothing of it remains."""
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(f"CREATE SCHEMA {_PROBE}".encode())
            connection.execute(collation.create(_PROBE).encode())
    except psycopg.errors.InsufficientPrivilege:
        return None  # of the schema: said of its own
    except psycopg.Error as exc:
        return exc.diag.message_primary or str(exc)
    return None
