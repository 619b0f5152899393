"""What a run tells of itself: while it goes on, to another shell, and when it is over."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import time
from pathlib import Path

import orjson
import pytest

from tests.fix_command import PROGRAM, Command
from tests.fix_servers import Database
from tests.wait import wait_until

ROWS = """
CREATE TABLE big (id bigint PRIMARY KEY, filler text NOT NULL);
INSERT INTO big SELECT i, repeat(md5(i::text), 10) FROM generate_series(1, 20000) i;
CREATE INDEX big_filler ON big (md5(filler));
CREATE TABLE small (id int PRIMARY KEY);
INSERT INTO small SELECT generate_series(1, 10);
CREATE TABLE "Empty Table" (id int);
SELECT lo_from_bytea(0, decode(repeat('ab', 5000), 'hex')) FROM generate_series(1, 3);
"""


@pytest.fixture
def arguments(source_db: Database, target_db: Database, workdir_path: Path) -> tuple[str, ...]:
    source_db.execute(ROWS)
    source_db.execute("VACUUM ANALYZE")
    return ("clone", "--source", source_db.dsn, "--target", target_db.dsn, "--dir", str(workdir_path))


def halted(process: subprocess.Popen[bytes]) -> None:
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    assert process.poll() is None


def test_progress_from_another_shell(arguments: tuple[str, ...], pgcopydb: Command, workdir_path: Path) -> None:
    running = pgcopydb.start(*arguments, env={"PGCOPYDB_FAILPOINTS": "index.after_mark=stop"})
    halted(running)
    shown = orjson.loads(pgcopydb.run("list", "progress", "--dir", workdir_path, "--json").stdout)
    assert (shown["table-jobs"], shown["index-jobs"], shown["complete"]) == (4, 4, False)
    assert shown["tables"]["total"] == 3
    assert 1 <= shown["tables"]["done"] <= 3
    assert shown["indexes"]["total"] == 3
    assert 1 <= shown["indexes"]["done"] < 3
    assert 0 < shown["bytes"]["done"] <= shown["bytes"]["total"]
    running.send_signal(signal.SIGCONT)
    assert running.wait(60) == 0
    shown = orjson.loads(pgcopydb.run("list", "progress", "--dir", workdir_path, "--json").stdout)
    assert shown["complete"]
    assert shown["tables"] == {"total": 3, "done": 3, "in-progress": []}
    assert shown["indexes"] == {"total": 3, "done": 3, "in-progress": []}
    assert shown["bytes"]["done"] == shown["bytes"]["total"]
    assert "3" in pgcopydb.run("list", "progress", "--dir", workdir_path).stdout


def test_the_summary(arguments: tuple[str, ...], pgcopydb: Command, workdir_path: Path) -> None:
    done = pgcopydb.run(*arguments)
    assert "Total Wall Clock Duration" in done.stdout
    summary = orjson.loads((workdir_path / "summary.json").read_bytes())
    assert summary["setup"] == {"table-jobs": 4, "index-jobs": 4}
    tables = {table["name"]: table for table in summary["tables"]}
    assert {name: table["rows"] for name, table in tables.items()} == {"big": 20000, "small": 10, "Empty Table": 0}
    assert tables["big"]["network"]["bytes"] > 20000 * 320
    assert [index["name"] for index in tables["big"]["indexes"]] == ["big_pkey", "big_filler"]
    assert [row["name"] for row in tables["big"]["constraints"]] == ["big_pkey"]
    steps = {step["label"]: step["duration"] for step in summary["steps"]}
    assert steps["Total Wall Clock Duration"] > 0
    assert steps["Large Objects (cumulative)"] > 0
    again = orjson.loads(pgcopydb.run("list", "progress", "--dir", workdir_path, "--summary", "--json").stdout)
    assert again["tables"] == summary["tables"]


def test_no_run_to_show(pgcopydb: Command, workdir_path: Path) -> None:
    done = pgcopydb.run("list", "progress", "--dir", workdir_path, check=False)
    assert done.returncode == 3
    assert str(workdir_path) in done.stderr
    assert "Traceback" not in done.stderr


def test_off_a_terminal_progress_is_log_lines(arguments: tuple[str, ...], pgcopydb: Command) -> None:
    done = pgcopydb.run(*arguments, "--notice")
    assert "\x1b" not in done.stderr + done.stdout
    assert "\r" not in done.stderr


def test_on_a_terminal_progress_is_drawn(arguments: tuple[str, ...], workdir_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [PROGRAM, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120", "PGCOPYDB_FAILPOINTS": "index.after_mark=stop"},
    )
    os.close(theirs)
    drawn = bytearray()
    deadline = time.monotonic() + 60
    halts = 0
    while time.monotonic() < deadline:
        if select.select([ours], [], [], 0.1)[0]:
            try:
                drawn += os.read(ours, 65536)
            except OSError:
                break
        elif halts == 0 and os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT | os.WNOHANG):
            halts = 1
            process.send_signal(signal.SIGCONT)
    assert process.wait(10) == 0
    os.close(ours)
    text = drawn.decode()
    assert "\x1b[" in text
    assert "indexes" in text
    assert "Total Wall Clock Duration" in text


def test_logs_as_json_and_in_a_file(arguments: tuple[str, ...], pgcopydb: Command, tmp_path: Path) -> None:
    file = tmp_path / "log.json"
    done = pgcopydb.run(
        *arguments,
        env={"PGCOPYDB_LOG_JSON": "on", "PGCOPYDB_LOG_FILENAME": str(file), "PGCOPYDB_LOG_JSON_FILE": "1"},
    )
    lines = [orjson.loads(line) for line in done.stderr.splitlines()]
    assert lines == [orjson.loads(line) for line in file.read_text().splitlines()]
    assert lines[0]["message"].startswith("Running pgcopydb version")
    assert {line["error_severity"] for line in lines} <= {"INFO", "NOTICE", "WARN"}
    assert {"timestamp", "pid", "error_level", "file_name", "file_line_num"} <= lines[0].keys()


def test_a_log_file_is_never_emptied(tmp_path: Path, pgcopydb: Command) -> None:
    """A service that is started again keeps why it died; a look at its status takes nothing from it."""
    file = tmp_path / "log"
    file.write_text("why it died\n")
    env = {"PGCOPYDB_LOG_FILENAME": str(file), "PGCOPYDB_SOURCE_PGURI": "host=127.0.0.1 port=1"}
    env["PGCOPYDB_TARGET_PGURI"] = env["PGCOPYDB_SOURCE_PGURI"]
    for command in (("status",), ("follow",), ("clone", "--resume")):
        before = file.read_text()
        assert pgcopydb.run(*command, "--dir", tmp_path / "none", env=env, check=False).returncode != 0
        assert file.read_text().startswith(before)
    assert file.read_text().startswith("why it died\n")
    assert file.read_text().count("ERROR") >= 3


def test_the_snapshot_is_given_back_as_soon_as_the_rows_are_read(
    arguments: tuple[str, ...], source_db: Database, pgcopydb: Command
) -> None:
    """Nothing on the source keeps vacuum from removing dead rows while the target builds indexes."""
    running = pgcopydb.start(*arguments, env={"PGCOPYDB_FAILPOINTS": "snapshot.after_release=stop"})
    halted(running)
    held = "SELECT application_name FROM pg_stat_activity WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid()"
    ours = f"{held} AND datname = current_database() AND backend_type = 'client backend'"
    wait_until(lambda: source_db.fetch(ours) == [], 10, "the release of the snapshot")
    running.send_signal(signal.SIGCONT)
    assert running.wait(60) == 0
