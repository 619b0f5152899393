"""How the slot is: whether the source still keeps what is needed, and for how long.

Reads ``pg_replication_slots`` and settings of the source (PostgreSQL documentation, "pg_replication_slots" and
"max_slot_wal_keep_size"). What to say about it is a pure function of what was read; who says it, and when, is the
caller's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Connection
from pgcopydb.postgres.conninfo import Side
from pgcopydb.runtime.sizes import pretty_size

_QUERY: Final = """
SELECT slot_name, active, restart_lsn::text, confirmed_flush_lsn::text,
       pg_catalog.pg_wal_lsn_diff({position}, restart_lsn)::bigint,
       {status}, {safe}, {reason}
  FROM pg_catalog.pg_replication_slots WHERE slot_name = %s
"""
_POSITION: Final = (
    "CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()"
    " ELSE pg_catalog.pg_current_wal_lsn() END"
)
_SAFE_SHARE: Final = 4
"""Less than this part of what the source keeps at most is a reason to look."""
_RETAINED_BYTES: Final = 50 << 30
"""So much WAL is kept for us alone before it is worth a word where nothing limits it."""


@dataclass(frozen=True, slots=True)
class SlotHealth:
    """``status`` is that of ``pg_replication_slots.wal_status``, empty before PostgreSQL 13; sizes are bytes.

    ``safe_bytes``: how much WAL may still be written before the slot may be lost; None where nothing limits it.
    ``reason``: why it was invalidated, empty as long as it was not.
    """

    exists: bool
    active: bool = False
    restart_lsn: str | None = None
    confirmed_lsn: str | None = None
    retained_bytes: int = 0
    status: str = ""
    safe_bytes: int | None = None
    reason: str = ""

    @property
    def lost(self) -> bool:
        return not self.exists or self.status == "lost" or bool(self.reason)


@dataclass(frozen=True, slots=True)
class Worry:
    """Something to be said of a slot. ``level`` grows with how bad it is."""

    level: int
    message: str
    hint: str


def read_health(source: Connection, slot: str) -> SlotHealth:
    """Raises ``SourceError``."""
    version = source.info.server_version
    if version >= 170000:
        reason = "coalesce(invalidation_reason, '')"
    elif version >= 160000:
        reason = "CASE WHEN conflicting THEN 'conflict with recovery' ELSE '' END"
    else:
        reason = "''"
    query = _QUERY.format(
        position=_POSITION,
        status="coalesce(wal_status, '')" if version >= 130000 else "''",
        safe="safe_wal_size" if version >= 130000 else "NULL::bigint",
        reason=reason,
    )
    with server_errors(Side.SOURCE, f"looking at slot {slot}"):
        row = source.execute(query.encode(), (slot,)).fetchone()
    if row is None:
        return SlotHealth(exists=False)
    _, active, restart, confirmed, retained, status, safe, why = row
    return SlotHealth(
        exists=True,
        active=bool(active),
        restart_lsn=restart,
        confirmed_lsn=confirmed,
        retained_bytes=int(retained or 0),
        status=status,
        safe_bytes=safe,
        reason=why,
    )


def worry_about(health: SlotHealth, slot: str) -> Worry | None:
    """What a person should know; None when all is well."""
    again = "Begin again: `pgcopydb stream cleanup`, then clone --follow with a new work directory."
    if not health.exists:
        return Worry(3, f"replication slot {slot} is not on the source any more", again)
    if health.lost:
        why = f" ({health.reason})" if health.reason else ""
        return Worry(3, f"replication slot {slot} is lost{why}: the source has removed WAL that was needed", again)
    kept = pretty_size(health.retained_bytes)
    if health.status == "unreserved" or (health.safe_bytes is not None and health.safe_bytes <= 0):
        return Worry(
            2,
            f"replication slot {slot} is about to be lost: {kept} of WAL are kept for it, more than"
            " max_slot_wal_keep_size, and the next checkpoint of the source may remove them",
            "On the source, at once: ALTER SYSTEM SET max_slot_wal_keep_size = -1; SELECT pg_reload_conf();",
        )
    if health.safe_bytes is not None and health.safe_bytes < (health.safe_bytes + health.retained_bytes) / _SAFE_SHARE:
        return Worry(
            1,
            f"replication slot {slot} may be lost when {pretty_size(health.safe_bytes)} more WAL are written:"
            f" {kept} are kept for it",
            "On the source: raise max_slot_wal_keep_size, and look why the target is behind.",
        )
    if health.safe_bytes is None and health.retained_bytes > _RETAINED_BYTES:
        return Worry(
            1,
            f"the source keeps {kept} of WAL for replication slot {slot}",
            "A long transaction on the source, or a target that is behind, may be why. Watch the source's disk.",
        )
    return None
