"""Which client programs are found, and which are chosen for two servers."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from pgcopydb.postgres.binaries import ToolSet, choose, discover
from pgcopydb.runtime.errors import BinaryError, ExitCode


def tool(version: int, *, tls: bool = True) -> ToolSet:
    text = f"{version // 10000}.{version % 10000}"
    return ToolSet(version, text, Path(f"/opt/{text}{'' if tls else '-plain'}/bin"), tls)


V13, V15_18, V15_20, V16, V17, V18 = (tool(v) for v in (130023, 150018, 150020, 160014, 170010, 180006))
ALL = [V13, V15_18, V15_20, V16, V17, V18]


@pytest.mark.parametrize(
    ("tools", "source", "target", "dump", "restore", "knows_source", "too_new"),
    [
        # The source's own major, whatever else there is.
        (ALL, 150020, 180006, V15_20, V15_20, True, False),
        (ALL, 150018, 170010, V15_20, V15_20, True, False),
        (ALL, 170010, 180006, V17, V17, True, False),
        # Of the same major, but older than the source.
        ([V15_18, V17, V18], 150020, 180006, V15_18, V15_18, False, False),
        # Only newer majors: the target's rather than one above it.
        ([V16, V17, V18], 150020, 170010, V17, V17, False, False),
        ([V17, V18], 150020, 150020, V17, V17, False, True),
        ([V18], 150020, 170010, V18, V18, False, False),
        # pg_restore 17 and newer set what a target before 17 does not know: an older one, if it reads the archive.
        ([V13, V16, V17], 140000, 160014, V16, V16, False, False),
        ([V16, V17], 170010, 160014, V17, V17, True, True),
        ([V15_20, V18], 180006, 150020, V18, V18, True, True),
        # 16 reads the archive of 15, not the other way round.
        ([V15_20, V16], 160014, 150020, V16, V16, True, False),
    ],
)
def test_the_pair_that_suits_both_servers(
    tools: list[ToolSet],
    source: int,
    target: int,
    dump: ToolSet,
    restore: ToolSet,
    knows_source: bool,
    too_new: bool,
) -> None:
    chosen = choose(tools, source, target)
    assert (chosen.dump, chosen.restore) == (dump, restore)
    assert (chosen.knows_source, chosen.restore_too_new) == (knows_source, too_new)


def test_pg_restore_may_come_from_another_folder() -> None:
    chosen = choose([V16, V17], 160099, 150020)
    assert (chosen.dump, chosen.restore) == (V16, V16)
    # No pg_dump below 17 reads the source, and no pg_restore below 17 reads its archive.
    chosen = choose([V13, V15_20, V17], 160014, 150020)
    assert (chosen.dump, chosen.restore, chosen.restore_too_new) == (V17, V17, True)
    # A pg_dump that has no quiet pg_restore beside it, but elsewhere: 18's archive is in 17's format.
    chosen = choose([V17, V18], 180006, 160014)
    assert (chosen.dump, chosen.restore) == (V18, V18)


def test_tls_is_asked_of_the_tools_only_where_the_connection_asks_for_it() -> None:
    plain = tool(180006, tls=False)
    assert choose([V17, plain], 170010, 180006).dump == V17
    assert choose([plain], 180006, 180006).dump == plain
    assert choose([tool(180004), plain], 180004, 180006, needs_tls=True).dump == tool(180004)
    with pytest.raises(BinaryError, match="and TLS, which the connection uses"):
        choose([plain], 180006, 180006, needs_tls=True)


def test_no_program_serves() -> None:
    with pytest.raises(BinaryError) as caught:
        choose([V15_18, V17], 180006, 180006)
    assert str(caught.value) == (
        "the source runs PostgreSQL 18.6: pg_dump and pg_restore of version 18 or newer are needed;"
        " found: 15.18 in /opt/15.18/bin; 17.10 in /opt/17.10/bin"
    )
    assert "postgresql-client-18" in (caught.value.hint or "")
    assert caught.value.exit_code is ExitCode.PGCTL
    with pytest.raises(BinaryError, match="found: none"):
        choose([], 150018, 150018)


def install(folder: Path, answer: str, *, broken: bool = False) -> Path:
    """Programs that answer to --version, as a folder of a package has them."""
    folder.mkdir(parents=True)
    for name in ("pg_dump", "pg_restore"):
        program = folder / name
        program.write_text(f"#!/bin/sh\n{'exit 127' if broken else f'echo {answer!r}'}\n")
        program.chmod(0o755)
    return folder


def names(found: list[ToolSet], top: Path) -> list[tuple[str, str]]:
    """Of the tools below a folder; Python packages may bring more."""
    return [(t.version_text, str(t.bindir.relative_to(top))) for t in found if t.bindir.is_relative_to(top)]


def test_tools_are_found_in_path_and_in_the_folders_of_packages(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    install(tmp_path / "usr/lib/postgresql/15/bin", "pg_dump (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)")
    install(tmp_path / "usr/lib/postgresql/16/bin", "", broken=True)
    install(tmp_path / "usr/pgsql-19/bin", "pg_dump (PostgreSQL) 19beta1")
    install(tmp_path / "mine/bin", "pg_dump (PostgreSQL) 17.10")
    (tmp_path / "wrapped").mkdir()
    install(tmp_path / "share", "pg_dump (PostgreSQL) 15.20").joinpath("pg_dump").rename(tmp_path / "share/pg_wrapper")
    (tmp_path / "wrapped/pg_dump").symlink_to(tmp_path / "share/pg_wrapper")
    path = f"{tmp_path}/wrapped:{tmp_path}/mine/bin:{tmp_path}/usr/lib/postgresql/15/bin:{tmp_path}/gone"
    with caplog.at_level(logging.WARNING, "pgcopydb"):
        found = discover({"PATH": path}, root=tmp_path)
    assert names(found, tmp_path) == [
        ("15.20", "usr/lib/postgresql/15/bin"),
        ("17.10", "mine/bin"),
        ("19beta1", "usr/pgsql-19/bin"),
    ]
    assert [t.version for t in found if t.bindir.is_relative_to(tmp_path)] == [150020, 170010, 190000]
    assert "postgresql/16/bin/pg_dump does not run" in caplog.text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may enter every folder")
def test_a_folder_in_path_that_may_not_be_entered(tmp_path: Path) -> None:
    mine = install(tmp_path / "mine", "pg_dump (PostgreSQL) 17.10")
    (tmp_path / "closed").mkdir(mode=0o000)
    found = discover({"PATH": f"{tmp_path}/closed:{mine}"}, root=tmp_path)
    assert names(found, tmp_path) == [("17.10", "mine")]


def pg_config(folder: Path, bindir: Path) -> str:
    program = folder / "pg_config"
    program.write_text(f"#!/bin/sh\necho {bindir}\n")
    program.chmod(0o755)
    return str(program)


def test_pg_config_wins_or_fails(tmp_path: Path) -> None:
    install(tmp_path / "usr/lib/postgresql/18/bin", "pg_dump (PostgreSQL) 18.6")
    mine = install(tmp_path / "mine", "pg_dump (PostgreSQL) 15.20")
    found = discover({"PG_CONFIG": pg_config(tmp_path, mine)}, root=tmp_path)
    assert names(found, tmp_path) == [("15.20", "mine")]
    with pytest.raises(BinaryError, match="does not answer to --bindir"):
        discover({"PG_CONFIG": str(tmp_path / "none")}, root=tmp_path)
    with pytest.raises(BinaryError, match="has no pg_dump and pg_restore that run"):
        discover({"PG_CONFIG": pg_config(tmp_path, tmp_path / "empty")}, root=tmp_path)


def test_a_missing_program_is_named(tmp_path: Path) -> None:
    with pytest.raises(BinaryError, match=r"psql is missing in .*, beside pg_dump 15\.20"):
        ToolSet(150020, "15.20", tmp_path).program("psql")
