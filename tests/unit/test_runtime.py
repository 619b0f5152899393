"""Sizes, booleans, stop requests, retries, the lock of a work directory, worker threads."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgcopydb.bootstrap.workers import MAX_ATTEMPTS, Failures, WorkerPool
from pgcopydb.runtime.durable import write_atomic
from pgcopydb.runtime.environment import normalise_booleans, parse_bool
from pgcopydb.runtime.errors import DiskFull, Kind, SourceError, StateError, Stopped, UsageError
from pgcopydb.runtime.retry import retry
from pgcopydb.runtime.sizes import parse_size, pretty_seconds, pretty_size
from pgcopydb.runtime.stop import Stop, StopMode
from pgcopydb.runtime.workdir import WorkDir


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("8192", 8192),
        ("10 GB", 10 << 30),
        ("200MB", 200 << 20),
        (" 1 kB ", 1024),
        ("3TB", 3 << 40),
        ("5B", 5),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "-1", "1.5GB", "10 gb", "10XB", "GB", "1 2", "0x10"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError, match="is not a size"):
        parse_size(text)


@given(st.integers(0, 1 << 62))
def test_a_pretty_size_is_within_a_twentieth(size: int) -> None:
    assert abs(parse_size(pretty_size(size).replace(" ", "")) - size) <= size / 20


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.042, "42ms"), (5.25, "5.2s"), (61, "1m01s"), (3599.7, "1h00m"), (3723, "1h02m")]
)
def test_pretty_seconds(seconds: float, text: str) -> None:
    assert pretty_seconds(seconds) == text


@pytest.mark.parametrize("text", ["t", "TRUE", "y", "yes", "on", "1", " Yes "])
def test_true(text: str) -> None:
    assert parse_bool(text)


@pytest.mark.parametrize("text", ["f", "false", "n", "no", "off", "of", "0"])
def test_false(text: str) -> None:
    assert not parse_bool(text)


@pytest.mark.parametrize("text", ["", "o", "2", "maybe", "truely", "-"])
def test_neither_true_nor_false(text: str) -> None:
    """``o`` could be on or off: Postgres refuses it as well."""
    with pytest.raises(ValueError):  # noqa: PT011  it carries the text and nothing else
        parse_bool(text)


def test_boolean_variables_are_rewritten_and_empty_ones_removed() -> None:
    environment = {"PGCOPYDB_FAIL_FAST": "y", "PGCOPYDB_SKIP_VACUUM": "", "OTHER": "y"}
    normalise_booleans(environment)
    assert environment == {"PGCOPYDB_FAIL_FAST": "true", "OTHER": "y"}


def test_a_stop_only_becomes_more_urgent() -> None:
    stop = Stop()
    stop.check()
    stop.request(StopMode.FAST)
    stop.request(StopMode.GRACEFUL)
    assert stop.mode is StopMode.FAST
    with pytest.raises(Stopped):
        stop.check()


def test_listeners_hear_of_a_fast_stop_only_and_also_when_they_come_late() -> None:
    stop = Stop()
    heard = threading.Event()
    with stop.on_fast_stop(heard.set):
        stop.request(StopMode.GRACEFUL)
        assert not heard.is_set()
        stop.request(StopMode.FAST)
        assert heard.wait(5)
    late = threading.Event()
    with stop.on_fast_stop(late.set):
        assert late.is_set()


def transient() -> SourceError:
    return SourceError("gone", kind=Kind.RETRY)


def test_retry_until_it_succeeds() -> None:
    errors = [transient(), transient()]

    def act() -> str:
        if errors:
            raise errors.pop()
        return "done"

    assert retry(act, what="a test", seconds=30) == "done"


def test_retry_raises_what_a_person_has_to_mend_at_once() -> None:
    calls = []

    def act() -> None:
        calls.append(1)
        raise SourceError("no such table")

    with pytest.raises(SourceError, match="no such table"):
        retry(act, what="a test", seconds=30)
    assert len(calls) == 1


def test_a_stop_ends_the_wait_of_a_retry() -> None:
    stop = Stop()

    def act() -> None:
        stop.request(StopMode.GRACEFUL)
        raise transient()

    with pytest.raises(Stopped):
        retry(act, what="a test", seconds=3600, stop=stop)


def test_the_lock_is_held_by_one_and_freed_with_its_holder(tmp_path: Path) -> None:
    workdir = WorkDir(tmp_path)
    workdir.create()
    with workdir.lock():
        with pytest.raises(StateError, match=f"process {os.getpid()}"), workdir.lock():
            pass
        with workdir.lock("snapshot"):
            pass
    pid = os.fork()
    if pid == 0:
        with workdir.lock():
            os._exit(0)
    os.waitpid(pid, 0)
    with workdir.lock():
        pass


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"before")

    def no_space(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(DiskFull, match="No space left on device"):
        write_atomic(path, b"after")
    assert path.read_bytes() == b"before"


@dataclass
class Session:
    closed: bool = False
    cancelled: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        self.cancelled.set()

    def close(self) -> None:
        self.closed = True


@dataclass
class Work:
    """What a pool did, and what it is to fail at."""

    fails: dict[str, list[SourceError]] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)

    def open(self, _worker: str) -> Session:
        self.sessions.append(Session())
        return self.sessions[-1]

    def __call__(self, _session: Session, job: str) -> None:
        if self.fails.get(job):
            raise self.fails[job].pop()
        self.done.append(job)


def run(work: Work, jobs: dict[str, int], *, fail_fast: bool = False) -> tuple[Stop, Failures]:
    stop = Stop()
    failures = Failures(stop, fail_fast=fail_fast)
    gate = threading.Event()
    first = work.open

    def open_later(worker: str) -> Session:
        gate.wait(10)
        return first(worker)

    pool: WorkerPool[Session, str] = WorkerPool(
        "test", 1, open_session=open_later, work=work, describe=str, failures=failures, stop=stop
    )
    for job, cost in jobs.items():
        pool.submit(job, cost=cost)
    gate.set()
    pool.drain()
    assert all(session.closed for session in work.sessions)
    return stop, failures


def test_the_largest_job_comes_first() -> None:
    work = Work()
    run(work, {"first": 1000, "small": 1, "large": 100, "medium": 10})
    assert work.done[1:] == ["large", "medium", "small"]


def test_a_job_whose_connection_died_is_done_again_on_a_new_one() -> None:
    work = Work(fails={"a": [transient(), transient()]})
    _, failures = run(work, {"a": 1, "b": 2})
    assert sorted(work.done) == ["a", "b"]
    assert len(work.sessions) == 3
    assert failures.all == []


def test_a_job_that_always_loses_its_connection_ends_the_run() -> None:
    work = Work(fails={"a": [transient() for _ in range(MAX_ATTEMPTS)]})
    stop, failures = run(work, {"a": 1})
    assert stop.mode is StopMode.FAST
    assert failures.ended_by is not None
    assert failures.ended_by.what == "a"


def test_other_errors_do_not_keep_the_rest_from_being_done() -> None:
    work = Work(fails={"a": [SourceError("refused")]})
    stop, failures = run(work, {"a": 3, "b": 2, "c": 1})
    assert work.done == ["b", "c"]
    assert [failure.what for failure in failures.all] == ["a"]
    assert stop.mode is StopMode.RUN


def test_fail_fast() -> None:
    work = Work(fails={"a": [SourceError("refused")]})
    stop, failures = run(work, {"a": 3, "b": 2}, fail_fast=True)
    assert work.done == []
    assert stop.mode is StopMode.FAST
    assert failures.ended_by is not None


def test_a_fast_stop_reaches_a_worker_that_is_busy() -> None:
    stop = Stop()
    failures = Failures(stop, fail_fast=False)
    busy = threading.Event()

    def work(session: Session, _job: str) -> None:
        busy.set()
        assert session.cancelled.wait(10)
        raise Stopped("cancelled")

    pool: WorkerPool[Session, str] = WorkerPool(
        "test", 1, open_session=lambda _: Session(), work=work, describe=str, failures=failures, stop=stop
    )
    pool.submit("a")
    pool.submit("b")
    assert busy.wait(10)
    stop.request(StopMode.FAST)
    pool.drain()
    assert failures.all == []


def test_a_defect_of_a_worker_is_not_swallowed() -> None:
    stop = Stop()

    def work(_session: Session, _job: str) -> None:
        raise ZeroDivisionError

    pool: WorkerPool[Session, str] = WorkerPool(
        "test",
        1,
        open_session=lambda _: Session(),
        work=work,
        describe=str,
        failures=Failures(stop, fail_fast=False),
        stop=stop,
    )
    pool.submit("a")
    with pytest.raises(ZeroDivisionError):
        pool.drain()
