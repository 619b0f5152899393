"""What is wrong with what the user gave is said in one line, with a hint, the right exit code and nothing done."""

from __future__ import annotations

import os
import signal
import stat
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo

from demo.clusters import Cluster
from tests.fix_command import Command
from tests.fix_servers import Database

SECRET = "s3cr3t-geheim"


_TWO = ("--source", "dbname=a", "--target", "dbname=b")


def errors_of(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if " ERROR " in line and "hint: " not in line]


def assert_one_clear_line(stderr: str, *words: str) -> None:
    errors = errors_of(stderr)
    assert len(errors) == 1, stderr
    for word in words:
        assert word in errors[0]
    assert "hint: " in stderr
    assert "Traceback" not in stderr
    assert SECRET not in stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--table-jobs", "two"), ("--table-jobs", "'two'", "from 1 to 128")),
        (("--table-jobs", "0"), ("--table-jobs", "'0'")),
        (("--index-jobs", "129"), ("--index-jobs", "'129'")),
        (("--split-tables-larger-than", "5quux"), ("--split-tables-larger-than", "'5quux'", "not a size")),
        (("--split-tables-larger-than", "-1"), ("--split-tables-larger-than", "'-1'")),
        (("--split-max-parts", "1.5"), ("--split-max-parts", "'1.5'")),
        (("--resume", "--restart"), ("--resume", "--restart")),
        (("--use-copy-binary", "--copy-format", "text"), ("--use-copy-binary", "--copy-format text")),
        (("--endpos", "0/1"), ("--endpos", "--follow")),
        (("--plugin", "pgoutput", "--wal2json-numeric-as-string"), ("--wal2json-numeric-as-string", "pgoutput")),
        (("--plugin", "test_decoding", "--wal2json-lossy-nan"), ("--wal2json-lossy-nan", "test_decoding")),
        ((*_TWO, "--follow", "--snapshot", "1-2-3"), ("--snapshot 1-2-3", "--follow", "replication slot")),
        (("--no-such-option",), ("--no-such-option",)),
        ((), ("no connection string for the source",)),
        (("--source", "dbname=a"), ("no connection string for the target",)),
    ],
    ids=str,
)
def test_a_bad_command_line(arguments: tuple[str, ...], words: tuple[str, ...], pgcopydb: Command) -> None:
    done = pgcopydb.run("clone", *arguments, check=False)
    assert done.returncode == 1
    assert_one_clear_line(done.stderr, *words)
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("list tables --list-skipped", ("--list-skipped", "--filters")),
        ("list tables --list-skipped --without-pkey --filters F", ("--without-pkey", "--list-skipped")),
        ("list indexes --schema-name app", ("--schema-name", "--table-name")),
        (
            "clone --source dbname=a --target dbname=b --skip-extensions --filters F",
            ("--skip-extensions", "include-only"),
        ),
        ("copy data --resume --restart", ("--resume", "--restart")),
        ("dump schema --resume --restart", ("--resume", "--restart")),
        ("follow --restart", ("--restart", "pgcopydb follow")),
        ("restore post-data --restart", ("--restart", "restore post-data")),
        ("stream cleanup --dry-run", ("--dry-run", "stream cleanup")),
        ("stream setup --plugin pgoutput --wal2json-numeric-as-string", ("--wal2json-numeric-as-string", "pgoutput")),
        (
            "snapshot --follow --plugin pgoutput --wal2json-numeric-as-string",
            ("--wal2json-numeric-as-string", "pgoutput"),
        ),
        ("stream transform --to-stdout", ("--to-stdout", "JSON file")),
        ("stream transform some.json --from-stdin", ("--from-stdin", "some.json")),
        ("stream apply some.sql --from-stdin", ("--from-stdin", "some.sql")),
        ("stream sentinel get --startpos --endpos", ("startpos", "endpos")),
        ("stream sentinel set endpos 0/1 --current", ("LSN", "--current")),
    ],
    ids=str,
)
def test_options_that_contradict_each_other(
    command: str, words: tuple[str, ...], pgcopydb: Command, tmp_path: Path, workdir_path: Path
) -> None:
    """Before anything is touched: there is no server at these addresses, and no work directory afterwards."""
    filters = tmp_path / "filters.ini"
    filters.write_text("[include-only-extension]\nhstore\n", encoding="utf-8")
    arguments = [str(filters) if word == "F" else word for word in command.split()]
    env = {"PGCOPYDB_SOURCE_PGURI": "host=nowhere.invalid", "PGCOPYDB_TARGET_PGURI": "host=nowhere.invalid"}
    done = pgcopydb.run(*arguments, "--dir", workdir_path, env=env, check=False)
    assert done.returncode == 1, done.stderr
    assert_one_clear_line(done.stderr, *words)
    assert done.stdout == ""
    assert not workdir_path.exists()


def test_what_the_environment_says_to_all_commands_contradicts_none(pgcopydb: Command) -> None:
    env = {"PGCOPYDB_ENDPOS": "0/1", "PGCOPYDB_COPY_FORMAT": "text", "PGCOPYDB_USE_COPY_BINARY": "on"}
    more = {"PGCOPYDB_OUTPUT_PLUGIN": "pgoutput", "PGCOPYDB_WAL2JSON_NUMERIC_AS_STRING": "on"}
    done = pgcopydb.run("clone", env={**env, **more}, check=False)
    assert_one_clear_line(done.stderr, "no connection string for the source")


def test_a_stream_that_the_work_directory_knows_otherwise(
    source_db: Database, target_db: Database, pgcopydb: Command, workdir_path: Path
) -> None:
    """What is repeated is accepted, what differs is not."""
    env = {"PGCOPYDB_SOURCE_PGURI": source_db.dsn, "PGCOPYDB_TARGET_PGURI": target_db.dsn}
    names = ("--slot-name", "known", "--origin", "known")
    there = ("--dir", str(workdir_path))
    pgcopydb.run("stream", "setup", *there, *names, "--plugin", "test_decoding", env=env)
    try:
        for option, value in (("--slot-name", "other"), ("--origin", "other"), ("--plugin", "pgoutput")):
            done = pgcopydb.run("stream", "receive", *there, option, value, env=env, check=False)
            assert done.returncode == 3
            assert_one_clear_line(done.stderr, f"{option} {value}", "known" if value == "other" else "test_decoding")
        endpos = source_db.fetch("SELECT pg_current_wal_lsn()::text")[0][0]
        pgcopydb.run("stream", "receive", *there, *names, "--plugin", "test_decoding", "--endpos", endpos, env=env)
    finally:
        pgcopydb.run("stream", "cleanup", *there, env=env)


@pytest.mark.parametrize(
    ("name", "value"),
    [("PGCOPYDB_TABLE_JOBS", "many"), ("PGCOPYDB_SPLIT_TABLES_LARGER_THAN", "5 XB"), ("PGCOPYDB_FAIL_FAST", "perhaps")],
)
def test_a_bad_environment(name: str, value: str, pgcopydb: Command) -> None:
    done = pgcopydb.run("clone", env={name: value}, check=False)
    assert done.returncode == 1
    assert_one_clear_line(done.stderr, name, repr(value))


@pytest.mark.parametrize("text", [f"nothere://u:{SECRET}@h/d", f"postgres://u:{SECRET}@h:port/d", f"{SECRET}"])
def test_a_connection_string_that_cannot_be_read(text: str, pgcopydb: Command) -> None:
    done = pgcopydb.run("clone", "--target", "dbname=x", env={"PGCOPYDB_SOURCE_PGURI": text}, check=False)
    assert SECRET not in done.stderr
    assert done.returncode == 2
    assert_one_clear_line(done.stderr, "--source (PGCOPYDB_SOURCE_PGURI)")


@pytest.mark.parametrize(("side", "code"), [("source", 6), ("target", 7)])
@pytest.mark.parametrize("wrong", ["port", "database", "role"])
def test_a_server_that_does_not_let_us_in(
    wrong: str,
    side: str,
    code: int,
    source_db: Database,
    target_db: Database,
    pgcopydb: Command,
    workdir_path: Path,
) -> None:
    dsn = {"source": source_db.dsn, "target": target_db.dsn}
    change = {"port": {"port": "1"}, "database": {"dbname": "not_there"}, "role": {"user": "nobody_here"}}[wrong]
    dsn[side] = make_conninfo(dsn[side], password=SECRET, **change)
    done = pgcopydb.run(
        "clone", "--source", dsn["source"], "--target", dsn["target"], "--dir", workdir_path, check=False
    )
    assert done.returncode == code
    said = {"port": "Connection refused", "database": '"not_there" does not exist', "role": "nobody_here"}[wrong]
    assert_one_clear_line(done.stderr, f"cannot connect to the {side}", said)


def test_a_wrong_password(target_db: Database, pgcopydb: Command, tmp_path: Path) -> None:
    with Cluster.of_major(15, password="right") as locked:
        dsn = make_conninfo(locked.dsn("postgres"), password=SECRET)
        done = pgcopydb.run(
            "clone",
            *("--source", dsn, "--target", target_db.dsn, "--dir", tmp_path / "work"),
            check=False,
        )
    assert done.returncode == 6
    assert_one_clear_line(done.stderr, "password authentication failed")
    assert "process list" in done.stderr, "a password on the command line can be seen by others"


def test_a_passfile_and_a_service_file_are_read(target_db: Database, pgcopydb: Command, tmp_path: Path) -> None:
    with Cluster.of_major(15, password=SECRET) as locked:
        admin = Database(locked, "postgres")
        admin.execute("CREATE TABLE t AS SELECT 1 AS i")
        passfile, services = tmp_path / "pass", tmp_path / "service.conf"
        passfile.write_text(f"*:*:*:*:{SECRET}\n")
        passfile.chmod(0o600)
        services.write_text(f"[prod]\nhost={locked.host}\nport={locked.port}\nuser=postgres\ndbname=postgres\n")
        done = pgcopydb.run(
            "clone",
            *("--source", "service=prod", "--target", target_db.dsn, "--dir", tmp_path / "work"),
            env={"PGPASSFILE": str(passfile), "PGSERVICEFILE": str(services)},
        )
    assert SECRET not in done.stderr
    assert target_db.fetch("SELECT i FROM t") == [(1,)]


def test_the_password_is_nowhere_in_the_work_dir(target_db: Database, pgcopydb: Command, workdir_path: Path) -> None:
    with Cluster.of_major(15, password=SECRET) as locked:
        Database(locked, "postgres").execute("CREATE TABLE t AS SELECT 1 AS i")
        uri = f"postgres://postgres:{SECRET}@{locked.host}:{locked.port}/postgres"
        done = pgcopydb.run(
            "clone",
            *("--target", target_db.dsn, "--dir", workdir_path, "-vvvv"),
            env={"PGCOPYDB_SOURCE_PGURI": uri},
        )
    assert SECRET not in done.stderr + done.stdout
    for path in workdir_path.rglob("*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes(), path


def test_a_target_that_is_not_empty(
    source_db: Database, target_db: Database, pgcopydb: Command, workdir_path: Path
) -> None:
    source_db.execute("CREATE TABLE t AS SELECT 1 AS i")
    target_db.execute("CREATE TABLE t AS SELECT 2 AS i")
    servers = ("--source", source_db.dsn, "--target", target_db.dsn, "--dir", workdir_path)
    done = pgcopydb.run("clone", *servers, check=False)
    assert done.returncode == 4
    assert "public.t" in done.stderr
    assert "--drop-if-exists" in done.stderr
    assert target_db.fetch("SELECT i FROM t") == [(2,)]
    pgcopydb.run("clone", *servers, "--resume", "--drop-if-exists")
    assert target_db.fetch("SELECT i FROM t") == [(1,)]


def test_a_work_dir_of_an_earlier_run(
    source_db: Database, target_db: Database, pgcopydb: Command, workdir_path: Path
) -> None:
    source_db.execute("CREATE TABLE t AS SELECT 1 AS i")
    arguments = ("clone", "--source", source_db.dsn, "--target", target_db.dsn, "--dir", str(workdir_path))
    pgcopydb.run(*arguments)
    again = pgcopydb.run(*arguments, check=False)
    assert again.returncode == 3
    assert_one_clear_line(again.stderr, str(workdir_path), "earlier run")

    elsewhere = make_conninfo(target_db.dsn, dbname="postgres")
    other = pgcopydb.run(
        "clone",
        *("--source", source_db.dsn, "--target", elsewhere, "--dir", workdir_path, "--resume"),
        check=False,
    )
    assert other.returncode == 3
    assert_one_clear_line(other.stderr, "belongs to another target", target_db.name)
    pgcopydb.run(*arguments, "--restart", "--drop-if-exists")


def test_a_work_dir_that_cannot_be_written(
    source_db: Database, target_db: Database, pgcopydb: Command, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("not a folder")
    done = pgcopydb.run(
        "clone", "--source", source_db.dsn, "--target", target_db.dsn, "--dir", file / "work", check=False
    )
    assert done.returncode == 3
    assert_one_clear_line(done.stderr, str(file), "Not a directory")


def test_a_catalog_that_is_no_catalog(
    source_db: Database, target_db: Database, pgcopydb: Command, workdir_path: Path
) -> None:
    (workdir_path / "schema").mkdir(parents=True)
    (workdir_path / "schema" / "source.db").write_bytes(b"not a database" * 100)
    done = pgcopydb.run(
        "clone",
        *("--source", source_db.dsn, "--target", target_db.dsn, "--dir", workdir_path, "--resume"),
        check=False,
    )
    assert done.returncode == 3
    assert_one_clear_line(done.stderr, "source.db")


def test_a_second_process_in_the_same_work_dir(
    source_db: Database, target_db: Database, pgcopydb: Command, workdir_path: Path
) -> None:
    source_db.execute("CREATE TABLE t AS SELECT 1 AS i")
    arguments = ("clone", "--source", source_db.dsn, "--target", target_db.dsn, "--dir", str(workdir_path))
    first = pgcopydb.start(*arguments, env={"PGCOPYDB_FAILPOINTS": "copy.before_commit=stop"})
    os.waitid(os.P_PID, first.pid, os.WSTOPPED | os.WNOWAIT)
    second = pgcopydb.run(*arguments, "--resume", check=False)
    assert second.returncode == 3
    assert_one_clear_line(second.stderr, str(workdir_path), f"process {first.pid}")
    first.send_signal(signal.SIGCONT)
    assert first.wait(60) == 0, pgcopydb.log_of(first)
    assert target_db.fetch("SELECT i FROM t") == [(1,)]


def test_the_state_is_private(source_db: Database, target_db: Database, pgcopydb: Command, workdir_path: Path) -> None:
    """The catalog names tables and keys of a production database, whatever the folder around it allows."""
    workdir_path.mkdir(mode=0o755)
    pgcopydb.run("clone", "--source", source_db.dsn, "--target", target_db.dsn, "--dir", workdir_path)
    assert stat.S_IMODE((workdir_path / "schema").stat().st_mode) == 0o700


def test_a_mistake_in_the_first_attempt_leaves_nothing_to_resume(
    source_db: Database, target_db: Database, pgcopydb: Command, workdir_path: Path
) -> None:
    source_db.execute("CREATE TABLE t AS SELECT 1 AS i")
    wrong = make_conninfo(target_db.dsn, dbname="not_there")
    arguments = ("clone", "--source", source_db.dsn, "--dir", str(workdir_path))
    pgcopydb.run(*arguments, "--target", wrong, check=False)
    pgcopydb.run(*arguments, "--target", target_db.dsn)
    assert target_db.fetch("SELECT i FROM t") == [(1,)]


def test_a_log_file_that_cannot_be_written(pgcopydb: Command, tmp_path: Path) -> None:
    done = pgcopydb.run("clone", env={"PGCOPYDB_LOG_FILENAME": str(tmp_path / "no" / "log")}, check=False)
    assert done.returncode == 2
    assert_one_clear_line(done.stderr, "PGCOPYDB_LOG_FILENAME", "No such file or directory")
