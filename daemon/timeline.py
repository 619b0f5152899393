"""Whether the source still has the history that was received from it.

A standby that was promoted, or a source that was restored, has left the old timeline at some position (PostgreSQL
documentation, "Timelines"). What was received up to there is its history too; if more was received, the target may have
transactions that never happened on this source, and positions mean something else on it from there on.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from pgcopydb.daemon.stream import Stream
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.postgres.replication import ReplicationSession
from pgcopydb.runtime.errors import CorruptState, StateError

_LINE: Final = re.compile(r"\s*(\d+)\s+([0-9A-Fa-f]+/[0-9A-Fa-f]+)(?:\s|\Z)")
_BEGIN_AGAIN: Final = "Begin again with a new slot and a new copy: `pgcopydb clone --follow --restart`."


def check_history(session: ReplicationSession, stream: Stream, received: Lsn) -> Stream:
    """The stream on the source's timeline of now. Raises ``StateError`` if changes were received that are not on it."""
    identity = session.identify()
    if identity.system != stream.system:
        raise StateError(
            f"the source is another cluster (system identifier {identity.system}) than the slot was made on"
            f" ({stream.system})",
            hint="Check --source. A copy of the cluster that was restored elsewhere has other changes.",
        )
    if identity.flushed < received:
        raise StateError(
            f"the source's WAL ends at {identity.flushed}, and changes were received from it up to {received}: it was"
            " restored, or took over without them",
            hint=_BEGIN_AGAIN,
        )
    if identity.timeline == stream.timeline:
        return stream
    name, content = session.timeline_history(identity.timeline)
    left = end_of_timeline(content.decode("utf-8", "replace"), stream.timeline)
    if left is None or left < received:
        where = "never was on that" if left is None else f"left that at {left}"
        raise StateError(
            f"the source is on timeline {identity.timeline}; it {where}, and changes were received on timeline"
            f" {stream.timeline} up to {received} ({name})",
            hint=_BEGIN_AGAIN,
        )
    return replace(stream, timeline=identity.timeline)


def end_of_timeline(history: str, timeline: int) -> Lsn | None:
    """Where a history file says that a timeline was left; None when it does not name it. Raises ``CorruptState``."""
    for line in history.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _LINE.match(line)
        if found is None:
            raise CorruptState(f"not a line of a timeline's history: {line[:80]!r}")
        if int(found[1]) == timeline:
            return Lsn.parse(found[2])
    return None
