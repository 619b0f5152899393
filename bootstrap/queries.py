"""Loads a statement from the ``.sql`` file of its name; one file holds one statement."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def query(name: str) -> str:
    """The text of ``sql/<name>.sql``."""
    return files("pgcopydb.bootstrap.sql").joinpath(f"{name}.sql").read_text(encoding="utf-8")
