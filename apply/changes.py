"""The vocabulary of changes: what every output plugin's messages are decoded to.

A value is the text that Postgres wrote, or None for NULL; it is never turned into a number or a date. A column that a
message leaves out because its TOASTed value did not change is ``UNCHANGED``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pgcopydb.postgres.names import Name


class Action(StrEnum):
    INSERT = "I"
    UPDATE = "U"
    DELETE = "D"
    TRUNCATE = "T"


class Unchanged:
    """The one value of its type."""

    def __repr__(self) -> str:
        return "UNCHANGED"


UNCHANGED: Final = Unchanged()

Value = str | None | Unchanged


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a row as a message has it. ``type`` is the source's name of it, as ``format_type`` prints it."""

    name: str
    type: str
    value: Value


@dataclass(frozen=True, slots=True)
class RowChange:
    """One row. ``new`` is empty for DELETE; ``identity`` (the old row's) where the message has one.

    UPDATE has an identity only when the replica identity changed or is FULL: else it is in ``new``.
    """

    action: Action
    relation: Name
    new: tuple[Column, ...]
    identity: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Truncate:
    """All relations of one TRUNCATE statement."""

    relations: tuple[Name, ...]
    restart_identity: bool
    cascade: bool


Change = RowChange | Truncate
