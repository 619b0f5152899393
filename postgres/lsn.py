"""A position in the write-ahead log (PostgreSQL documentation, "pg_lsn Type")."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_TEXT: Final = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")
_LIMIT: Final = 1 << 64


@dataclass(frozen=True, slots=True, order=True)
class Lsn:
    """64-bit byte position; text form ``%X/%X``; ``0/0`` means unset."""

    value: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.value < _LIMIT:
            raise ValueError(f"{self.value} is not a WAL position")

    @classmethod
    def parse(cls, text: str) -> Lsn:
        """Raises ``ValueError`` for anything but two hexadecimal halves of at most eight digits."""
        match = _TEXT.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not a WAL position such as 0/1A2B3C4D")
        return cls(int(match[1], 16) << 32 | int(match[2], 16))

    def __str__(self) -> str:
        return f"{self.value >> 32:X}/{self.value & 0xFFFFFFFF:X}"

    def __bool__(self) -> bool:
        return self.value != 0

    def bytes_since(self, earlier: Lsn) -> int:
        """Bytes of WAL between two positions; negative when ``earlier`` is the later one."""
        return self.value - earlier.value
