"""Byte sizes and durations: how people write and read them."""

from __future__ import annotations

import re
from typing import Final

from pgcopydb.runtime.errors import UsageError

_UNITS: Final = {"B": 1, "kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40, "PB": 1 << 50, "EB": 1 << 60}
_SIZE: Final = re.compile(r"\s*(\d+)\s*([A-Za-z]*)\s*")


def parse_size(text: str) -> int:
    """Bytes of ``10 GB``, ``200MB``, ``8192``: units as Postgres spells them, in powers of 1024."""
    match = _SIZE.fullmatch(text)
    if match is None or (match[2] or "B") not in _UNITS:
        raise UsageError(
            f"{text!r} is not a size", hint=f"Write a whole number and one of {', '.join(_UNITS)}, e.g. 10GB."
        )
    return int(match[1]) * _UNITS[match[2] or "B"]


def pretty_size(size: float) -> str:
    """``1234567`` as ``1206 kB``: four digits at most, as ``pg_size_pretty`` writes it."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB", "TB", "PB"):
        if abs(value) < 10 * 1024:
            return f"{value:.0f} {unit}"
        value /= 1024
    return f"{value:.0f} EB"


def pretty_seconds(seconds: float) -> str:
    """``0.042`` as ``42ms``, ``3723`` as ``1h02m``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m"
