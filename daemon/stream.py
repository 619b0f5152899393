"""What is known of a stream of changes: its slot, its plugin, and what was made for it on both servers.

Kept in ``stream.json`` of the work directory, written before anything is made (``ready`` is false then) and again when
all of it is there, so that whatever a crash leaves behind can be found by its names and removed.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Final

from pgcopydb.daemon.plugins import Plugin
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.runtime.durable import disk_errors
from pgcopydb.runtime.errors import CorruptState, StateError
from pgcopydb.runtime.sealed import read_sealed, write_sealed
from pgcopydb.runtime.workdir import WorkDir

DEFAULT_NAME: Final = "pgcopydb"
"""Of the slot and of the replication origin, as in the C program."""

MAKING: Final = "setup"
"""Name of the lock of whoever makes a stream step by step. A migration that does it all holds that of ``follow``."""

OWN_SCHEMA: Final = "pgcopydb"
"""Where sentinel and progress are kept; never copied, never replicated."""


@dataclass(frozen=True, slots=True)
class Stream:
    """``origin``: name on the target. ``sentinel``: the side that has the sentinel. ``system``: the source's system
    identifier. ``tracking``: how the target keeps its progress, ``origin``, ``table`` or ``both``."""

    slot: str
    plugin: Plugin
    origin: str
    sentinel: Side
    system: str
    timeline: int
    segment_size: int
    consistent_point: Lsn = field(default_factory=Lsn)
    snapshot: str = ""
    tracking: str = ""
    publications: tuple[str, ...] = ()
    numeric_as_string: bool = False
    ready: bool = False

    def describe(self) -> dict[str, Any]:
        """For people and programs."""
        return {**dataclasses.asdict(self), "consistent_point": str(self.consistent_point)}

    def save(self, workdir: WorkDir) -> None:
        write_sealed(workdir.stream, self.describe())


def find_stream(workdir: WorkDir) -> Stream | None:
    """None when the work directory has no stream. Raises ``CorruptState`` when its file cannot be read."""
    with disk_errors(workdir.stream, "reading"):
        if not workdir.stream.exists():
            return None
    try:
        values = read_sealed(workdir.stream)
        values["plugin"] = Plugin(values["plugin"])
        values["sentinel"] = Side(values["sentinel"])
        values["consistent_point"] = Lsn.parse(values["consistent_point"])
        values["publications"] = tuple(values["publications"])
        return Stream(**values)
    except (ValueError, KeyError, TypeError) as exc:
        raise CorruptState(
            f"{workdir.stream} is not a description of a stream: {exc}",
            hint="Remove the slot and all that belongs to it with `pgcopydb stream cleanup --slot-name …`.",
        ) from exc


def load_stream(workdir: WorkDir) -> Stream:
    """Raises ``StateError`` when the work directory has no stream that is ready."""
    stream = find_stream(workdir)
    if stream is None:
        raise StateError(
            f"the work directory {workdir.top} has no stream of changes",
            hint="`pgcopydb clone --follow`, or `pgcopydb snapshot --follow` and `pgcopydb stream setup`, make one; "
            "--dir names the work directory.",
        )
    if stream.ready:
        return stream
    if is_being_made(workdir):
        raise StateError(
            f"slot {stream.slot} and what goes with it are being made by another pgcopydb",
            hint="Wait for that: `pgcopydb status` says what it waits for.",
        )
    if not stream.consistent_point:
        raise StateError(
            f"making slot {stream.slot} was interrupted: nothing is received yet",
            hint="Begin again with the same command (`clone --follow --resume`, `stream setup`); or remove what there"
            " is with `pgcopydb stream cleanup`.",
        )
    raise StateError(
        f"slot {stream.slot} is made, the sentinel and the target's side are not",
        hint="Make them with `pgcopydb stream setup`; or remove what there is with `pgcopydb stream cleanup`.",
    )


def is_being_made(workdir: WorkDir) -> bool:
    """Whether a command is at work that makes a stream unless it is there."""
    return workdir.is_locked(MAKING) or workdir.is_locked("follow")
