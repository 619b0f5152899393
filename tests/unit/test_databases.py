"""Which databases are copied, how they are made, and where their state is kept."""

from __future__ import annotations

import io
import logging
import threading
from pathlib import Path
from typing import Any

import pytest

from pgcopydb.bootstrap.databases import SourceDatabase, attributes, choose, create_statement
from pgcopydb.bootstrap.findings import Severity
from pgcopydb.bootstrap.options import RestoreOptions
from pgcopydb.runtime.logs import LogSettings, in_this_context, setup_logging, speaking_of
from pgcopydb.runtime.stop import Stop, StopMode
from pgcopydb.runtime.workdir import WorkDir


def database(name: str, **values: Any) -> SourceDatabase:
    common: dict[str, Any] = {
        "oid": 1,
        "bytes": 0,
        "encoding": "UTF8",
        "collate": "C.UTF-8",
        "ctype": "C.UTF-8",
        "provider": "c",
        "locale": "",
        "rules": "",
        "connections": -1,
        "owner": "postgres",
        "tablespace": "pg_default",
        "allows_connections": True,
        "is_template": False,
        "comment": None,
        "grants": None,
    }
    return SourceDatabase(name=name, **{**common, **values})


def test_the_largest_comes_first_and_templates_are_left_out() -> None:
    listed = [
        database("small", bytes=1),
        database("unknown", bytes=None),
        database("large", bytes=1 << 40),
        database("template0", is_template=True, allows_connections=False),
        database("template1", bytes=3),
        database("mine", is_template=True),
        database("closed", allows_connections=False),
        database("half dropped", connections=-2),
        database("unwanted", bytes=5),
    ]
    chosen, findings = choose(listed, ["unwanted"])
    assert [each.name for each in chosen] == ["large", "small", "unknown"]
    assert {(finding.severity, finding.subject) for finding in findings} == {
        (Severity.NOTE, "database mine"),
        (Severity.WARNING, "database closed"),
        (Severity.WARNING, "database half dropped"),
    }


def test_an_excluded_database_that_is_not_there_is_said_with_the_nearest_names() -> None:
    _, findings = choose([database("billing"), database("sales")], ["biling"])
    assert [finding.severity for finding in findings] == [Severity.WARNING]
    assert "biling" in findings[0].message
    assert "billing" in (findings[0].fix or "")


def test_nothing_left_is_an_error() -> None:
    _, findings = choose([database("one")], ["one"])
    assert [finding.severity for finding in findings] == [Severity.ERROR]


@pytest.mark.parametrize(
    ("version", "values", "words"),
    [
        (140000, {}, ["LC_COLLATE 'C.UTF-8'"]),
        (150000, {}, ["LC_COLLATE 'C.UTF-8'", "LOCALE_PROVIDER libc"]),
        (150000, {"provider": "i", "locale": "de-AT"}, ["LOCALE_PROVIDER icu", "ICU_LOCALE 'de-AT'"]),
        (160000, {"provider": "i", "locale": "de", "rules": "&a < b"}, ["ICU_RULES '&a < b'"]),
        (170000, {"provider": "b", "locale": "C.UTF-8"}, ["LOCALE_PROVIDER builtin", "BUILTIN_LOCALE 'C.UTF-8'"]),
    ],
    ids=["libc 14", "libc 15", "icu", "icu with rules", "builtin"],
)
def test_how_one_is_made(version: int, values: dict[str, Any], words: list[str]) -> None:
    statement = create_statement(database('odd "name', **values), version, None)
    assert statement.startswith('CREATE DATABASE "odd ""name" TEMPLATE template0 ENCODING \'UTF8\'')
    for word in words:
        assert word in statement
    assert "TABLESPACE" not in statement
    assert ("LOCALE_PROVIDER" in statement) == (version >= 150000)
    assert create_statement(database("a"), version, "fast disk").endswith('TABLESPACE "fast disk"')


def test_the_owner_comes_last_and_its_own_rights_are_not_granted() -> None:
    grants = [[None, "CONNECT", False], ["boss", "CREATE", False], ["guest", "CONNECT", True]]
    one = database("a", owner="boss", connections=5, comment="it's", grants=grants)
    assert [*attributes(one, RestoreOptions())] == [
        "COMMENT ON DATABASE \"a\" IS 'it''s'",
        'ALTER DATABASE "a" CONNECTION LIMIT 5',
        'REVOKE ALL ON DATABASE "a" FROM PUBLIC',
        'GRANT CONNECT ON DATABASE "a" TO PUBLIC',
        'GRANT CONNECT ON DATABASE "a" TO "guest" WITH GRANT OPTION',
        'ALTER DATABASE "a" OWNER TO "boss"',
    ]
    assert [*attributes(one, RestoreOptions(no_owner=True, no_acl=True, no_comments=True))] == [
        'ALTER DATABASE "a" CONNECTION LIMIT 5'
    ]
    assert [*attributes(database("a"), RestoreOptions(no_owner=True))] == []


def test_any_name_has_a_folder_of_its_own() -> None:
    top = WorkDir(Path("/work"))
    names = ["a", "A", ".", "..", ".a", "%2E", "%2Ea", "a/b", "a%2Fb", "ä", "a\nb", "a b", "x" * 63, "ä" * 31]
    folders = [top.database(name).top for name in names]
    assert len(set(folders)) == len(names)
    for folder in folders:
        assert folder.parent == Path("/work/db")
        assert folder.name not in {".", ".."}
        assert len(folder.name) < 255
    assert top.database("plain_name").top.name == "plain_name"


def test_a_stop_of_a_part_leaves_the_others_alone() -> None:
    stop = Stop()
    with stop.part() as one, stop.part() as other:
        one.request(StopMode.FAST)
        assert (stop.mode, other.mode) == (StopMode.RUN, StopMode.RUN)
        stop.request(StopMode.GRACEFUL)
        assert (one.mode, other.mode) == (StopMode.FAST, StopMode.GRACEFUL)
    with stop.part() as late:
        assert late.mode is StopMode.GRACEFUL


def test_log_lines_of_threads_speak_of_what_their_starter_does(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr("sys.stderr", written)
    setup_logging(LogSettings())
    logger = logging.getLogger("pgcopydb.test")
    with speaking_of("sh\nop"):
        threads = [
            threading.Thread(target=in_this_context(logger.warning), args=("inside",)),
            threading.Thread(target=logger.warning, args=("elsewhere",)),
        ]
        for thread in threads:
            thread.start()
            thread.join()
        logger.warning("here")
    logger.warning("behind")
    said = [line.split("WARN   ")[1] for line in written.getvalue().splitlines()]
    assert said == [r"sh\nop: inside", "elsewhere", r"sh\nop: here", "behind"]
