"""What would stop following changes after the copy, found out before it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pgcopydb.bootstrap.findings import Finding, Severity
from pgcopydb.daemon.identity import followed_tables, without_identity
from pgcopydb.daemon.requirements import login_problem, origin_problem, replica_role_problem, source_problems
from pgcopydb.daemon.stream import find_stream
from pgcopydb.postgres.connect import Connection, Endpoint
from pgcopydb.postgres.conninfo import Side
from pgcopydb.runtime.workdir import WorkDir

_SHOWN: Final = 10


def check_following(
    source: Endpoint, reader: Connection, writer: Connection, workdir: WorkDir, names: tuple[str, str]
) -> Iterator[Finding]:
    """``names``: of the slot and the origin. What this work directory has made already is as it should be.

    Nothing remains of what is tried.
    """
    if find_stream(workdir) is None:
        for problem in source_problems(reader, names[0]):
            yield Finding(Severity.ERROR, Side.SOURCE, "changes", problem.message, problem.fix)
        taken = origin_problem(writer, names[1])
        if taken is not None:
            yield Finding(Severity.ERROR, Side.TARGET, "changes", taken.message, taken.fix)
    login = login_problem(source, reader)
    if login is not None:
        yield Finding(Severity.ERROR, Side.SOURCE, "changes", login.message, login.fix)
    lacking = without_identity(followed_tables(reader))
    for name in lacking[:_SHOWN]:
        yield Finding(
            Severity.WARNING,
            Side.SOURCE,
            f"table {name}",
            "has no primary key and no replica identity: its UPDATEs and DELETEs cannot be followed",
            f"ALTER TABLE {name.sql} REPLICA IDENTITY FULL;",
        )
    if len(lacking) > _SHOWN:
        yield Finding(
            Severity.WARNING, Side.SOURCE, "changes", f"{len(lacking) - _SHOWN} more tables lack a replica identity"
        )
    replica = replica_role_problem(writer)
    if replica is not None:
        yield Finding(Severity.WARNING, Side.TARGET, "changes", replica.message, replica.fix)
