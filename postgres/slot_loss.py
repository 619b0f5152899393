"""Why a slot cannot be used any more, and what prevents that the next time.

The reasons are those of ``pg_replication_slots.invalidation_reason``, which there is from PostgreSQL 17 on (its
documentation, "pg_replication_slots"). 16 says only that there was a conflict with recovery, and older
servers say nothing.
"""

from __future__ import annotations

from typing import Final, NamedTuple

CONFLICT: Final = "conflict"
"""What 16 says of both ``rows_removed`` and ``wal_level_insufficient``."""


class Loss(NamedTuple):
    """``why`` completes "the slot is lost: …", ``before`` what is to be done before another one is made."""

    why: str
    before: str


_WAL_REMOVED: Final = Loss("the source has removed WAL that it needs", "raise max_slot_wal_keep_size")
_LOSSES: Final = {
    "": _WAL_REMOVED,
    "wal_removed": _WAL_REMOVED,
    "rows_removed": Loss(
        "the primary has removed rows of its catalogs that it needs",
        "set hot_standby_feedback = on on the standby, and primary_slot_name",
    ),
    "wal_level_insufficient": Loss(
        "wal_level of the primary was not logical for a while", "set wal_level = logical on the primary"
    ),
    "idle_timeout": Loss(
        "nobody has read it for longer than idle_replication_slot_timeout",
        "set idle_replication_slot_timeout = 0 on the source",
    ),
    CONFLICT: Loss(
        "the primary has removed rows of its catalogs that it needs, or its wal_level was not logical for a while",
        "set hot_standby_feedback = on on the standby, primary_slot_name, and wal_level = logical on the primary",
    ),
}


def reason_column(version: int) -> str:
    """What to select from ``pg_replication_slots``: the reason, empty as long as there is none or nobody says it."""
    if version >= 170000:
        return "coalesce(invalidation_reason, '')"
    return f"CASE WHEN conflicting THEN '{CONFLICT}' ELSE '' END" if version >= 160000 else "''"


def loss_of(reason: str) -> Loss:
    """What a reason means. Pure."""
    return _LOSSES.get(reason) or Loss(f"the source says {reason}", "look for that in the documentation of PostgreSQL")
