"""Find out what would stop a clone before anything is touched, all of it at once.

Reads both servers and the work directory. What is true when ``check_clone`` returns: nothing has changed anywhere, and
the findings name every problem that was met, each with what mends it. A server that cannot be reached is raised as it
is.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Final

from pgcopydb.bootstrap.filtering import addresses_left_out
from pgcopydb.bootstrap.findings import Finding, Severity
from pgcopydb.bootstrap.options import CloneOptions
from pgcopydb.bootstrap.preflight_follow import check_following
from pgcopydb.bootstrap.preflight_source import check_source
from pgcopydb.bootstrap.preflight_target import check_target, read_needs
from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Endpoint
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.selection import Selection, select
from pgcopydb.postgres.server import Instance, inspect_server, read_instance
from pgcopydb.runtime.sizes import pretty_size
from pgcopydb.runtime.workdir import WorkDir

_LITTLE: Final = 100 << 20
_TOO_LITTLE: Final = 10 << 20


def check_clone(
    source: Endpoint, target: Endpoint, workdir: WorkDir, options: CloneOptions, *, to_be_made: bool = False
) -> list[Finding]:
    """Errors first, then warnings, then notes. ``to_be_made``: ``target`` is another database of the same server."""
    findings = list(_check_disk(workdir))
    with source.connect("preflight") as reader, target.connect("preflight") as writer:
        source_facts = inspect_server(reader, Side.SOURCE)
        target_facts = inspect_server(writer, Side.TARGET)
        instances = (read_instance(reader, Side.SOURCE), read_instance(writer, Side.TARGET))
        findings += check_apart(*instances, target_facts.dbname)
        with server_errors(Side.SOURCE, "checking the source"):
            selection = select(reader, options.filters)
            findings += _unmatched(selection)
            gone = addresses_left_out(reader, selection)
            findings += check_source(reader, source_facts, options, selection, gone)
            needs = read_needs(reader, selection, gone, large_objects=not options.skip.large_objects)
        with server_errors(Side.TARGET, "checking the target"):
            findings += check_target(writer, target_facts, source_facts, needs, options, to_be_made=to_be_made)
        if options.follow is not None:
            findings += check_following(source, reader, writer, workdir, options.follow, selection)
    return in_order(findings)


def in_order(findings: list[Finding]) -> list[Finding]:
    """Errors, warnings, notes."""
    order = list(Severity)
    return sorted(findings, key=lambda finding: order.index(finding.severity))


def check_apart(source: Instance, target: Instance, database: str) -> Iterator[Finding]:
    """A copy of a database into itself empties the tables that it is about to read."""
    if source.is_database_of(target):
        standby = source.in_recovery or target.in_recovery
        yield Finding(
            Severity.ERROR,
            Side.TARGET,
            f"database {database}",
            "source and target are the same database" + (", of a server and its standby" if standby else ""),
            "name another database, or another server, with --target"
            + (
                "; into a server that was made of the source's base backup, copy into a database that was made there"
                if standby
                else ""
            ),
        )


def _unmatched(selection: Selection) -> Iterator[Finding]:
    for rule, near in selection.unmatched:
        hint = f"the nearest names are {', '.join(near)}" if near else ""
        yield Finding(Severity.WARNING, Side.SOURCE, "filters", f"nothing on the source is of {rule}", hint)


def _check_disk(workdir: WorkDir) -> Iterator[Finding]:
    folder = next(path for path in (workdir.top, *workdir.top.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    if free < _LITTLE:
        yield Finding(
            Severity.ERROR if free < _TOO_LITTLE else Severity.WARNING,
            None,
            f"work directory {workdir.top}",
            f"only {pretty_size(free)} are free",
            "choose another one with --dir, or free some room",
        )
