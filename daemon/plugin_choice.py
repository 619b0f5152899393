"""Which output plugin a stream uses, found out before its slot is made.

Reads the source; makes a temporary slot for a moment to see whether wal2json is there and what it can do. What is true
of the choice: the plugin carries every value of every table, or the operator has accepted that it does not.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import psycopg

from pgcopydb.daemon.identity import tables_that_may_hold_nan
from pgcopydb.daemon.plugins import NUMERIC_AS_STRING, TEST_DECODING_OPTIONS, WAL2JSON_OPTIONS, Plugin
from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Connection
from pgcopydb.postgres.conninfo import Side
from pgcopydb.runtime.errors import SourceError, UsageError

logger = logging.getLogger(__name__)

_PROBE_TIMEOUT: Final = "5s"
_BUSY: Final = "transactions of the source have been open for long, and a new slot waits for them"
_PLAIN_ENCODINGS: Final = frozenset({"UTF8", "SQL_ASCII"})
_SETTING: Final = "output_plugin_libraries"


@dataclass(frozen=True, slots=True)
class Choice:
    """``numeric_as_string``: wal2json prints numbers as strings, NaN and infinities among them."""

    plugin: Plugin
    numeric_as_string: bool = False


@dataclass(frozen=True, slots=True)
class Offer:
    """What the source's wal2json can do; ``refusal`` says why it cannot be used, empty when it can."""

    refusal: str = ""
    numeric_as_string: bool = False


def decide(asked: Plugin | None, offer: Offer | None, *, numeric_as_string: bool, may_hold_nan: bool) -> Choice:
    """The choice for what was asked for (None: the best). ``offer``: of wal2json, None when it was not asked for."""
    if asked not in {None, Plugin.WAL2JSON} or offer is None:
        return Choice(asked or Plugin.TEST_DECODING)
    if asked is not None and offer.refusal == _BUSY:
        raise SourceError(
            f"it cannot be found out what the source's wal2json can do: {_BUSY}",
            hint="See pg_stat_activity for them (xact_start), and try again when they have ended; test_decoding and "
            "pgoutput need not be tried.",
        )
    if asked is None:
        usable = not offer.refusal and offer.numeric_as_string
        return Choice(Plugin.WAL2JSON, numeric_as_string=True) if usable else Choice(Plugin.TEST_DECODING)
    if offer.refusal:
        raise SourceError(
            f"the source cannot use wal2json: {offer.refusal}",
            hint="Install the package for its major version (Debian: postgresql-NN-wal2json), or use test_decoding or "
            "pgoutput, which every server has.",
        )
    if numeric_as_string and not offer.numeric_as_string:
        raise SourceError(
            "the source's wal2json has no option numeric-data-types-as-string: it is older than 2.6",
            hint="Leave out --wal2json-numeric-as-string, or use test_decoding or pgoutput.",
        )
    if may_hold_nan and not offer.numeric_as_string:
        raise SourceError(
            "the source's wal2json is older than 2.6 and sends NULL for NaN and infinities, and there are columns that "
            "may hold them",
            hint="Use test_decoding or pgoutput; --wal2json-lossy-nan accepts it when there are no such values.",
        )
    return Choice(Plugin.WAL2JSON, offer.numeric_as_string)


def choose_plugin(source: Connection, asked: Plugin | None, numeric_as_string: bool, *, lossy_nan: bool) -> Choice:
    """Raises ``SourceError`` when what was asked for cannot be had."""
    if numeric_as_string and asked not in {None, Plugin.WAL2JSON}:
        raise UsageError(
            f"--wal2json-numeric-as-string does not go with --plugin {asked}", hint="Leave one of them out."
        )
    _check_allowed(source, asked)
    encoding = _encoding(source)
    if encoding not in _PLAIN_ENCODINGS:
        # The other two send the bytes of the database as they are.
        if asked not in {None, Plugin.PGOUTPUT}:
            raise SourceError(
                f"{asked} does not convert the encoding of the source, {encoding}, to UTF-8",
                hint="Use pgoutput, which does: --plugin pgoutput.",
            )
        asked = Plugin.PGOUTPUT
    if asked is Plugin.PGOUTPUT:
        _check_publishes(source)
    offer = _probe(source) if asked in {None, Plugin.WAL2JSON} else None
    risky = [] if offer is None or lossy_nan else tables_that_may_hold_nan(source)
    for name in risky[:3] if asked is Plugin.WAL2JSON else []:
        logger.info("table %s has columns that may hold NaN", name)
    choice = decide(asked, offer, numeric_as_string=numeric_as_string, may_hold_nan=bool(risky))
    if choice.plugin is Plugin.TEST_DECODING:
        choice = _test_decoding_or_less(source, asked)
    if asked is None or encoding not in _PLAIN_ENCODINGS:
        logger.info("Output plugin: %s", choice.plugin)
    return choice


def _encoding(source: Connection) -> str:
    with server_errors(Side.SOURCE, "reading the encoding of the source"):
        row = source.execute("SELECT current_setting('server_encoding')").fetchone()
    return str(row[0]) if row else ""


def _allowed(source: Connection) -> str | None:
    """The libraries that may be used; None where every one may."""
    with server_errors(Side.SOURCE, f"reading {_SETTING}"):
        row = source.execute("SELECT current_setting(%s, true)", (_SETTING,)).fetchone()
    return str(row[0]) if row and row[0] is not None else None


def _is_allowed(allowed: str | None, plugin: Plugin) -> bool:
    return allowed is None or plugin in {part.strip().strip('"') for part in allowed.split(",")}


def _check_allowed(source: Connection, asked: Plugin | None) -> None:
    allowed = _allowed(source)
    if asked is not None and not _is_allowed(allowed, asked):
        raise SourceError(
            f"the source does not allow the output plugin {asked}: {_SETTING} is {allowed}",
            hint=f"ALTER SYSTEM SET {_SETTING} = {allowed}, {asked}; SELECT pg_reload_conf();",
        )


def _test_decoding_or_less(source: Connection, asked: Plugin | None) -> Choice:
    """It is a package of its own on some systems; pgoutput is a part of every server."""
    allowed = _is_allowed(_allowed(source), Plugin.TEST_DECODING)
    refusal = _try(source, Plugin.TEST_DECODING, TEST_DECODING_OPTIONS) if allowed else f"{_SETTING} forbids it"
    if refusal in {"", _BUSY}:
        return Choice(Plugin.TEST_DECODING)
    if asked is not None:
        raise SourceError(
            f"the source cannot use test_decoding: {refusal}",
            hint="Install the server's contrib package, or use pgoutput, which every server has.",
        )
    _check_publishes(source)
    return Choice(Plugin.PGOUTPUT)


def _check_publishes(source: Connection) -> None:
    """pgoutput sends what publications say, and a standby cannot be given any."""
    with server_errors(Side.SOURCE, "asking whether it is a standby"):
        standby = source.execute("SELECT pg_catalog.pg_is_in_recovery()").fetchone()
    if standby == (True,):
        raise SourceError(
            "pgoutput needs publications, which cannot be made on a standby",
            hint="Use test_decoding or wal2json, or follow the primary.",
        )


def _probe(source: Connection) -> Offer:
    allowed = _allowed(source)
    if not _is_allowed(allowed, Plugin.WAL2JSON):
        return Offer(refusal=f"{_SETTING} is {allowed}")
    refusal = _try(source, Plugin.WAL2JSON, {**WAL2JSON_OPTIONS, **NUMERIC_AS_STRING})
    if not refusal:
        return Offer(numeric_as_string=True)
    return Offer(refusal=refusal if refusal == _BUSY else _try(source, Plugin.WAL2JSON, WAL2JSON_OPTIONS))


def _try(source: Connection, plugin: Plugin, options: Mapping[str, str]) -> str:
    """Why the plugin cannot be used with these options, empty when it can."""
    with server_errors(Side.SOURCE, f"asking for {plugin}"):
        source.execute("SELECT pg_catalog.set_config('statement_timeout', %s, false)", (_PROBE_TIMEOUT,))
        try:
            return _refusal(source, plugin, options)
        finally:
            if not source.closed and not source.broken:
                source.execute("SELECT pg_catalog.set_config('statement_timeout', '0', false)")


def _refusal(source: Connection, plugin: Plugin, options: Mapping[str, str]) -> str:
    """Reads nothing that matters to anybody."""
    slot = f"pgcopydb_probe_{secrets.token_hex(4)}"
    arguments = [text for pair in options.items() for text in pair]
    try:
        source.execute("SELECT pg_catalog.pg_create_logical_replication_slot(%s, %s, true)", (slot, plugin))
        source.execute(
            "SELECT count(*) FROM pg_catalog.pg_logical_slot_peek_changes(%s, NULL, 1, VARIADIC %s::text[])",
            (slot, arguments),
        )
    except psycopg.errors.QueryCanceled:
        # The library is there: it is loaded before the slot waits for whoever has begun to write.
        return _BUSY
    except psycopg.Error as exc:
        if exc.sqlstate is None:
            raise
        # A server drops a session's temporary slots with an error.
        return exc.diag.message_primary or "it gave no reason"
    source.execute("SELECT pg_catalog.pg_drop_replication_slot(%s)", (slot,))
    return ""
