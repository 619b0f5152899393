"""A row of a suite's table: which columns there are, and what stands in them for one subject."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Final

from benchmarks.changes import RECVLOGICAL
from benchmarks.floor import SERVER_FLOOR, STATEMENT_FLOOR
from benchmarks.followers import NATIVE
from benchmarks.results import Run, Spread, SuiteResult, best_wall, percentile
from benchmarks.tools import DUMP, PEER

NOTHING: Final = "-"

_FLOORS: Final = frozenset({SERVER_FLOOR, STATEMENT_FLOOR})


@dataclass(frozen=True, slots=True)
class Form:
    """The columns behind the tool's name, and their values; empty when no run of the subject was good."""

    columns: list[str]
    values: Callable[[SuiteResult, str], list[str]]

    def row(self, result: SuiteResult, subject: str) -> list[str]:
        if not result.good(subject):
            return self.nothing(subject, "failed")
        return [subject, *self.values(result, subject)]

    def nothing(self, subject: str, why: str) -> list[str]:
        return [subject, why, *[NOTHING] * (len(self.columns) - 1)]


def form_of(suite: str) -> Form:
    return _FORMS.get(suite, _TIMES)


def seconds(value: float) -> str:
    return f"{value:.2f} s"


def megabytes(size: float) -> str:
    return f"{size / 1e6:,.0f} MB"


def _times(result: SuiteResult, subject: str) -> list[str]:
    wall, cpu, good = _wall(result, subject), _cpu(result, subject), result.good(subject)
    floor = best_wall(result, sorted(_FLOORS))
    peer = None if subject in _FLOORS else best_wall(result, [name for name in (PEER, DUMP) if name != subject])
    measured = subject != SERVER_FLOOR
    return [
        seconds(wall.middle),
        _range(wall),
        seconds(cpu.middle) if measured else NOTHING,
        megabytes(max(run.cost.tree.pss for run in good)) if measured else NOTHING,
        _ratio(wall.middle, peer),
        _ratio(wall.middle, floor),
    ]


def _memory(result: SuiteResult, subject: str) -> list[str]:
    good = result.good(subject)
    own, tree = good[0].cost.own, good[0].cost.tree
    sizes = [megabytes(size) for size in (own.rss, tree.rss, own.pss, tree.pss)]
    return [*sizes, seconds(good[0].cost.wall)]


def _receive(result: SuiteResult, subject: str) -> list[str]:
    wall = _wall(result, subject)
    peer = f"{RECVLOGICAL}, {subject.rpartition(', ')[2]}"
    return [
        seconds(wall.middle),
        _range(wall),
        _figure(result, subject, "rows/s", ",.0f"),
        seconds(_cpu(result, subject).middle),
        _pss(result, subject),
        NOTHING if subject == peer else _ratio(wall.middle, best_wall(result, [peer])),
    ]


def _catch_up(result: SuiteResult, subject: str) -> list[str]:
    wall, streamed = _wall(result, subject), result.phase(subject, "until all was durable")
    native = result.phase(NATIVE, "until all was durable")
    assert streamed is not None
    in_servers = subject == NATIVE
    return [
        seconds(wall.middle),
        seconds(streamed.middle),
        _range(streamed),
        _figure(result, subject, "rows/s", ",.0f"),
        NOTHING if in_servers else seconds(_cpu(result, subject).middle),
        _figure(result, subject, "servers' CPU", ".2f") + " s",
        NOTHING if in_servers else _pss(result, subject),
        NOTHING if in_servers else _ratio(streamed.middle, native.middle if native else None),
    ]


def _latency(result: SuiteResult, subject: str) -> list[str]:
    samples = result.samples(subject)
    medians = [median(value for _, value in run.samples) for run in result.good(subject)]
    return [
        *(_milliseconds(percentile(samples, percent)) for percent in (50, 90, 99)),
        _milliseconds(max(samples)),
        f"{_milliseconds(min(medians))} to {_milliseconds(max(medians))}",
        str(len(samples)),
    ]


def _live(result: SuiteResult, subject: str) -> list[str]:
    samples, good = result.samples(subject), result.good(subject)
    return [
        _figure(result, subject, "tps", ",.0f"),
        *(_milliseconds(percentile(samples, percent)) for percent in (50, 90, 99)),
        _milliseconds(max(samples)),
        " / ".join(_milliseconds(median(_third(good, number))) for number in range(3)),
        _figure(result, subject, "caught up after", ".2f") + " s",
        NOTHING if subject == NATIVE else seconds(_cpu(result, subject).middle),
    ]


def _third(runs: list[Run], number: int) -> list[float]:
    """Lags of the first, the second or the last third of the time that each run took."""
    return [lag for run in runs for at, lag in run.samples if min(2, int(3 * at / run.cost.wall)) == number]


_TIMES: Final = Form(["wall", "lowest to highest", "client CPU", "memory (PSS)", "to best peer", "to floor"], _times)
_FORMS: Final = {
    "memory": Form(["RSS, own", "RSS, tree", "PSS, own", "PSS, tree", "wall"], _memory),
    "receive": Form(
        ["wall", "lowest to highest", "rows/s", "client CPU", "memory (PSS)", f"to {RECVLOGICAL}"], _receive
    ),
    "catch-up": Form(
        [
            *("from the command", "from the first byte", "lowest to highest", "rows/s", "client CPU", "servers' CPU"),
            *("memory (PSS)", f"to {NATIVE}"),
        ],
        _catch_up,
    ),
    "latency": Form(["median", "90 %", "99 %", "highest", "medians of the rounds", "commits"], _latency),
    "live": Form(
        ["tps", "lag: median", "90 %", "99 %", "highest", "medians of its thirds", "caught up after", "client CPU"],
        _live,
    ),
}


def _wall(result: SuiteResult, subject: str) -> Spread:
    wall = result.wall(subject)
    assert wall is not None
    return wall


def _cpu(result: SuiteResult, subject: str) -> Spread:
    cpu = result.cpu(subject)
    assert cpu is not None
    return cpu


def _pss(result: SuiteResult, subject: str) -> str:
    return megabytes(max(run.cost.tree.pss for run in result.good(subject)))


def _figure(result: SuiteResult, subject: str, name: str, form: str) -> str:
    spread = result.figure(subject, name)
    return NOTHING if spread is None else format(spread.middle, form)


def _range(wall: Spread) -> str:
    return f"{wall.lowest:.2f} to {wall.highest:.2f}"


def _milliseconds(value: float) -> str:
    return f"{value * 1000:,.1f} ms"


def _ratio(value: float, base: float | None) -> str:
    return f"{value / base:.2f}" if base else NOTHING
