"""The unit files: systemd understands them, they are closed tightly, and what they say is true of the program."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pgcopydb.runtime.errors import ExitCode

FOLDER = Path(__file__).parents[2] / "systemd"
UNITS = sorted(FOLDER.glob("*.service"))


@pytest.fixture(params=UNITS, ids=lambda path: path.name)
def unit(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


def analyze(*arguments: str | Path) -> str:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("there is no systemd-analyze on this machine")
    done = subprocess.run(
        [program, *arguments], check=False, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"}
    )
    return f"{done.stdout}{done.stderr}"


def test_systemd_understands_them(unit: Path, tmp_path: Path) -> None:
    """With a program that is there."""
    copy = tmp_path / unit.name.replace("@", "@shop")
    copy.write_text(unit.read_text().replace("/opt/pgcopydb/.venv/bin/pgcopydb", "/bin/true"))
    said = analyze("verify", copy)
    assert copy.name not in said, said


def test_they_are_closed_tightly(unit: Path) -> None:
    said = analyze("security", "--offline=true", "--no-pager", unit)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert found is not None, said
    assert float(found[1]) < 2.0


def test_what_is_not_tried_again(unit: Path) -> None:
    """Each exit code that a person has to do something about."""
    found = re.search(r"^RestartPreventExitStatus=(.*)$", unit.read_text(), re.MULTILINE)
    assert found is not None
    never = {int(code) for code in found[1].split()}
    assert never == {int(code) for code in ExitCode} - {ExitCode.QUIT, ExitCode.FATAL, ExitCode.TRY_AGAIN}


def test_the_template_is_the_same_for_each_instance() -> None:
    def lines(name: str) -> list[str]:
        text = (FOLDER / name).read_text()
        return [line for line in text.splitlines() if not line.startswith(("#", "Description="))]

    one, many = lines("pgcopydb-follow.service"), lines("pgcopydb-follow@.service")
    changed = {"/etc/pgcopydb/%i.": "/etc/pgcopydb/follow.", "pgcopydb-follow-%i": "pgcopydb-follow"}
    for ours, theirs in changed.items():
        many = [line.replace(ours, theirs) for line in many]
    assert one == many
