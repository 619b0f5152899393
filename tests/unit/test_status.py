"""What is said of a migration, from what its processes say of themselves."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pgcopydb.daemon import heartbeat
from pgcopydb.daemon.disk import disk_use
from pgcopydb.daemon.heartbeat import Heartbeat, Phase, StageState, clock, heartbeat_of, read_state, told_how_it_ends
from pgcopydb.daemon.sentinel import SentinelRow
from pgcopydb.daemon.service import MOVING_SECONDS, all_move, describe, described
from pgcopydb.daemon.slot_health import SlotHealth, with_rate, worry_about
from pgcopydb.daemon.status import StageStatus, lag_seconds, seconds_to_endpos, stage_status
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.runtime.errors import SourceError, Stopped
from pgcopydb.runtime.workdir import WorkDir

NOW = datetime(2026, 1, 10, 15, 0, 30, tzinfo=UTC)


def state(name: str, position: int, committed: str | None = None, phase: Phase = Phase.RUNNING) -> StageState:
    found = StageState(name, 7, phase, "", "", 100.0)
    found.position, found.committed = str(Lsn(position)), committed
    return found


@pytest.fixture
def workdir(tmp_path: Path) -> WorkDir:
    workdir = WorkDir(tmp_path / "work")
    workdir.create()
    return workdir


@pytest.mark.parametrize(
    ("received", "applied", "here", "lag"),
    [
        (state("receive", 500, "15:00"), state("apply", 500, "15:00"), 500, 0.0),
        (state("receive", 900, "2026-01-10 15:00:20+00"), state("apply", 500, "2026-01-10 15:00:20+00"), 900, 0.0),
        (state("receive", 900, "2026-01-10 15:00:25+00"), state("apply", 500, "2026-01-10 15:00:20+00"), 900, 10.0),
        (state("receive", 900, None), state("apply", 900, None), 900, 0.0),
        # Receive was started again on a source that is quiet, and hours of changes wait to be applied.
        (state("receive", 900, None), state("apply", 500, "2026-01-10 13:00:30+00"), 900, 7200.0),
        (state("receive", 900, None), state("apply", 500, None), 900, None),
        # Received is not all there is.
        (state("receive", 900, "2026-01-10 15:00:20+00"), state("apply", 900, "2026-01-10 15:00:20+00"), 9 << 20, 10.0),
        (state("receive", 900, "2026-01-10 15:00:25+00"), state("apply", 500, None), 900, None),
        (state("receive", 900, "2026-01-10 15:00:25+00"), None, 900, None),
    ],
)
def test_lag(received: StageState, applied: StageState | None, here: int, lag: float | None) -> None:
    assert lag_seconds(received, applied, Lsn(here), NOW) == lag


def stage_of(state: StageState, *, alive: bool = True) -> StageStatus:
    return StageStatus(state.name, alive, state.phase, 1.0, state)


@pytest.mark.parametrize(
    ("applying", "receiving", "written", "seconds"),
    [
        (stage_of(state("apply", 500)), stage_of(state("receive", 900)), 900, 10.0),
        (stage_of(state("apply", 500), alive=False), stage_of(state("receive", 900)), 900, None),
        # It has to go back when the target has lost what it had not written: from 400 it starts again.
        (stage_of(state("apply", 500, phase=Phase.RETRYING)), stage_of(state("receive", 900)), 900, None),
        (stage_of(state("apply", 1000, phase=Phase.RETRYING)), stage_of(state("receive", 900)), 900, None),
        (stage_of(state("apply", 1000)), stage_of(state("receive", 900)), 900, 0.0),
        # Nobody receives what is missing.
        (stage_of(state("apply", 500)), stage_of(state("receive", 900), alive=False), 900, None),
        (stage_of(state("apply", 500)), stage_of(state("receive", 1000), alive=False), 1000, 10.0),
        (
            StageStatus("apply", alive=True, phase=Phase.STARTING, silent=None, state=None),
            stage_of(state("receive", 900)),
            900,
            None,
        ),
    ],
    ids=["goes on", "dead", "retrying", "retrying, was there", "there", "nothing comes", "all came", "starting"],
)
def test_when_it_ends(applying: StageStatus, receiving: StageStatus, written: int, seconds: float | None) -> None:
    sentinel = SentinelRow(Lsn(1), Lsn(1000), apply=True, write_lsn=Lsn(written), flush_lsn=Lsn(), replay_lsn=Lsn(400))
    if applying.state is not None:
        applying.state.byte_rate = 50.0
    assert seconds_to_endpos(sentinel, applying, receiving) == seconds
    assert seconds_to_endpos(sentinel._replace(endpos=Lsn()), applying, receiving) is None
    assert seconds_to_endpos(sentinel._replace(replay_lsn=Lsn(1000)), applying, receiving) == 0.0


def test_one_line() -> None:
    states = {
        "receive": state("receive", 0x2000, "2026-01-10 15:00:25+00"),
        "apply": state("apply", 0x1000, "2026-01-10 15:00:20+00"),
    }
    assert describe(states, None, NOW) == "received 0/2000, applied 0/1000, 4096 B and 10.0s behind, 0 transactions/s"
    states["apply"].phase, states["apply"].detail = Phase.RETRYING, "the target is away"
    said = describe(states, SlotHealth(exists=True, status="extended", position=Lsn(0x2000)), NOW)
    assert said.startswith("apply retrying: the target is away; received")
    assert said.endswith("; slot extended")
    assert describe({}, None, NOW) == "starting"


@pytest.mark.parametrize(
    ("health", "said"),
    [
        (SlotHealth(exists=False), "replication slot pgcopydb is not on the source any more"),
        (SlotHealth(exists=True, status="lost", reason="idle_timeout"), "replication slot pgcopydb is lost: nobody"),
        (SlotHealth(exists=True, status="unreserved"), "replication slot pgcopydb is about to be lost"),
        (SlotHealth(exists=True, status="reserved", retained_bytes=60 << 30), "the source keeps 60 GB of WAL for"),
    ],
    ids=["dropped", "lost", "unreserved", "much is kept"],
)
def test_one_line_says_first_what_becomes_of_the_slot(health: SlotHealth, said: str) -> None:
    states = {"receive": state("receive", 0x2000), "apply": state("apply", 0x2000)}
    line = describe(states, health, NOW)
    assert line.startswith(said)
    assert "; received 0/2000" in line
    assert "; slot " not in line


def test_one_line_counts_as_status_does() -> None:
    """With the source's clock and WAL, as far as they are known."""
    committed = "2026-01-10 15:00:20+00"
    states = {"receive": state("receive", 1 << 20, committed), "apply": state("apply", 1 << 20, committed)}
    assert "0 B and 0ms behind" in describe(states, None, NOW)
    health = SlotHealth(exists=True, status="reserved", position=Lsn(9 << 20), ahead=timedelta(seconds=-4))
    assert "8192 kB and 6.0s behind" in describe(states, health, NOW)


def test_the_rate_of_wal() -> None:
    def seen(second: float, position: int) -> SlotHealth:
        return SlotHealth(
            exists=True, safe_bytes=6000, position=Lsn(1000 + position), at=NOW + timedelta(seconds=second)
        )

    first = with_rate(seen(0, 0), None)
    assert (first.wal_rate, first.seconds_left) == (None, None)
    second = with_rate(seen(10, 2000), first)
    assert (second.wal_rate, second.seconds_left) == (200.0, 30.0)
    assert with_rate(seen(20, 6000), second).wal_rate == 300.0, "half of it from before"
    assert with_rate(seen(10.1, 2000), second).wal_rate == 200.0, "nothing can be told of so short a time"
    assert with_rate(seen(20, 2000), first).wal_rate == 100.0
    idle = with_rate(seen(10, 0), first)
    assert (idle.wal_rate, idle.seconds_left) == (0.0, None)
    assert replace(second, status="lost").seconds_left is None
    assert replace(second, safe_bytes=-1).seconds_left == 0.0


def test_one_line_before_anything_is_applied() -> None:
    states = {"receive": state("receive", 0, None), "apply": state("apply", 0, None)}
    assert describe(states, None, NOW) == "starting"
    states["receive"].position = "0/2000"
    assert describe(states, None, NOW) == "received 0/2000, nothing applied yet"


def test_the_watchdog_is_fed_only_while_all_move() -> None:
    states = {"receive": state("receive", 1), "apply": state("apply", 1)}
    assert all_move(states, 100.0 + MOVING_SECONDS - 1)
    states["receive"].beat += 50
    assert not all_move(states, 100.0 + MOVING_SECONDS)
    states["apply"].phase = Phase.FINISHED
    assert all_move(states, 100.0 + MOVING_SECONDS)


@pytest.mark.parametrize(
    ("health", "level", "said"),
    [
        (SlotHealth(exists=True, status="reserved", retained_bytes=1 << 30), 0, ""),
        (SlotHealth(exists=True, status="", retained_bytes=1 << 30), 0, ""),
        (SlotHealth(exists=True, status="reserved", retained_bytes=60 << 30), 1, "keeps 60 GB of WAL"),
        (SlotHealth(exists=True, status="extended", retained_bytes=6 << 20, safe_bytes=1 << 20), 1, "may be lost when"),
        (SlotHealth(exists=True, status="extended", retained_bytes=1 << 20, safe_bytes=6 << 20), 0, ""),
        (
            SlotHealth(exists=True, status="extended", retained_bytes=6 << 20, safe_bytes=1 << 20, wal_rate=1024),
            1,
            "when 1024 kB more WAL are written, in about 17m04s at this rate: 6144 kB are kept",
        ),
        (SlotHealth(exists=True, status="unreserved", retained_bytes=1 << 20, safe_bytes=-1), 2, "about to be lost"),
        (SlotHealth(exists=True, status="lost"), 3, "is lost: the source has removed WAL that it needs"),
        (SlotHealth(exists=True, status="lost", reason="wal_removed"), 3, "is lost: the source has removed WAL"),
        (SlotHealth(exists=True, status="lost", reason="rows_removed"), 3, "removed rows of its catalogs"),
        (SlotHealth(exists=True, status="lost", reason="wal_level_insufficient"), 3, "wal_level of the primary"),
        (SlotHealth(exists=True, status="lost", reason="idle_timeout"), 3, "idle_replication_slot_timeout"),
        (
            SlotHealth(exists=True, status="lost", reason="conflict"),
            3,
            "that it needs, or its wal_level",
        ),
        (SlotHealth(exists=True, status="lost", reason="new_in_19"), 3, "is lost: the source says new_in_19"),
        (SlotHealth(exists=False), 3, "is not on the source any more"),
    ],
)
def test_worries(health: SlotHealth, level: int, said: str) -> None:
    worry = worry_about(health)
    assert (worry.level if worry is not None else 0) == level
    if worry is not None:
        assert said in worry.message
        assert worry.hint
        assert ("max_slot_wal_keep_size" in worry.hint) == (health.reason in {"", "wal_removed"} and health.exists) or (
            level < 3
        )


def test_what_a_process_says(workdir: WorkDir, monkeypatch: pytest.MonkeyPatch) -> None:
    heart = heartbeat_of(workdir, "receive")
    heart.at(Lsn(0x100), 7)
    heart.beat()
    heart.at(Lsn(0x200), 8)
    heart.beat()
    told = read_state(workdir, "receive")
    assert told is not None
    assert (told.position, told.transactions) == ("0/100", 7), "not more than once a second"
    heart.retrying(SourceError("gone", hint="wait"))
    told = read_state(workdir, "receive")
    assert told is not None
    assert (told.phase, told.position, told.error, told.hint) == (Phase.RETRYING, "0/200", "gone", "wait")
    found = stage_status(workdir, "receive")
    assert not found.alive
    assert found.phase == "gone"
    with workdir.lock("receive"):
        assert stage_status(workdir, "receive").phase == Phase.RETRYING


def test_the_last_word(workdir: WorkDir) -> None:
    for error, phase in ((Stopped("asked"), Phase.STOPPED), (SourceError("broken", hint="mend"), Phase.FAILED)):
        with pytest.raises(type(error)), told_how_it_ends(heartbeat_of(workdir, "apply")):
            raise error
        told = read_state(workdir, "apply")
        assert told is not None
        assert told.phase is phase
    with told_how_it_ends(heartbeat_of(workdir, "apply")):
        pass
    assert stage_status(workdir, "apply").phase == Phase.FINISHED


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"name":1}', b"\xff"])
def test_a_state_that_cannot_be_read(content: bytes, workdir: WorkDir) -> None:
    workdir.state("apply").write_bytes(content)
    assert read_state(workdir, "apply") is None
    assert stage_status(workdir, "apply").phase == "not started"


def test_a_full_disk_is_for_the_work_to_report(workdir: WorkDir) -> None:
    workdir.state("apply").parent.rmdir()
    Heartbeat(workdir.state("apply"), "apply").beat()


def test_rates_follow_what_is_done(workdir: WorkDir, monkeypatch: pytest.MonkeyPatch) -> None:
    now = clock()
    monkeypatch.setattr(heartbeat, "clock", lambda: now)
    heart = heartbeat_of(workdir, "apply")
    for second in range(60):
        now += 1
        heart.at(Lsn(second * 1000), second * 50)
    assert heart.state.byte_rate == pytest.approx(1000, rel=0.01)
    assert heart.state.transaction_rate == pytest.approx(50, rel=0.01)
    heart.beat()
    told = stage_status(workdir, "apply").state
    assert told is not None
    assert (told.byte_rate, told.transaction_rate) == (0, 0), "its process is gone"
    with workdir.lock("apply"):
        told = stage_status(workdir, "apply").state
    assert told is not None
    assert told.transaction_rate == pytest.approx(50, rel=0.01)
    heart.retrying(SourceError("gone"))
    assert (heart.state.byte_rate, heart.state.transaction_rate) == (0, 0)


def test_what_files_take(workdir: WorkDir) -> None:
    for name, size in (("1.json", 10), ("2.json.partial", 5), ("1.sql", 3), ("first", 25)):
        (workdir.changes / name).write_bytes(bytes(size))
    use = disk_use(workdir.changes)
    assert (use.json, use.sql) == (15, 3)
    assert 0 < use.free <= use.total


def test_one_line_of_several_migrations() -> None:
    assert described({"": "received 0/2000"}, 1) == "received 0/2000"
    assert described({}, 3) == described({"shop": "x"}, None) == "starting"
    assert described({"shop": "one", "crm": "other"}, 3) == "2 of 3 databases | shop: one | crm: other"
    assert len(described({str(number): "x" * 90 for number in range(99)}, 99).encode()) < 4000
