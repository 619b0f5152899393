"""The table of contents of pg_dump's archive, as ``pg_restore --list --verbose`` prints it.

Pure, but for ``write_list`` and ``read_list``. Decisions rest on the numbers of a line (its own, those of the object
in the source's catalogs, those of the entries it depends on) and on its kind; names are never cut out of it, because
they may hold spaces, and a newline is printed as a space.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pgcopydb.runtime.durable import disk_errors, write_atomic
from pgcopydb.runtime.errors import CorruptState
from pgcopydb.runtime.logs import NOTICE

logger = logging.getLogger(__name__)

KINDS: Final = (
    "ACCESS METHOD",
    "ACL",
    "AGGREGATE",
    "BLOB",
    "BLOB COMMENTS",
    "BLOB METADATA",
    "BLOBS",
    "CAST",
    "CHECK CONSTRAINT",
    "COLLATION",
    "COMMENT",
    "CONSTRAINT",
    "CONVERSION",
    "DATABASE",
    "DATABASE PROPERTIES",
    "DEFAULT",
    "DEFAULT ACL",
    "DOMAIN",
    "ENCODING",
    "EVENT TRIGGER",
    "EXTENSION",
    "FK CONSTRAINT",
    "FOREIGN DATA WRAPPER",
    "FOREIGN SERVER",
    "FOREIGN TABLE",
    "FUNCTION",
    "INDEX",
    "INDEX ATTACH",
    "LARGE OBJECT",
    "LARGE OBJECTS",
    "MATERIALIZED VIEW",
    "MATERIALIZED VIEW DATA",
    "OPERATOR",
    "OPERATOR CLASS",
    "OPERATOR FAMILY",
    "POLICY",
    "PROCEDURAL LANGUAGE",
    "PROCEDURE",
    "PUBLICATION",
    "PUBLICATION TABLE",
    "PUBLICATION TABLES IN SCHEMA",
    "ROW SECURITY",
    "RULE",
    "SCHEMA",
    "SEARCHPATH",
    "SECURITY LABEL",
    "SEQUENCE",
    "SEQUENCE OWNED BY",
    "SEQUENCE SET",
    "SERVER",
    "SHELL TYPE",
    "STATISTICS",
    "STATISTICS DATA",
    "STDSTRINGS",
    "SUBSCRIPTION",
    "SUBSCRIPTION TABLE",
    "TABLE",
    "TABLE ATTACH",
    "TABLE DATA",
    "TEXT SEARCH CONFIGURATION",
    "TEXT SEARCH DICTIONARY",
    "TEXT SEARCH PARSER",
    "TEXT SEARCH TEMPLATE",
    "TRANSFORM",
    "TRIGGER",
    "TYPE",
    "USER MAPPING",
    "VIEW",
    "WARNING",
)

_KINDS_BY_WORDS: Final = {tuple(kind.split(" ")): kind for kind in KINDS}
_LONGEST_KIND: Final = max(len(words) for words in _KINDS_BY_WORDS)
_ENTRY: Final = re.compile(r"(\d+); (\d+) (\d+) (.*)")
_DEPENDS: Final = re.compile(r";\s+depends on:((?: \d+)*)\s*")

# Entries that say something about the object of another entry, and mean nothing without it.
_ATTACHED: Final = frozenset({"COMMENT", "ACL", "SECURITY LABEL"})


@dataclass(frozen=True, slots=True)
class ArchiveEntry:
    """One entry. ``catalog_oid`` and ``oid`` are the source's, 0 where the entry creates no object of its own.
    ``section`` is empty where nobody has asked."""

    dump_id: int
    catalog_oid: int
    oid: int
    kind: str
    rest: str
    line: str
    depends: tuple[int, ...] = ()
    section: str = ""

    @property
    def address(self) -> tuple[int, int]:
        return self.catalog_oid, self.oid

    def __str__(self) -> str:
        """For people: kind, schema (``-`` where there is none), name and owner."""
        return f"{self.kind} {self.rest}".strip()


def parse_list(text: str) -> list[ArchiveEntry]:
    """All entries, in the order in which pg_restore restores them. ``CorruptState`` for a line that is none."""
    entries: list[ArchiveEntry] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.startswith(";") or not line.strip():
            depends = _DEPENDS.fullmatch(line)
            if depends is not None and entries:
                entries[-1] = _with_dependencies(entries[-1], depends[1])
            continue
        match = _ENTRY.fullmatch(line)
        if match is None:
            raise CorruptState(f"line {number} of pg_restore's list is no entry: {line!r}")
        kind, rest = _split_kind(match[4])
        entries.append(ArchiveEntry(int(match[1]), int(match[2]), int(match[3]), kind, rest, line))
    return entries


def _with_dependencies(entry: ArchiveEntry, numbers: str) -> ArchiveEntry:
    depends = tuple(int(number) for number in numbers.split())
    return ArchiveEntry(
        entry.dump_id, entry.catalog_oid, entry.oid, entry.kind, entry.rest, entry.line, depends=depends
    )


def _split_kind(text: str) -> tuple[str, str]:
    words = text.split(" ")
    for length in range(_LONGEST_KIND, 0, -1):
        kind = _KINDS_BY_WORDS.get(tuple(words[:length]))
        if kind is not None:
            return kind, " ".join(words[length:])
    logger.log(NOTICE, "pg_dump's archive has an entry of a kind that is not known here, it is restored: %s", text)
    return words[0], " ".join(words[1:])


def attached_to(entries: Iterable[ArchiveEntry], owners: set[int]) -> Iterator[ArchiveEntry]:
    """The comments, grants and security labels of the entries with these numbers."""
    for entry in entries:
        if entry.kind in _ATTACHED and owners.intersection(entry.depends):
            yield entry


def write_list(entries: Iterable[ArchiveEntry], path: Path) -> None:
    """The file for ``pg_restore --use-list``: these entries, in this order, with what each depends on as a remark."""
    write_atomic(path, "".join(_lines(entry) for entry in entries).encode())


def _lines(entry: ArchiveEntry) -> str:
    if not entry.depends:
        return f"{entry.line}\n"
    return f"{entry.line}\n;\tdepends on: {' '.join(str(number) for number in entry.depends)}\n"


def read_list(path: Path) -> list[ArchiveEntry]:
    """What ``write_list`` or pg_restore wrote. ``StateError`` when it cannot be read."""
    with disk_errors(path, "reading"):
        return parse_list(path.read_bytes().decode("utf-8", "replace"))
