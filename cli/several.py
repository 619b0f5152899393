"""The work directories that a command is about: its own, or those of the databases of a run that copies all."""

from __future__ import annotations

from contextlib import closing

from pgcopydb.bootstrap.run_state import all_databases
from pgcopydb.bootstrap.store import CatalogStore
from pgcopydb.postgres.conninfo import ConnInfo
from pgcopydb.runtime.workdir import WorkDir


def databases_of(workdir: WorkDir) -> list[str]:
    """Of a run of all databases, in their order; none of any other."""
    if not workdir.exists():
        return []
    with closing(CatalogStore.read(workdir.catalog)) as store:
        return [row["name"] for row in all_databases(store) or ()] if store.is_laid_out else []


def each_of(workdir: WorkDir) -> list[tuple[str, WorkDir]]:
    """Each database with its work directory; the one that was given, and no name, of a run of one."""
    names = databases_of(workdir)
    return [(name, workdir.database(name)) for name in names] if names else [("", workdir)]


def there(info: ConnInfo, database: str) -> ConnInfo:
    """A database of a server; the one that the connection string names where that alone says it."""
    return info.of_database(database) if database else info
