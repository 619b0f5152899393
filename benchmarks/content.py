"""What is in a database, in a form that can be compared: rows and a sum of row hashes per table, and object counts.

Independent of the program that is measured. The sum does not depend on the order of the rows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import psycopg

_FOLDER: Final = Path(__file__).parent

Content = dict[str, str]


def statement(name: str) -> str:
    """The statement in the ``.sql`` file of this name."""
    return (_FOLDER / f"{name}.sql").read_text(encoding="utf-8")


def read_content(dsn: str) -> Content:
    """A line for every table and for every kind of object."""
    content: Content = {}
    with psycopg.connect(dsn, autocommit=True) as connection:
        for kind, number in connection.execute(statement("objects")).fetchall():
            content[kind] = str(number)
        for name, _, _ in connection.execute(statement("tables")).fetchall():
            row = connection.execute(
                f"SELECT count(*), sum(hashtextextended(t::text, 0)::numeric) FROM {name} AS t"
            ).fetchone()
            assert row is not None
            content[f"table {name}"] = f"{row[0]} rows, hash {row[1]}"
    return content


def first_difference(expected: Content, found: Content) -> str | None:
    """None when both are the same."""
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            return f"{name}: {expected.get(name, 'nothing')} on the source, {found.get(name, 'nothing')} on the target"
    return None
