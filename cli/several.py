"""The work directories that a command is about: its own, or those of the databases of a run that copies all."""

from __future__ import annotations

from pgcopydb.bootstrap.all_reports import opened
from pgcopydb.bootstrap.run_state import all_databases
from pgcopydb.runtime.workdir import WorkDir


def databases_of(workdir: WorkDir) -> list[str]:
    """Of a run of all databases, in their order; none of any other."""
    with opened(workdir) as store:
        return [] if store is None else [row["name"] for row in all_databases(store) or ()]


def each_of(workdir: WorkDir) -> list[tuple[str, WorkDir]]:
    """Each database with its work directory; the one that was given, and no name, of a run of one."""
    names = databases_of(workdir)
    return [(name, workdir.database(name)) for name in names] if names else [("", workdir)]
