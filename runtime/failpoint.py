"""Named places where a test may kill the process, raise an error or wait.

``PGCOPYDB_FAILPOINTS="name=kill,other=error@3"`` makes the first pass through ``name`` end the process as ``kill -9``
would, and the third pass through ``other`` raise; ``stop`` halts the process there until it gets SIGCONT. A name that
is not in ``NAMES`` is refused, so that a test never waits for a point that is gone.
"""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import dataclass
from typing import Final

from pgcopydb.runtime.errors import ConfigError, PgcopydbError

VARIABLE: Final = "PGCOPYDB_FAILPOINTS"

NAMES: Final = frozenset(
    {
        "catalog.before_commit",
        "catalog.after_commit",
        "dump.before_publish",
        "dump.after_publish",
        "pre_data.before_restore",
        "pre_data.after_restore",
        "copy.after_truncate",
        "copy.before_commit",
        "copy.after_commit",
        "copy.after_mark",
        "index.after_create",
        "index.after_mark",
        "constraint.after_create",
        "settings.after_apply",
        "vacuum.after_run",
        "large_objects.after_remember",
        "large_objects.before_commit",
        "large_objects.after_commit",
        "extension_data.after_commit",
        "snapshot.after_release",
        "sequences.after_set",
        "properties.after_set",
        "post_data.before_restore",
        "post_data.after_restore",
        "foreign_keys.after_add",
        "foreign_keys.after_validate",
        "matviews.after_refresh",
        "summary.before_write",
        "databases.after_plan",
        "databases.after_roles",
        "databases.after_create",
        "databases.after_copy",
        "databases.after_follow",
        "databases.after_finish",
        "databases.after_mark",
        "databases.before_summary",
        "stream.before_slot",
        "stream.after_publications",
        "stream.after_slot",
        "stream.after_origin",
        "stream.after_sentinel",
        "receive.after_write",
        "receive.before_sync",
        "receive.after_sync",
        "receive.after_feedback",
        "receive.before_publish",
        "receive.before_rename",
        "receive.after_publish",
        "receive.at_endpos",
        "transform.after_write",
        "transform.before_publish",
        "transform.before_rename",
        "transform.after_publish",
        "catch_up.after_note",
        "catch_up.after_apply",
        "catch_up.after_hold",
        "conflicts.after_keep",
        "replay.after_session",
        "replay.before_commit",
        "replay.after_commit",
        "replay.after_flush",
        "replay.after_report",
        "replay.at_endpos",
        "repair.after_cut",
        "repair.after_publish",
        "repair.after_shorten",
        "prune.before_note",
        "prune.before_first",
        "prune.before_remove",
        "prune.after_remove",
        "supervise.before_launch",
        "supervise.after_launch",
        "supervise.after_end",
        "supervise.all_ended",
        "sentinel.before_steer",
        "sentinel.after_steer",
        "sentinel.before_report",
        "follow.after_copy",
        "follow.before_sequences",
        "follow.after_sequences",
        "follow.after_views",
        "follow.after_large_objects",
        "cleanup.after_slot",
        "cleanup.after_publications",
        "cleanup.after_source",
        "cleanup.after_progress",
        "cleanup.before_files",
    }
)


@dataclass(slots=True)
class _Trap:
    action: str
    passes_left: int


class _Traps:
    """What the environment asks for; counted across threads."""

    def __init__(self, text: str) -> None:
        self._lock = threading.Lock()
        self._traps = dict(self._parse(part) for part in text.split(",") if part)

    @staticmethod
    def _parse(part: str) -> tuple[str, _Trap]:
        name, _, action = part.partition("=")
        action, _, count = action.partition("@")
        if name not in NAMES or action not in {"kill", "stop", "error"} or not (count or "1").isdigit():
            raise ConfigError(
                f"{VARIABLE}: cannot use {part!r}",
                hint="Write NAME=kill, NAME=stop or NAME=error, with @N for the Nth pass.",
            )
        return name, _Trap(action, int(count or "1"))

    def reach(self, name: str) -> None:
        trap = self._traps.get(name)
        if trap is None:
            return
        with self._lock:
            trap.passes_left -= 1
            if trap.passes_left != 0:
                return
        if trap.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if trap.action == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
            return
        raise PgcopydbError(f"failpoint {name} was reached")


_traps = _Traps(os.environ.get(VARIABLE, ""))


def failpoint(name: str) -> None:
    """Do what a test asked for at this place; nothing otherwise."""
    _traps.reach(name)
