"""The vocabulary of changes: what every output plugin's messages are decoded to.

A value is the text that Postgres wrote, or None for NULL; it is never turned into a number or a date. A column that a
message leaves out because its TOASTed value did not change is ``UNCHANGED``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

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


class Column(NamedTuple):
    """One column of a row as a message has it.

    ``type`` is the source's name of it, as ``format_type`` prints it; empty where the plugin does not say.
    """

    name: str
    type: str
    value: Value


class RowChange(NamedTuple):
    """One row. ``new`` is empty for DELETE; ``identity`` (the old row's) where the message has one.

    UPDATE may lack an identity when that did not change: it is in ``new`` then. ``sparse``: the identity is one of all
    columns, and those that were NULL are left out of it.
    """

    action: Action
    relation: Name
    new: tuple[Column, ...]
    identity: tuple[Column, ...]
    sparse: bool = False


@dataclass(frozen=True, slots=True)
class Truncate:
    """All relations of one TRUNCATE statement."""

    relations: tuple[Name, ...]
    restart_identity: bool
    cascade: bool


Change = RowChange | Truncate
