"""How one migration stands, for people and for programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeVar

from rich.console import Group, RenderableType
from rich.text import Text

from pgcopydb.bootstrap.progress import Progress, progress_json, read_progress
from pgcopydb.bootstrap.store import CatalogStore
from pgcopydb.cli.tables import new_table
from pgcopydb.daemon.slot_health import SlotHealth
from pgcopydb.daemon.status import StageStatus, Status, StreamState, collect, status_json
from pgcopydb.postgres.connect import Endpoint
from pgcopydb.runtime.errors import PgcopydbError
from pgcopydb.runtime.sizes import pretty_seconds, pretty_size
from pgcopydb.runtime.workdir import WorkDir

T = TypeVar("T")

_SILENT_SECONDS = 15.0
"""A process that says nothing for so long is worth a word."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One migration, as it was at one moment."""

    workdir: WorkDir
    found: Status

    def json(self) -> dict[str, Any]:
        """For a program."""
        return {**status_json(self.found), "copy": _copy_of(self.workdir, self.found, progress_json)}

    def shown(self) -> RenderableType:
        """For a person."""
        found = self.found
        stages = new_table("Stage", "State", "Process", "Position", "Transactions", "per second", "Detail")
        for stage in [found.supervisor, *found.stages]:
            stages.add_row(*_cells(stage))
        copy = _copy_of(self.workdir, found, read_progress)
        lines = [*_beginnings(found), *(_copy(copy) if copy is not None else ()), *_figures(found)]
        parts: list[RenderableType] = [stages, *(Text(f"  {line}") for line in lines)]
        parts += [Text(f"  WARNING: {line}", style="yellow") for line in found.warnings]
        parts += [Text(f"  not known: {line}", style="yellow") for line in found.problems]
        for stage in found.stages:
            if stage.state is not None and stage.state.error is not None:
                parts.append(Text(f"  last error of {stage.name}, {stage.state.error_at}: {stage.state.error}"))
                if stage.state.hint is not None:
                    parts.append(Text(f"    hint: {stage.state.hint}"))
        return Group(*parts)


@dataclass(slots=True)
class OfOne:
    """Looks at one migration again and again."""

    workdir: WorkDir
    source: Endpoint | None
    target: Endpoint | None
    health: SlotHealth | None = None

    def look(self) -> Picture:
        found = collect(self.workdir, self.source, self.target, self.health)
        self.health = found.slot or self.health
        return Picture(self.workdir, found)


def _copy_of(workdir: WorkDir, found: Status, read: Callable[[CatalogStore], T]) -> T | None:
    """What the copy does; None when this work directory has none."""
    if not workdir.exists():
        return None
    try:
        with closing(CatalogStore.read(workdir.catalog)) as store:
            return read(store)
    except PgcopydbError as error:
        found.problems.append(error.message)
        return None


def _cells(stage: StageStatus) -> Sequence[str]:
    state = stage.state
    if state is None:
        return stage.name, stage.phase, "", "", "", "", ""
    works = stage.name != "supervisor"
    is_silent = stage.alive and (stage.silent or 0) > _SILENT_SECONDS
    silent = f"silent for {pretty_seconds(stage.silent or 0)}" if is_silent else ""
    restarts = f"{state.restarts} restarts of stages" if state.restarts else ""
    return (
        stage.name,
        stage.phase,
        str(state.pid) if stage.alive else "",
        state.position if works else "",
        str(state.transactions) if works else "",
        f"{state.transaction_rate:.1f}" if works and stage.alive else "",
        "; ".join(filter(None, (state.detail, silent, restarts))),
    )


def _beginnings(found: Status) -> list[str]:
    """As long as the stream is not ready."""
    said = {
        StreamState.BEGINNING: "a command is at work that has made nothing yet",
        StreamState.WAITING: f"slot {found.slot_name} is waited for",
        StreamState.INTERRUPTED: f"making slot {found.slot_name} was interrupted: the same command begins again",
        StreamState.MADE: f"slot {found.slot_name} is made; the sentinel and the target's side are not yet",
    }
    lines = [f"stream      {said[found.stream]}"] if found.stream in said else []
    return [*lines, *(f"            {line}" for line in found.waits_for)]


def _copy(copy: Progress) -> list[str]:
    """As long as it is not complete."""
    if copy.complete:
        return []
    if not copy.tables_total:
        return ["copy        no table yet"]
    size = f"{pretty_size(copy.bytes_done + copy.bytes_in_flight)} of {pretty_size(copy.bytes_total)}"
    indexes = f"{copy.indexes_done} of {copy.indexes_total} indexes"
    return [f"copy        {copy.tables_done} of {copy.tables_total} tables, {size}; {indexes}"]


def _figures(found: Status) -> list[str]:
    lines: list[str] = []
    if found.sentinel is not None:
        row = found.sentinel
        endpos = str(row.endpos) if row.endpos else "not set"
        lines.append(f"applying    {'enabled' if row.apply else 'disabled'}; end position {endpos}")
        lines.append(
            f"received    {row.write_lsn}; acknowledged {row.flush_lsn}; on the target's disk {row.replay_lsn}"
        )
    if found.lag_bytes is not None:
        seconds = "unknown" if found.lag_seconds is None else pretty_seconds(found.lag_seconds)
        lines.append(f"behind      {pretty_size(found.lag_bytes)} of WAL, {seconds}")
    if found.seconds_to_endpos is not None:
        lines.append(f"end         in about {pretty_seconds(found.seconds_to_endpos)} at this rate")
    if found.slot is not None and not found.slot.exists:
        lines.append(f"slot        {found.slot_name}: is not on the source any more")
    elif found.slot is not None:
        safe = "" if found.slot.safe_bytes is None else f", {pretty_size(found.slot.safe_bytes)} until it may be lost"
        if found.slot.seconds_left is not None:
            safe += f" (about {pretty_seconds(found.slot.seconds_left)} at this rate)"
        lines.append(
            f"slot        {found.slot_name}: {found.slot.status or 'there'},"
            f" {'active' if found.slot.active else 'not active'},"
            f" {pretty_size(found.slot.retained_bytes)} of WAL kept{safe}"
        )
    disk = found.disk
    sizes = [pretty_size(size) for size in (disk.json, disk.sql, disk.free)]
    lines.append("files       {} JSON, {} SQL; {} free".format(*sizes))
    return lines
