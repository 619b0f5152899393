"""Environment variables: boolean ones are read by the rules of Postgres."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Final

from pgcopydb.runtime.errors import UsageError

_WORDS: Final = {"true": True, "false": False, "yes": True, "no": False}

BOOLEANS: Final = (
    "PGCOPYDB_DROP_IF_EXISTS",
    "PGCOPYDB_ESTIMATE_TABLE_SIZES",
    "PGCOPYDB_FAIL_FAST",
    "PGCOPYDB_LOG_JSON",
    "PGCOPYDB_LOG_JSON_FILE",
    "PGCOPYDB_REPLAY_NO_OP_UPDATES",
    "PGCOPYDB_SKIP_ANALYZE",
    "PGCOPYDB_SKIP_CTID_SPLIT",
    "PGCOPYDB_SKIP_DB_PROPERTIES",
    "PGCOPYDB_SKIP_TABLESPACES",
    "PGCOPYDB_SKIP_VACUUM",
    "PGCOPYDB_USE_COPY_BINARY",
    "PGCOPYDB_WAL2JSON_NUMERIC_AS_STRING",
)


def parse_bool(text: str) -> bool:
    """Any unambiguous prefix of true, false, yes and no; on and off; 1 and 0. Raises ``ValueError``."""
    word = text.strip().lower()
    if word in {"1", "on"}:
        return True
    if word in {"0", "of", "off"}:
        return False
    for known, value in _WORDS.items():
        if word and known.startswith(word):
            return value
    raise ValueError(text)


def normalise_booleans(environment: MutableMapping[str, str]) -> None:
    """Rewrite the boolean variables that are set to ``true`` or ``false``. Raises ``UsageError`` for another value."""
    for name in BOOLEANS:
        if environment.get(name):
            try:
                environment[name] = "true" if parse_bool(environment[name]) else "false"
            except ValueError as exc:
                raise UsageError(
                    f"{name}: {environment[name]!r} is not a boolean",
                    hint="Write true, false, yes, no, on, off, 1 or 0.",
                ) from exc
        else:
            environment.pop(name, None)
