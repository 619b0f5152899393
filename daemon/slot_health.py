"""How the slot is: whether the source still keeps what is needed, and for how long.

Reads ``pg_replication_slots`` and settings of the source (PostgreSQL documentation, "pg_replication_slots" and
"max_slot_wal_keep_size"). What to say about it is a pure function of what was read; who says it, and when, is the
caller's.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from pgcopydb.daemon.stream import DEFAULT_NAME
from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Connection
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.liveness import with_patience
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.postgres.slot_loss import loss_of, reason_column
from pgcopydb.runtime.sizes import pretty_seconds, pretty_size

_QUERY: Final = """
SELECT here, pg_catalog.clock_timestamp(), slot_name IS NOT NULL, coalesce(active, false),
       restart_lsn::text, confirmed_flush_lsn::text,
       coalesce(pg_catalog.pg_wal_lsn_diff(here, restart_lsn), 0)::bigint,
       {status}, {safe}, {reason}
  FROM (SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
               ELSE pg_catalog.pg_current_wal_flush_lsn() END AS here) AS source
  LEFT JOIN pg_catalog.pg_replication_slots ON slot_name = %s
"""
_SAFE_SHARE: Final = 4
"""Less than this part of what the source keeps at most is a reason to look."""
_RETAINED_BYTES: Final = 50 << 30
"""So much WAL is kept for us alone before it is worth a word where nothing limits it."""
_RATE_SECONDS: Final = 0.5
"""Two looks that are nearer to each other tell nothing of a rate."""


@dataclass(frozen=True, slots=True)
class SlotHealth:
    """``status`` is that of ``pg_replication_slots.wal_status``, empty before PostgreSQL 13; sizes are bytes.

    ``safe_bytes``: how much WAL may still be written before the slot may be lost; None where nothing limits it.
    ``reason``: why it was invalidated, empty as long as it was not. ``position``: how far the source's WAL was on its
    disk, ``at`` that moment by the source's clock, ``ahead`` what that clock is ahead of ours. ``wal_rate``: bytes of
    WAL that the source writes in a second, known from the second look on.
    """

    exists: bool
    name: str = DEFAULT_NAME
    active: bool = False
    restart_lsn: str | None = None
    confirmed_lsn: str | None = None
    retained_bytes: int = 0
    status: str = ""
    safe_bytes: int | None = None
    reason: str = ""
    position: Lsn = field(default_factory=Lsn)
    at: datetime | None = None
    ahead: timedelta = timedelta()
    wal_rate: float | None = None

    @property
    def seconds_left(self) -> float | None:
        """Until the slot may be lost, if the source goes on like this and the slot stays where it is."""
        if self.lost or self.safe_bytes is None or self.wal_rate is None or self.wal_rate < 1:
            return None
        return max(0, self.safe_bytes) / self.wal_rate

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
    query = _QUERY.format(
        status="coalesce(wal_status, '')" if version >= 130000 else "''",
        safe="safe_wal_size" if version >= 130000 else "NULL::bigint",
        reason=reason_column(version),
    )
    with server_errors(Side.SOURCE, f"looking at slot {slot}"), with_patience(source):
        row = source.execute(query.encode(), (slot,)).fetchone()
    assert row is not None  # noqa: S101  an outer join of one row
    here, at, exists, active, restart, confirmed, retained, status, safe, why = row
    return SlotHealth(
        exists=exists,
        name=slot,
        active=active,
        restart_lsn=restart,
        confirmed_lsn=confirmed,
        retained_bytes=retained,
        status=status,
        safe_bytes=safe,
        reason=why,
        position=Lsn.parse(str(here)) if here is not None else Lsn(),
        at=at,
        ahead=at - datetime.now(UTC),
    )


def with_rate(health: SlotHealth, before: SlotHealth | None) -> SlotHealth:
    """With the rate at which WAL was written since an earlier look, and a memory of the rate before. Pure."""
    if before is None or before.at is None or health.at is None:
        return health
    passed = (health.at - before.at).total_seconds()
    if passed < _RATE_SECONDS:
        return replace(health, wal_rate=before.wal_rate)
    rate = max(0, health.position.bytes_since(before.position)) / passed
    return replace(health, wal_rate=rate if before.wal_rate is None else (before.wal_rate + rate) / 2)


def worry_about(health: SlotHealth) -> Worry | None:
    """What a person should know; None when all is well. Pure."""
    slot = health.name
    again = "Begin again: `pgcopydb stream cleanup`, then clone --follow with a new work directory."
    if not health.exists:
        return Worry(3, f"replication slot {slot} is not on the source any more", again)
    if health.lost:
        loss = loss_of(health.reason)
        return Worry(3, f"replication slot {slot} is lost: {loss.why}", f"First {loss.before}. {again}")
    kept = pretty_size(health.retained_bytes)
    left = health.seconds_left
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
            f"replication slot {slot} may be lost when {pretty_size(health.safe_bytes)} more WAL are written"
            f"{'' if left is None else f', in about {pretty_seconds(left)} at this rate'}: {kept} are kept for it",
            "On the source: raise max_slot_wal_keep_size, and look why the target is behind.",
        )
    if health.safe_bytes is None and health.retained_bytes > _RETAINED_BYTES:
        return Worry(
            1,
            f"the source keeps {kept} of WAL for replication slot {slot}",
            "A long transaction on the source, or a target that is behind, may be why. Watch the source's disk.",
        )
    return None
