"""Run pg_restore on an edited list and read what it reports.

Reads the archive and the list file of the work directory. Everything that pg_restore could not do comes back as a
``RestoreError``; the statements themselves are kept out of messages and logs, because a subscription's or a user
mapping's holds a password. What to restore, and what an error means, is the caller's.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from psycopg import sql

from pgcopydb.bootstrap.addresses import addresses_of, standing
from pgcopydb.bootstrap.archive import ArchiveEntry, read_list, write_list
from pgcopydb.bootstrap.options import RestoreOptions
from pgcopydb.bootstrap.queries import query
from pgcopydb.bootstrap.store import CatalogStore
from pgcopydb.postgres.binaries import ToolSet
from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Connection, Endpoint
from pgcopydb.postgres.conninfo import Side
from pgcopydb.runtime.child import level_of_line, run_child
from pgcopydb.runtime.errors import BinaryError, Kind, TargetError
from pgcopydb.runtime.logs import NOTICE
from pgcopydb.runtime.stop import Stop
from pgcopydb.runtime.workdir import WorkDir

logger = logging.getLogger(__name__)

ROLE: Final = "pg_restore"
SECTIONS: Final = ("pre-data", "post-data")
OWNED_APART: Final = ("EVENT TRIGGER", "PUBLICATION", "STATISTICS", "SUBSCRIPTION")
"""Kinds whose owner is set by a statement of its own, after the one that creates them."""

_ERROR: Final = re.compile(r"\S*pg_restore\S*: error: (?:could not execute query: )?(.*)")
_ENTRY: Final = re.compile(r"\S*pg_restore\S*: from TOC entry (\d+); \d+ \d+ (.*)")
_EXCERPT: Final = re.compile(r"LINE \d+: ")
_PROGRAM: Final = re.compile(r"\S*pg_restore\S*: ")
_COMMAND: Final = "Command was: "

_DROP: Final = {
    "EVENT TRIGGER": ["DROP EVENT TRIGGER IF EXISTS {}"],
    "PUBLICATION": ["DROP PUBLICATION IF EXISTS {}"],
    "STATISTICS": ["DROP STATISTICS IF EXISTS {}"],
    # Without a slot name the drop leaves the publisher, whose slot may be in use, alone.
    "SUBSCRIPTION": [
        "ALTER SUBSCRIPTION {} DISABLE",
        "ALTER SUBSCRIPTION {} SET (slot_name = NONE)",
        "DROP SUBSCRIPTION {}",
    ],
}
_LOST: Final = re.compile(
    r"server closed the connection|no connection to the server|connection to server|could not connect"
    r"|connection has been closed|terminating connection|could not translate host name",
)
_MEANINGLESS: Final = "SET transaction_timeout = 0;"
_POLL_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class RestoreError:
    """One message of pg_restore. ``entry`` is empty when it is about no entry, ``command`` only for decisions."""

    entry: str
    message: str
    command: str

    @property
    def lost_connection(self) -> bool:
        return _LOST.search(self.message) is not None

    def __str__(self) -> str:
        return f"{self.entry}: {self.message}" if self.entry else self.message


class ErrorReader:
    """Fed with the lines of ``pg_restore --verbose``; logs what is not an error.

    pg_restore names the entry before an error, unless the one before was about the same; two parallel jobs that fail
    in the same moment may swap theirs. The message itself names the object too.
    """

    def __init__(self, entries: Iterable[ArchiveEntry]) -> None:
        self._entries = {entry.dump_id: str(entry) for entry in entries}
        self._errors: list[RestoreError] = []
        self._entry = ""
        self._message: list[str] = []
        self._command: str | None = None
        self._level = logging.DEBUG

    def feed(self, line: str) -> None:
        begin = _ERROR.fullmatch(line)
        if begin is not None:
            self._end_error()
            self._message = [begin[1]]
        elif _PROGRAM.match(line):
            self._end_error()
            self._read_remark(line)
        elif self._message and self._command is None:
            self._continue_error(line)
        elif not self._message and line:
            self._level = level_of_line(line, self._level)
            logger.log(min(self._level, logging.WARNING), "%s", line)

    def errors(self) -> list[RestoreError]:
        """All errors, when the program has ended."""
        self._end_error()
        return self._errors

    def _read_remark(self, line: str) -> None:
        entry = _ENTRY.fullmatch(line)
        if entry is not None:
            self._entry = self._entries.get(int(entry[1]), entry[2].strip())
            return
        self._level = level_of_line(line, logging.DEBUG)
        counts_errors = "errors ignored on restore" in line
        logger.log(logging.DEBUG if counts_errors else self._level, "%s", line)

    def _continue_error(self, line: str) -> None:
        if line.startswith(_COMMAND):
            self._command = line.removeprefix(_COMMAND)
        elif _EXCERPT.match(line):
            # The statement's text, and below it a line that points into it.
            self._message.append("")
        elif line.strip() not in {"", "^"}:
            self._message.append(line.strip())

    def _end_error(self) -> None:
        if self._message:
            message = " ".join(" ".join(self._message).split())
            self._errors.append(RestoreError(self._entry, message, self._command or ""))
        self._message = []
        self._command = None


def option_flags(options: RestoreOptions) -> list[str]:
    """The options of pg_restore that the operator's choices stand for."""
    chosen = {
        "--no-owner": options.no_owner,
        "--no-acl": options.no_acl,
        "--no-comments": options.no_comments,
        "--no-tablespaces": options.no_tablespaces,
    }
    return [flag for flag, wanted in chosen.items() if wanted]


def list_archive(workdir: WorkDir, tools: ToolSet, stop: Stop) -> list[ArchiveEntry]:
    """The entries of both sections, one behind the other, with what each depends on."""
    # Only the verbose list has the dependencies, and only the other one heeds the section.
    everything = _list(workdir, tools, ["--verbose"], stop)
    listed: list[ArchiveEntry] = []
    for section in SECTIONS:
        chosen = {entry.dump_id for entry in _list(workdir, tools, [f"--section={section}"], stop)}
        listed += [replace(entry, section=section) for entry in everything if entry.dump_id in chosen]
    return listed


def write_contents(workdir: WorkDir, entries: Sequence[ArchiveEntry]) -> None:
    """What is restored of each section, into the work directory."""
    for section in SECTIONS:
        write_list([entry for entry in entries if entry.section == section], workdir.contents(section))


def read_entries(workdir: WorkDir, section: str) -> list[ArchiveEntry]:
    """The archive's entries of ``pre-data`` or ``post-data``, as they were listed when it was made."""
    return read_list(workdir.contents(section))


def _list(workdir: WorkDir, tools: ToolSet, flags: Sequence[str], stop: Stop) -> list[ArchiveEntry]:
    path = workdir.restore_list("all")
    result = run_child(
        [tools.program("pg_restore"), "--list", *flags, f"--file={path}", str(workdir.schema_dump)],
        environment=dict(os.environ),
        stop=stop,
        what="listing what the schema dump holds",
    )
    if result.returncode != 0:
        raise BinaryError(
            f"pg_restore {tools.version_text} cannot read {workdir.schema_dump}: {last_words(result.errors)}",
            hint="Begin again with --restart when the file is damaged or was written by a newer pg_dump.",
        )
    return read_list(path)


def last_words(errors: Sequence[str]) -> str:
    """The end of a program's complaints, on one line."""
    return " ".join(" ".join(errors[-5:]).split()) or "it gave no reason"


def restore(
    workdir: WorkDir,
    target: Endpoint,
    tools: ToolSet,
    entries: Sequence[ArchiveEntry],
    *,
    section: str,
    flags: Sequence[str],
    tolerate: bool,
    stop: Stop,
) -> list[RestoreError]:
    """Restore these entries. ``tolerate``: the target does not know ``transaction_timeout``, which pg_restore sets."""
    path = workdir.restore_list(section)
    write_list(entries, path)
    reader = ErrorReader(entries)
    result = run_child(
        [
            tools.program("pg_restore"),
            "--verbose",
            "--no-password",
            f"--dbname={target.info.child_dsn()}",
            f"--use-list={path}",
            *flags,
            str(workdir.schema_dump),
        ],
        environment=target.info.child_environment(target.title(ROLE)),
        stop=stop,
        what=f"restoring {section}",
        on_line=reader.feed,
    )
    reported = reader.errors()
    errors = [error for error in reported if not (tolerate and error.command.startswith(_MEANINGLESS))]
    if result.returncode < 0 or (result.returncode != 0 and not reported):
        ending = f"signal {-result.returncode}" if result.returncode < 0 else f"exit code {result.returncode}"
        errors.append(RestoreError("", f"pg_restore ended with {ending} and gave no reason", ""))
    if errors and any(error.lost_connection for error in errors):
        raise TargetError(
            f"restoring {section}: {next(error for error in errors if error.lost_connection)}",
            hint="Run the same command with --resume when the target is back.",
            kind=Kind.RETRY,
        )
    for error in errors:
        logger.log(NOTICE, "pg_restore: %s", error)
    return errors


def end_leftovers(connection: Connection, target: Endpoint, stop: Stop) -> None:
    """Return when no pg_restore of this run has a session on the target: one may outlive a killed client."""
    title = f"{ROLE} {target.run_id}"[:32]
    with server_errors(Side.TARGET, "ending what an interrupted pg_restore left running"):
        while connection.execute(query("restore_sessions"), {"title": title}).fetchall():
            stop.wait(_POLL_SECONDS)
            stop.check()


def drop_owned_apart(
    store: CatalogStore, connection: Connection, entries: Sequence[ArchiveEntry], kinds: Collection[str]
) -> None:
    """Drop those objects of these kinds that stand on the target: event triggers, publications, statistics objects,
    subscriptions. What a kill left of them may lack its owner."""
    candidates = [entry for entry in entries if entry.kind in kinds]
    there = standing(store, connection, candidates)
    for dump_id, address in addresses_of(store, candidates).items():
        if dump_id not in there:
            continue
        kind = next(entry.kind for entry in candidates if entry.dump_id == dump_id)
        name = sql.Identifier(*address.names)
        with server_errors(Side.TARGET, f"dropping {address.type} {'.'.join(address.names)}, to restore it anew"):
            for statement in _DROP[kind]:
                connection.execute(sql.SQL(statement).format(name))
