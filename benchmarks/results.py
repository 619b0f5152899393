"""What a suite hands to the report: one value per run, and the figures that are made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from benchmarks.measure import Cost


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a tool. ``phases`` are seconds of its parts, where they are known; ``samples`` are what was looked at
    again and again: seconds since the run began, and the value; ``error`` is why it counts for nothing."""

    subject: str
    round: int
    cost: Cost = field(default_factory=Cost)
    phases: Mapping[str, float] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    samples: Sequence[tuple[float, float]] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, lowest and highest of several runs."""

    middle: float
    lowest: float
    highest: float


@dataclass(slots=True)
class SuiteResult:
    """All runs of one suite on one data set. ``missing`` says which tools were not there, and why; ``jobs`` is 0 where
    there is nothing to share out."""

    suite: str
    title: str
    data: str
    bytes: int
    server: str
    settings: Mapping[str, str]
    jobs: int
    missing: Mapping[str, str]
    runs: list[Run] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def subjects(self) -> list[str]:
        return list(dict.fromkeys(run.subject for run in self.runs))

    def good(self, subject: str) -> list[Run]:
        return [run for run in self.runs if run.subject == subject and run.error is None]

    def wall(self, subject: str) -> Spread | None:
        return spread([run.cost.wall for run in self.good(subject)])

    def cpu(self, subject: str) -> Spread | None:
        return spread([run.cost.cpu for run in self.good(subject)])

    def phase(self, subject: str, name: str) -> Spread | None:
        return spread([run.phases[name] for run in self.good(subject)])

    def figure(self, subject: str, name: str) -> Spread | None:
        return spread([run.figures[name] for run in self.good(subject)])

    def samples(self, subject: str) -> list[float]:
        """The values of all rounds."""
        return [value for run in self.good(subject) for _, value in run.samples]

    def differences(self, subject: str, base: str) -> list[float]:
        """Wall time of one minus the other, for every round that has both: neighbours share the machine's mood."""
        walls = {run.round: run.cost.wall for run in self.good(base)}
        return [run.cost.wall - walls[run.round] for run in self.good(subject) if run.round in walls]


def spread(values: list[float]) -> Spread | None:
    """None when there is nothing to take a median of."""
    return Spread(median(values), min(values), max(values)) if values else None


def percentile(values: Sequence[float], percent: int) -> float:
    """The smallest value that so many per cent of all are not above."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def best_wall(result: SuiteResult, subjects: list[str]) -> float | None:
    """The lowest median of these."""
    walls = [wall.middle for subject in subjects if (wall := result.wall(subject)) is not None]
    return min(walls, default=None)
