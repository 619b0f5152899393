"""Turns the results into tables: on the terminal, as Markdown and as JSON.

Writes ``benchmarks/results/<time>.md`` and ``.json``; the folder ignores itself, so that figures are committed only on
purpose. Every figure in a table can be made again from the JSON, which holds every single run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Final

from rich.console import Console
from rich.table import Table

from benchmarks.floor import SERVER_FLOOR, STATEMENT_FLOOR
from benchmarks.results import Run, Spread, SuiteResult, best_wall
from benchmarks.tools import DUMP, PEER

FOLDER: Final = Path(__file__).parent / "results"

_FLOORS: Final = frozenset({SERVER_FLOOR, STATEMENT_FLOOR})
_LEGEND: Final = (
    "Medians; client CPU is user + system of the tool's whole process tree. The floor of the servers is COPY, index"
    " builds and ANALYZE in one session each, added up and divided by the cores."
)
_WIDTH: Final = 140
"""Of the tables in a log or a pipe; a terminal has its own."""

_NOTHING: Final = "-"


@dataclass(frozen=True, slots=True)
class Grid:
    """One table and the lines below it."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    lines: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that is known of one session of measurements."""

    taken: datetime
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    results: Sequence[SuiteResult]


def grid(result: SuiteResult) -> Grid:
    """The table of one suite on one data set."""
    make = _memory_row if result.suite == "memory" else _time_row
    columns = _MEMORY_COLUMNS if result.suite == "memory" else _TIME_COLUMNS
    rows = [make(result, subject) for subject in result.subjects()]
    rows += [[name, "missing", *[_NOTHING] * (len(columns) - 2)] for name in result.missing]
    settings = ", ".join(f"{name} = {value}" for name, value in result.settings.items())
    lines = [
        f"{result.server} on both sides, loopback; {settings}; the other settings are the defaults.",
        f"{result.jobs} table jobs, {result.jobs} index jobs.",
        *result.notes,
        *(line for subject in result.subjects() if (line := _phases(result, subject))),
        *(f"{name} is missing: {why}" for name, why in result.missing.items()),
        *(f"{run.subject}, round {run.round + 1} failed: {run.error}" for run in result.runs if run.error),
    ]
    return Grid(f"{result.suite}: {result.data} ({_megabytes(result.bytes)})", columns, rows, lines)


_TIME_COLUMNS: Final = ["tool", "wall", "lowest to highest", "client CPU", "memory (PSS)", "to best peer", "to floor"]
_MEMORY_COLUMNS: Final = ["tool", "RSS, own", "RSS, tree", "PSS, own", "PSS, tree", "wall"]


def _time_row(result: SuiteResult, subject: str) -> list[str]:
    wall, cpu, good = result.wall(subject), result.cpu(subject), result.good(subject)
    if wall is None or cpu is None:
        return [subject, "failed", *[_NOTHING] * 5]
    floor = best_wall(result, sorted(_FLOORS))
    peer = None if subject in _FLOORS else best_wall(result, [name for name in (PEER, DUMP) if name != subject])
    measured = subject != SERVER_FLOOR
    return [
        subject,
        _seconds(wall.middle),
        _range(wall),
        _seconds(cpu.middle) if measured else _NOTHING,
        _megabytes(max(run.cost.tree.pss for run in good)) if measured else _NOTHING,
        _ratio(wall.middle, peer),
        _ratio(wall.middle, floor),
    ]


def _memory_row(result: SuiteResult, subject: str) -> list[str]:
    good = result.good(subject)
    if not good:
        return [subject, "failed", *[_NOTHING] * 4]
    own, tree = good[0].cost.own, good[0].cost.tree
    sizes = [_megabytes(size) for size in (own.rss, tree.rss, own.pss, tree.pss)]
    return [subject, *sizes, _seconds(good[0].cost.wall)]


def _phases(result: SuiteResult, subject: str) -> str | None:
    runs: list[Run] = result.good(subject)
    if not runs or not runs[0].phases:
        return None
    parts = (f"{name} {_seconds(median(run.phases[name] for run in runs))}" for name in runs[0].phases)
    return f"{subject}: {', '.join(parts)}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s"


def _range(wall: Spread) -> str:
    return f"{wall.lowest:.2f} to {wall.highest:.2f}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"


def _ratio(value: float, base: float | None) -> str:
    return f"{value / base:.2f}" if base else _NOTHING


def head(report: Report) -> list[str]:
    """Machine and versions, a line each."""
    return [
        f"Taken {report.taken:%Y-%m-%d %H:%M} UTC",
        ", ".join(f"{name}: {value}" for name, value in report.machine.items()),
        ", ".join(f"{name}: {version}" for name, version in report.versions.items()),
        _LEGEND,
    ]


def show(report: Report) -> None:
    """On the terminal."""
    console = Console()
    if not console.is_terminal:
        console.width = _WIDTH
    for line in head(report):
        console.print(line, markup=False)
    for content in map(grid, report.results):
        table = Table(*content.columns, title=content.title, title_justify="left")
        for row in content.rows:
            table.add_row(*row)
        console.print(table)
        for line in content.lines:
            console.print(line, markup=False)


def markdown(report: Report) -> str:
    blocks = ["# Measurements", "\n".join(f"- {line}" for line in head(report))]
    for content in map(grid, report.results):
        table = [content.columns, ["---"] * len(content.columns), *content.rows]
        blocks.append(f"## {content.title}")
        blocks.append("\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table))
        blocks.append("\n".join("- " + line.replace("\n", "\n  ") for line in content.lines))
    return "\n\n".join(blocks) + "\n"


def as_json(report: Report) -> str:
    return json.dumps(asdict(report), indent=2, default=str) + "\n"


def write(report: Report, extra: Path | None) -> Path:
    """Both files; the JSON a second time where the operator wants it. Returns the Markdown file's path."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / ".gitignore").write_text("*\n", encoding="utf-8")
    path = FOLDER / f"{report.taken:%Y%m%dT%H%M%S}.md"
    path.write_text(markdown(report), encoding="utf-8")
    for target in (path.with_suffix(".json"), extra):
        if target is not None:
            target.write_text(as_json(report), encoding="utf-8")
    return path
