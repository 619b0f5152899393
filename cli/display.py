"""Progress while a clone runs: a live display on a terminal, a log line at a calm rhythm elsewhere.

Reads the catalog of the work directory as any other process could; it never holds up the run.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pgcopydb.bootstrap.all_reports import AllProgress, is_of_all
from pgcopydb.bootstrap.progress import Phase, Progress, read_progress
from pgcopydb.bootstrap.store import CatalogStore
from pgcopydb.runtime.errors import PgcopydbError
from pgcopydb.runtime.sizes import pretty_seconds, pretty_size
from pgcopydb.runtime.workdir import WorkDir

logger = logging.getLogger("pgcopydb.progress")

_LIVE_SECONDS: Final = 0.5
_FIRST_LINE_SECONDS: Final = 10.0
_LAST_LINE_SECONDS: Final = 60.0
_SMOOTHING: Final = 0.3


class Rate:
    """Bytes per second, smoothed, so that the estimate of the end does not jump."""

    def __init__(self) -> None:
        self._last: tuple[float, int] | None = None
        self.value = 0.0

    def update(self, done: int, now: float) -> float:
        if self._last is not None and now > self._last[0]:
            current = max(0, done - self._last[1]) / (now - self._last[0])
            self.value = current if not self.value else _SMOOTHING * current + (1 - _SMOOTHING) * self.value
        self._last = (now, done)
        return self.value


def progress_line(progress: Progress, rate: float) -> str:
    """One line that says how far the run is."""
    done = progress.bytes_done + progress.bytes_in_flight
    speed = f" ({pretty_size(rate)}/s{_eta(progress.bytes_total - done, rate)})" if rate else ""
    return (
        f"copied {progress.tables_done} of {progress.tables_total} tables,"
        f" {pretty_size(done)} of {pretty_size(progress.bytes_total)}{speed};"
        f" built {progress.indexes_done} of {progress.indexes_total} indexes"
    )


def _eta(left: int, rate: float) -> str:
    return f", ETA {pretty_seconds(left / rate)}" if left > 0 and rate > 0 else ""


def render(progress: Progress, rate: float, seconds: float) -> Group:
    """The live display: a bar for each phase, a line for each worker."""
    bars = Table.grid(padding=(0, 1))
    for phase in progress.phases:
        bars.add_row(
            Text(phase.name, style="bold"),
            ProgressBar(total=phase.total, completed=phase.done, width=40),
            Text(_amount(phase)),
            Text(
                f"{pretty_size(rate)}/s{_eta(phase.total - phase.done, rate)}" if phase.unit == "bytes" and rate else ""
            ),
        )
    workers = Table.grid(padding=(0, 1))
    for worker in progress.workers:
        size = pretty_size(worker.bytes) if worker.bytes else ""
        workers.add_row(
            Text(worker.worker, style="dim"),
            Text(worker.doing, overflow="ellipsis", no_wrap=True),
            Text(size),
            Text(pretty_seconds(worker.seconds), style="dim"),
        )
    return Group(bars, workers, Text(f"running for {pretty_seconds(seconds)}", style="dim"))


def _amount(phase: Phase) -> str:
    if phase.unit == "bytes":
        return f"{pretty_size(phase.done)} of {pretty_size(phase.total)}"
    return f"{phase.done} of {phase.total} {phase.unit}"


@contextmanager
def watching(workdir: WorkDir) -> Iterator[None]:
    """Show the progress of the run of this work directory for the length of the block."""
    end = threading.Event()
    live = sys.stderr.isatty() and logger.isEnabledFor(logging.INFO)
    thread = threading.Thread(target=_watch_live if live else _watch_lines, args=(workdir, end), daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


class _Reader:
    """Of one database or of all, as the catalog of the work directory is."""

    def __init__(self, workdir: WorkDir) -> None:
        self._workdir = workdir
        self._all = AllProgress(workdir)
        self._store: CatalogStore | None = None

    def read(self) -> Progress | None:
        if self._store is None and self._workdir.exists():
            self._store = CatalogStore.read(self._workdir.catalog)
        return None if self._store is None else _read(self._store, self._all)

    def close(self) -> None:
        if self._store is not None:
            self._store.close()


def _read(store: CatalogStore, all_of_them: AllProgress) -> Progress | None:
    try:
        return all_of_them.total(store) if is_of_all(store) else read_progress(store)
    except PgcopydbError as error:
        # The tables are being laid out, or the disk is full: the run itself says so.
        logger.debug("no progress to show: %s", error)
        return None


def _watch_lines(workdir: WorkDir, end: threading.Event) -> None:
    pause = _FIRST_LINE_SECONDS
    rate = Rate()
    reader = _Reader(workdir)
    while not end.wait(pause):
        progress = reader.read()
        if progress is not None and progress.complete:
            break
        if progress is not None and progress.tables_total:
            speed = rate.update(progress.bytes_done + progress.bytes_in_flight, time.monotonic())
            logger.info("%s", progress_line(progress, speed))
            pause = min(_LAST_LINE_SECONDS, pause * 1.5)
    reader.close()


def _watch_live(workdir: WorkDir, end: threading.Event) -> None:
    begun = time.monotonic()
    rate = Rate()
    reader = _Reader(workdir)
    console = Console(file=sys.stderr)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while not end.wait(_LIVE_SECONDS):
            progress = reader.read()
            if progress is not None and progress.complete:
                break
            if progress is not None and progress.tables_total:
                now = time.monotonic()
                speed = rate.update(progress.bytes_done + progress.bytes_in_flight, now)
                live.update(render(progress, speed, now - begun), refresh=True)
    reader.close()
