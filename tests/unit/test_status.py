"""What is said of a migration, from what its processes say of themselves."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from pgcopydb.daemon import heartbeat
from pgcopydb.daemon.disk import disk_use
from pgcopydb.daemon.heartbeat import Heartbeat, Phase, StageState, clock, heartbeat_of, read_state, told_how_it_ends
from pgcopydb.daemon.sentinel import SentinelRow
from pgcopydb.daemon.service import MOVING_SECONDS, all_move, describe
from pgcopydb.daemon.slot_health import SlotHealth, worry_about
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
        (StageStatus("apply", True, Phase.STARTING, None, None), stage_of(state("receive", 900)), 900, None),
    ],
    ids=["goes on", "dead", "retrying", "retrying, was there", "there", "nothing comes", "all came", "starting"],
)
def test_when_it_ends(applying: StageStatus, receiving: StageStatus, written: int, seconds: float | None) -> None:
    sentinel = SentinelRow(Lsn(1), Lsn(1000), True, Lsn(written), Lsn(400), Lsn(400))
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
    said = describe(states, SlotHealth(exists=True, status="unreserved"), NOW)
    assert said.startswith("apply retrying: the target is away; received")
    assert said.endswith("; slot unreserved")
    assert describe({}, None, NOW) == "starting"


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
        (SlotHealth(exists=True, status="unreserved", retained_bytes=1 << 20, safe_bytes=-1), 2, "about to be lost"),
        (SlotHealth(exists=True, status="lost"), 3, "is lost: the source has removed"),
        (SlotHealth(exists=True, status="reserved", reason="wal_removed"), 3, "is lost (wal_removed)"),
        (SlotHealth(exists=False), 3, "is not on the source any more"),
    ],
)
def test_worries(health: SlotHealth, level: int, said: str) -> None:
    worry = worry_about(health, "pgcopydb")
    assert (worry.level if worry is not None else 0) == level
    if worry is not None:
        assert said in worry.message
        assert worry.hint


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
