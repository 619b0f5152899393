"""The suites about changes: how fast a backlog is received, how fast it gets to the target, how late a commit is there
on an idle system, and how late under a steady load.

Every round takes every follower once, and starts with another one than the round before. A backlog is made once: all
followers begin at the same place before it, and the target is made anew from a template for each run. The live suites
begin each run with two equal databases. After every run the target's content is compared with the source's.
"""

from __future__ import annotations

import logging
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import psycopg

from benchmarks.content import Content, first_difference, read_content
from benchmarks.datasets import load_pgbench
from benchmarks.followers import Follower, Native, Ours, TheCProgram, usable_plugins, wait_for
from benchmarks.live import measure_lag, measure_latency
from benchmarks.measure import Command, CommandFailed, Cost, Running, TookTooLong, scratch_folder
from benchmarks.plan import Plan
from benchmarks.results import Run, SuiteResult
from benchmarks.servers import Servers, program_environment, start_servers
from benchmarks.tools import OURS, PEER
from pgcopydb.daemon.plugins import Plugin
from pgcopydb.daemon.receive_stage import stream_options
from pgcopydb.daemon.stream import load_stream
from pgcopydb.runtime.workdir import WorkDir

logger = logging.getLogger(__name__)

RECVLOGICAL: Final = "pg_recvlogical"
ROWS_PER_TRANSACTION: Final = 4
"""pgbench updates three rows and inserts one."""

_SCALE: Final = 10
_CLIENTS: Final = 2
_TEMPLATE: Final = "before"
_SETTINGS: Final = {"max_replication_slots": "40", "max_wal_senders": "20"}
_PROBE: Final = "CREATE TABLE probe (id int PRIMARY KEY, n bigint NOT NULL); INSERT INTO probe VALUES (1, 0)"

Subject = Callable[[Path], Run]


@dataclass(frozen=True, slots=True)
class Backlog:
    """What was written to the source after the followers' slots were made."""

    servers: Servers
    end: str
    transactions: int
    content: Content

    @property
    def rows(self) -> int:
        return self.transactions * ROWS_PER_TRANSACTION


def run_receive(plan: Plan) -> list[SuiteResult]:
    """A backlog from a slot to the disk, next to ``pg_recvlogical`` with the same options, which throws it away."""
    with _servers() as servers, scratch_folder() as folder:
        result, followers = _begin("receive", servers, folder, plan, ours_only=True)
        if not followers:
            return [result]
        backlog = _make_backlog(servers, followers, plan.transactions)
        subjects: dict[str, Subject] = {}
        for follower in followers:
            assert isinstance(follower, Ours)
            subjects[follower.name] = _receiving(backlog, follower)
            subjects[f"{RECVLOGICAL}, {follower.plugin}"] = _receiving_for_nothing(backlog, follower)
        _all_rounds(result, subjects, plan.rounds)
    return [result]


def run_catch_up(plan: Plan) -> list[SuiteResult]:
    """The same backlog to the target's disk."""
    with _servers() as servers, scratch_folder() as folder:
        result, followers = _begin("catch-up", servers, folder, plan)
        backlog = _make_backlog(servers, followers, plan.transactions)
        _all_rounds(result, {each.name: _catching_up(backlog, each) for each in followers}, plan.rounds)
    return [result]


def run_latency(plan: Plan) -> list[SuiteResult]:
    """One commit at a time, on a system that does nothing else."""
    with _servers() as servers, scratch_folder() as folder:
        result, followers = _begin("latency", servers, folder, plan, live=True)
        result.notes.append(
            f"{plan.commits} commits of one row in each round, 50 ms apart, from the moment that the commit has "
            "returned until a session on the target that asks again and again, without a pause, sees the row. That "
            "session keeps one core busy."
        )
        subjects: dict[str, Subject] = {
            each.name: _live(servers, each, lambda follower: measure_latency(follower, plan.commits))
            for each in followers
        }
        _all_rounds(result, subjects, plan.rounds)
    return [result]


def run_live(plan: Plan) -> list[SuiteResult]:
    """pgbench at half its highest rate."""
    with _servers() as servers, scratch_folder() as folder:
        result, followers = _begin("live", servers, folder, plan, live=True)
        highest = _highest_rate(servers)
        rate = highest // 2
        result.notes.append(
            f"pgbench, {_CLIENTS} clients, {plan.seconds} seconds at {rate} transactions a second: half of the "
            f"{highest} that it reaches when nobody follows. The lag is that of a row updated ten times a second."
        )
        subjects: dict[str, Subject] = {
            each.name: _live(servers, each, lambda follower: measure_lag(follower, rate, _CLIENTS, plan.seconds))
            for each in followers
        }
        _all_rounds(result, subjects, plan.rounds)
    return [result]


@contextmanager
def _servers() -> Iterator[Servers]:
    with start_servers(**_SETTINGS) as servers:
        with psycopg.connect(servers.source.dsn(), autocommit=True) as source:
            row = source.execute("SELECT current_setting('output_plugin_libraries', true)").fetchone()
            restricted = row is not None and row[0] is not None
            if restricted:
                source.execute("ALTER SYSTEM SET output_plugin_libraries = pgoutput, test_decoding, wal2json")
        if restricted:
            servers.source.restart()
        for cluster in (servers.source, servers.target):
            cluster.create_database(_TEMPLATE, template="template0")
            load_pgbench(servers, cluster.dsn(_TEMPLATE), _SCALE)
            with psycopg.connect(cluster.dsn(_TEMPLATE), autocommit=True) as connection:
                connection.execute(_PROBE.encode())
        servers.fresh_pair(_TEMPLATE)
        yield servers


def _begin(
    suite: str, servers: Servers, folder: Path, plan: Plan, *, ours_only: bool = False, live: bool = False
) -> tuple[SuiteResult, list[Follower]]:
    """An empty result that names what is missing, and the followers that are there."""
    wanted = {OURS, PEER} if plan.asked is None else plan.asked
    plugins = usable_plugins(servers)
    missing = {f"{OURS}, {plugin}": why for plugin, why in plugins.items() if why is not None and OURS in wanted}
    followers: list[Follower] = [
        Ours(servers, folder, plugin) for plugin, why in plugins.items() if why is None and OURS in wanted
    ]
    if not ours_only:
        followers.append(Native(servers, folder))
    if PEER in wanted and not ours_only and not live:
        peer = next(tool for tool in plan.tools if tool.name == PEER)
        why = peer.missing or plugins[Plugin.WAL2JSON]
        if why is None:
            followers.append(TheCProgram(servers, folder))
        else:
            missing[PEER] = why
    accounts = f"{_SCALE * 100_000:,} pgbench_accounts"
    backlog = f", then {plan.transactions:,} transactions ({plan.transactions * ROWS_PER_TRANSACTION:,} row changes)"
    result = SuiteResult(
        suite=suite,
        title=f"{plan.transactions:,} transactions" if not live else accounts,
        data=accounts if live else accounts + backlog + f" of {_CLIENTS} clients",
        bytes=servers.source_size(),
        server=servers.version(),
        settings=servers.settings,
        jobs=0,
        missing=missing,
    )
    return result, followers


def _make_backlog(servers: Servers, followers: Sequence[Follower], transactions: int) -> Backlog:
    for follower in followers:
        follower.place()
        follower.keep()
    logger.info("writing a backlog of %s transactions", f"{transactions:,}")
    each = transactions // _CLIENTS
    # The backlog is the same whether or not each commit waited for the disk.
    environment = {**program_environment(servers.bin_dir), "PGOPTIONS": "-c synchronous_commit=off"}
    program = [str(servers.bin_dir / "pgbench"), "-n", "-c", str(_CLIENTS), "-t", str(each), "--random-seed=7"]
    subprocess.run([*program, servers.source_dsn], check=True, capture_output=True, env=environment)
    content = read_content(servers.source_dsn)
    return Backlog(servers, current_position(servers), each * _CLIENTS, content)


def current_position(servers: Servers) -> str:
    """Behind everything that is committed on the source, and on its disk."""
    with psycopg.connect(servers.source_dsn, autocommit=True) as source:
        source.execute("CHECKPOINT")
        row = source.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
    assert row is not None
    return str(row[0])


def _receiving(backlog: Backlog, follower: Ours) -> Subject:
    def run(scratch: Path) -> Run:
        with _begun(backlog, follower, scratch):
            cost, phases = _measured(backlog, follower, follower.receive(backlog.end), scratch)
            _check_received(follower.workdir, backlog)
        return Run(follower.name, 0, cost, phases, _rate(backlog, cost.wall))

    return run


def _receiving_for_nothing(backlog: Backlog, follower: Ours) -> Subject:
    def run(scratch: Path) -> Run:
        with _begun(backlog, follower, scratch):
            options = stream_options(load_stream(WorkDir(follower.workdir)))
            given = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
            place = [
                "--slot",
                follower.slot,
                "--endpos",
                backlog.end,
                "-f",
                "/dev/null",
                "-d",
                backlog.servers.source_dsn,
            ]
            program = str(backlog.servers.bin_dir / RECVLOGICAL)
            command = [program, "--start", "--no-loop", *place, *given]
            cost, phases = _measured(backlog, follower, command, scratch)
        return Run(f"{RECVLOGICAL}, {follower.plugin}", 0, cost, phases, _rate(backlog, cost.wall))

    return run


def _measured(backlog: Backlog, follower: Ours, command: Command, scratch: Path) -> tuple[Cost, dict[str, float]]:
    """What a command costs that receives from the follower's slot, and when its stream began."""
    servers = backlog.servers
    with (
        psycopg.connect(servers.source_dsn, autocommit=True) as source,
        Running([command], scratch / "tool.log", follower.environment()) as running,
    ):
        started = time.perf_counter()
        wait_for(lambda: not running.alive() or follower.streaming(source), "the stream to begin")
        streaming = time.perf_counter()
        cost = running.wait()
    began = streaming - started
    return cost, {"until the stream began": began, "until all was received": cost.wall - began}


def _rate(backlog: Backlog, seconds: float) -> dict[str, float]:
    return {"rows/s": backlog.rows / seconds}


def _check_received(workdir: Path, backlog: Backlog) -> None:
    """Every transaction and every row of the backlog is in the files."""
    actions = [
        line[11:12] for path in sorted((workdir / "cdc").glob("*.json*")) for line in path.read_bytes().splitlines()
    ]
    found = (actions.count(b"C"), actions.count(b"I") + actions.count(b"U") + actions.count(b"D"))
    if found != (backlog.transactions, backlog.rows):
        raise CommandFailed(f"received {found[0]} transactions and {found[1]} rows of {backlog.transactions}")


def _catching_up(backlog: Backlog, follower: Follower) -> Subject:
    servers = backlog.servers

    def run(scratch: Path) -> Run:
        with _begun(backlog, follower, scratch), psycopg.connect(servers.source_dsn, autocommit=True) as source:
            before, started = servers.cpu(), time.perf_counter()
            follower.start()
            follower.wait(lambda: follower.streaming(source), "the stream to begin")
            streaming = time.perf_counter()
            follower.wait(lambda: follower.durable(source, backlog.end), "the backlog to be on the target")
            durable = time.perf_counter()
            cost = replace(follower.finish(backlog.end), wall=durable - started)
            taken = servers.cpu() - before
            phases = {
                "until the stream began": streaming - started,
                "until all was durable": durable - streaming,
                "until it had ended": time.perf_counter() - durable,
            }
        figures = {**_rate(backlog, durable - streaming), "servers' CPU": taken}
        run = Run(follower.name, 0, cost, phases, figures)
        difference = first_difference(backlog.content, read_content(servers.target_dsn))
        return run if difference is None else replace(run, error=f"the target differs: {difference}")

    return run


@contextmanager
def _begun(backlog: Backlog, follower: Follower, scratch: Path) -> Iterator[None]:
    """The state of the target and of the slot before the backlog."""
    backlog.servers.fresh_target(_TEMPLATE)
    follower.rewind()
    try:
        follower.prepare(scratch, backlog.end)
        yield
    finally:
        follower.remove()


def _live(servers: Servers, follower: Follower, measured: Callable[[Follower], Run]) -> Subject:
    def run(scratch: Path) -> Run:
        servers.fresh_pair(_TEMPLATE)
        follower.place()
        try:
            follower.prepare(scratch, None)
            with psycopg.connect(servers.source_dsn, autocommit=True) as source:
                follower.start()
                follower.wait(lambda: follower.streaming(source), "the stream to begin")
            run = measured(follower)
            cost = follower.finish(current_position(servers))
        finally:
            follower.remove()
        difference = first_difference(read_content(servers.source_dsn), read_content(servers.target_dsn))
        error = None if difference is None else f"the target differs: {difference}"
        return replace(run, cost=replace(cost, wall=run.cost.wall), error=error)

    return run


def _highest_rate(servers: Servers) -> int:
    servers.fresh_pair(_TEMPLATE)
    program = [str(servers.bin_dir / "pgbench"), "-n", "-c", str(_CLIENTS), "-T", "10", servers.source_dsn]
    environment = program_environment(servers.bin_dir)
    done = subprocess.run(program, check=True, capture_output=True, text=True, env=environment)
    return int(float(done.stdout.rpartition("tps = ")[2].split()[0]))


def _all_rounds(result: SuiteResult, subjects: dict[str, Subject], rounds: int) -> None:
    """What took too long once is left out from then on: it would take as long each time."""
    order, given_up = list(subjects), set[str]()
    for round_ in range(rounds):
        for name in order[round_ % len(order) :] + order[: round_ % len(order)]:
            if name in given_up:
                continue
            with scratch_folder() as scratch:
                try:
                    run = replace(subjects[name](scratch), round=round_)
                except CommandFailed as exc:
                    run = Run(name, round_, error=str(exc))
                    if isinstance(exc, TookTooLong):
                        given_up.add(name)
            logger.info("%s, round %d: %s: %s", result.suite, round_ + 1, name, run.error or f"{run.cost.wall:.2f} s")
            result.runs.append(run)
