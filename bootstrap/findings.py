"""What a preflight reports."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pgcopydb.postgres.conninfo import Side


class Severity(StrEnum):
    ERROR = "error"
    """The clone would fail, or lose something."""
    WARNING = "warning"
    """The clone works, and the operator should know."""
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem. ``fix`` is the statement or command that mends it, where there is one."""

    severity: Severity
    side: Side | None
    subject: str
    message: str
    fix: str | None = None
