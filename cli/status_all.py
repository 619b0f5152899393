"""How the migrations of a run of all databases stand: a line for each."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from rich.console import RenderableType

from pgcopydb.bootstrap.all_reports import AllProgress, DatabaseProgress
from pgcopydb.bootstrap.store import CatalogStore
from pgcopydb.cli.status_one import OfOne, Picture
from pgcopydb.cli.tables import new_table
from pgcopydb.daemon.heartbeat import Phase
from pgcopydb.daemon.status import STAGES, Status
from pgcopydb.daemon.stream import find_stream, is_being_made
from pgcopydb.postgres.connect import Endpoint
from pgcopydb.runtime.sizes import pretty_seconds, pretty_size
from pgcopydb.runtime.workdir import WorkDir

_TROUBLED = frozenset({Phase.RETRYING, Phase.PAUSED, Phase.FAILED, "gone"})


@dataclass(frozen=True, slots=True)
class PictureOfAll:
    """Each database with how its copy is, and its migration from the moment on in which that is being made."""

    databases: Sequence[tuple[DatabaseProgress, Picture | None]]

    def json(self) -> dict[str, Any]:
        """For a program."""
        return {
            "databases": [
                {"name": each.name, "state": each.state, **(picture.json() if picture is not None else {})}
                for each, picture in self.databases
            ]
        }

    def shown(self) -> RenderableType:
        """For a person."""
        right = ("Behind", "Seconds", "per second", "Files")
        table = new_table("Database", "Copy", "Stages", "Applied", *right, "Endpos", "Detail", right=right)
        for each, picture in self.databases:
            cells = _cells(picture.found) if picture is not None else ("",) * 8
            table.add_row(each.name, each.state, *cells)
        return table


def _cells(found: Status) -> Sequence[str]:
    applying = found.stages[STAGES.index("apply")]
    alive = sum(stage.alive for stage in found.stages)
    troubles = [
        f"{stage.name} {stage.phase}: {stage.state.detail or stage.state.error or ''}"
        for stage in found.stages
        if stage.phase in _TROUBLED and stage.state is not None
    ]
    endpos = found.sentinel.endpos if found.sentinel is not None else None
    return (
        f"{alive} of {len(found.stages)} run",
        str(found.sentinel.replay_lsn) if found.sentinel is not None else "",
        "" if found.lag_bytes is None else pretty_size(found.lag_bytes),
        "" if found.lag_seconds is None else pretty_seconds(found.lag_seconds),
        f"{applying.state.transaction_rate:.1f}" if applying.state is not None and applying.alive else "",
        pretty_size(found.disk.json + found.disk.sql),
        str(endpos) if endpos else "",
        "; ".join([*found.warnings, *troubles, *found.problems]),
    )


@dataclass(slots=True)
class OfAll:
    """Looks at all of them again and again."""

    workdir: WorkDir
    source: Endpoint | None
    target: Endpoint | None
    databases: Sequence[str]
    _progress: AllProgress = field(init=False)
    _lookers: dict[str, OfOne] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._progress = AllProgress(self.workdir)
        for name in self.databases:
            source, target = (end and end.of_database(name) for end in (self.source, self.target))
            self._lookers[name] = OfOne(self.workdir.database(name), source, target)

    def look(self) -> PictureOfAll:
        with closing(CatalogStore.read(self.workdir.catalog)) as top:
            databases = self._progress.databases(top)
        return PictureOfAll([(each, self._picture(each.name)) for each in databases])

    def _picture(self, name: str) -> Picture | None:
        looker = self._lookers[name]
        is_there = find_stream(looker.workdir) is not None or is_being_made(looker.workdir)
        return looker.look() if is_there else None
