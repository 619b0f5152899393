"""The zoo: a schema with every built-in type and every kind of object, loaded into a database.

A file of ``tests/zoo`` may begin with lines ``-- requires …`` (``major >= 18``, ``major < 17``, ``xml``, ``icu``,
``lz4``). It is loaded only when every database given meets them, so that what one loads the other can take.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from psycopg import errors

from demo.clusters import Cluster
from tests.fix_servers import Database

FOLDER: Final = Path(__file__).parent / "zoo"
FILES: Final = (
    "types",
    "tables",
    "constraints",
    "routines",
    "large_objects",
    "hostile",
    "xml",
    "lz4",
    "icu",
    "pg17",
    "pg18",
    "privileges",
)
EXTRAS: Final = ("search_path", "enum_hash")
"""What a plain ``pg_dump | pg_restore`` cannot copy, or not table by table."""

_COMPARISONS: Final[dict[str, Callable[[int, int], bool]]] = {">=": operator.ge, "<": operator.lt}
_MAJOR: Final = re.compile(r"major (>=|<) (\d+)")
_FEATURES: Final = {
    "icu": "SELECT EXISTS (SELECT FROM pg_collation WHERE collname = 'de-x-icu')",
    "lz4": "SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression'",
    "xml": "SELECT '<a/>'::xml IS NOT NULL",
}


def load_zoo(database: Database, *targets: Database, extras: tuple[str, ...] = ()) -> list[str]:
    """Load what ``database``, and every one of the ``targets``, can hold; return the names of the files loaded.

    The targets get the roles and nothing else. ``extras`` are names out of ``EXTRAS``.
    """
    databases = [database, *targets]
    for each in databases:
        create_roles(each.cluster)
    loaded = []
    # The settings of the database come last: they change how a session reads what it is given.
    for name in (*extras, *FILES):
        text = (FOLDER / f"{name}.sql").read_text(encoding="utf-8")
        if all(meets(each, requirement) for requirement in requirements(text) for each in databases):
            database.execute(text)
            loaded.append(name)
    return loaded


def create_roles(cluster: Cluster) -> None:
    """The roles that the zoo's objects belong to, on a cluster that may have them already."""
    Database(cluster, "postgres").execute((FOLDER / "roles.sql").read_text(encoding="utf-8"))


def requirements(text: str) -> list[str]:
    """What the first lines of a file ask for."""
    return re.findall(r"(?m)^-- requires (.+)$", text)


def meets(database: Database, requirement: str) -> bool:
    """Whether a database has what a file asks for; an unknown requirement is an error."""
    if major := _MAJOR.fullmatch(requirement):
        return _COMPARISONS[major[1]](database.cluster.major, int(major[2]))
    try:
        return bool(database.fetch(_FEATURES[requirement])[0][0])
    except errors.FeatureNotSupported:
        return False
