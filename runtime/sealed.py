"""Small files that what comes next depends on, with a checksum in them: of a position with one bit flipped nobody can
tell that it is none.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from pgcopydb.runtime.durable import disk_errors, write_atomic

_CHECKSUM: Final = "crc32"
_OPTIONS: Final = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS


def write_sealed(path: Path, fields: Mapping[str, Any]) -> None:
    """Replace a file with these fields, as JSON. On the disk on return."""
    write_atomic(path, orjson.dumps({**fields, _CHECKSUM: _checksum(fields)}, option=orjson.OPT_INDENT_2) + b"\n")


def read_sealed(path: Path) -> dict[str, Any]:
    """The fields. Raises ``ValueError`` when they are not what was written."""
    with disk_errors(path, "reading"):
        text = path.read_bytes()
    fields = orjson.loads(text)
    if not isinstance(fields, dict):
        raise ValueError("it is not a JSON object")
    given = fields.pop(_CHECKSUM, None)
    if given != _checksum(fields):
        raise ValueError("its checksum is of something else: it was damaged, or edited")
    return fields


def _checksum(fields: Mapping[str, Any]) -> str:
    return f"{zlib.crc32(orjson.dumps(fields, option=_OPTIONS)):08x}"
