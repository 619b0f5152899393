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

from benchmarks.results import Run, SuiteResult
from benchmarks.rows import form_of, megabytes, seconds

FOLDER: Final = Path(__file__).parent / "results"

_LEGEND: Final = (
    "Medians; client CPU is user + system of the tool's whole process tree. The floor of the servers is COPY, index"
    " builds and ANALYZE in one session each, added up and divided by the cores."
)
_WIDTH: Final = 140
"""Of the tables in a log or a pipe; a terminal has its own."""


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
    form = form_of(result.suite)
    rows = [form.row(result, subject) for subject in result.subjects()]
    rows += [form.nothing(name, "missing") for name in result.missing]
    settings = ", ".join(f"{name} = {value}" for name, value in result.settings.items())
    lines = [
        f"{result.server} on both sides, loopback; {settings}; the other settings are the defaults.",
        *([f"{result.jobs} table jobs, {result.jobs} index jobs."] if result.jobs else []),
        *result.notes,
        *(line for subject in result.subjects() if (line := _phases(result, subject))),
        *(f"{name} is missing: {why}" for name, why in result.missing.items()),
        *(f"{run.subject}, round {run.round + 1} failed: {run.error}" for run in result.runs if run.error),
    ]
    return Grid(f"{result.suite}: {result.data} ({megabytes(result.bytes)})", ["tool", *form.columns], rows, lines)


def _phases(result: SuiteResult, subject: str) -> str | None:
    runs: list[Run] = result.good(subject)
    if not runs or not runs[0].phases:
        return None
    parts = (f"{name} {seconds(median(run.phases[name] for run in runs))}" for name in runs[0].phases)
    return f"{subject}: {', '.join(parts)}"


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
