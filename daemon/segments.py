"""Which file a change goes to: one file for each WAL segment of the source, named as the server names the segment.

Pure. A name is 24 hexadecimal digits: timeline, and the segment's number in two halves (PostgreSQL documentation, "WAL
Internals"; ``XLogFileName``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pgcopydb.postgres.lsn import Lsn

_NAME: Final = re.compile(r"([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})")
_XLOGID_BYTES: Final = 1 << 32


@dataclass(frozen=True, slots=True)
class Segment:
    """One WAL segment of ``size`` bytes (a power of two from 1 MB to 1 GB) on a timeline."""

    timeline: int
    number: int
    size: int

    @classmethod
    def holding(cls, lsn: Lsn, timeline: int, size: int) -> Segment:
        """The segment that the byte at this position is in."""
        return cls(timeline, lsn.value // size, size)

    @classmethod
    def parse(cls, name: str, size: int) -> Segment:
        """Raises ``ValueError`` for anything but a segment's name."""
        match = _NAME.fullmatch(name)
        if match is None:
            raise ValueError(f"{name!r} is not the name of a WAL segment")
        timeline, high, low = (int(part, 16) for part in match.groups())
        if low >= _XLOGID_BYTES // size:
            raise ValueError(f"{name!r} is not the name of a WAL segment of {size} bytes")
        return cls(timeline, high * (_XLOGID_BYTES // size) + low, size)

    @property
    def name(self) -> str:
        high, low = divmod(self.number, _XLOGID_BYTES // self.size)
        return f"{self.timeline:08X}{high:08X}{low:08X}"

    @property
    def start(self) -> Lsn:
        """Its first byte."""
        return Lsn(self.number * self.size)

    @property
    def end(self) -> Lsn:
        """The first byte behind it."""
        return Lsn((self.number + 1) * self.size)
