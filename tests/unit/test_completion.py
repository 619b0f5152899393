"""Completion and manual pages: what the shells make of them, and that the package brings them along."""

from __future__ import annotations

import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BASH = shutil.which("bash")
SCRIPTS = ROOT / "docs" / "completion"
PAGES = sorted((ROOT / "docs" / "man").glob("*.1"))


def complete(*words: str, folder: Path | None = None) -> list[str]:
    """What bash offers for the last word. It finds no program at all: to start ours would take too long."""
    assert BASH is not None
    script = (
        f'source {SCRIPTS / "pgcopydb"}; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _pgcopydb'
        '; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        [BASH, "--norc", "-c", script, "bash", "pgcopydb", *words],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder or ROOT,
        env={"PATH": "/nowhere"},
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("cl",), ["clone"]),
        (("-v", "cl"), ["clone"]),
        (("copy", "s"), ["schema", "sequences"]),
        (("stream", "sentinel", "set", ""), ["apply", "endpos", "prefetch", "startpos", "--help", "-h"]),
        (("clone", "--skip-ext"), ["--skip-extensions", "--skip-ext-comments", "--skip-ext-comment"]),
        (("clone", "--source", "x", "--no-c"), ["--no-comments"]),
        (("clone", "--plugin", ""), ["auto", "test_decoding", "wal2json", "pgoutput"]),
        (("clone", "-p", "wal"), ["wal2json"]),
        (("clone", "--plugin", "=", "t"), ["test_decoding"]),
        (("clone", "--plugin", "="), ["auto", "test_decoding", "wal2json", "pgoutput"]),
        (("clone", "--source", ""), []),
        (("list", "tables", "--dir", "sub"), ["subfolder"]),
        (("stream", "apply", "sub"), ["subfolder"]),
        (("nonsense", "--fo"), []),
    ],
    ids=str,
)
def test_bash_offers(words: tuple[str, ...], offered: list[str], tmp_path: Path) -> None:
    (tmp_path / "subfolder").mkdir()
    assert complete(*words, folder=tmp_path) == offered


def test_options_that_are_accepted_for_the_sake_of_scripts_are_not_offered() -> None:
    assert "--filters" in complete("copy", "data", "-")
    assert not {"--host", "--create-slot", "--endpos"} & set(complete("copy", "data", "-"))


def shell(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: apt-get install {name}")
    return found


def test_fish_offers() -> None:
    def offered(line: str) -> list[str]:
        command = f"source {SCRIPTS / 'pgcopydb.fish'}; complete -C '{line}'"
        done = subprocess.run(
            [shell("fish"), "--no-config", "-c", command], capture_output=True, text=True, check=True, timeout=30
        )
        assert done.stderr == ""
        return [each.split("\t")[0] for each in done.stdout.splitlines()]

    assert offered("pgcopydb copy s") == ["schema", "sequences"]
    assert offered("pgcopydb clone --plugin wal") == ["wal2json"]
    assert offered("pgcopydb clone --table-j") == ["--table-jobs"]


@pytest.mark.parametrize(("name", "script"), [("bash", "pgcopydb"), ("zsh", "_pgcopydb"), ("fish", "pgcopydb.fish")])
def test_a_shell_reads_its_script(name: str, script: str) -> None:
    done = subprocess.run([shell(name), "-n", SCRIPTS / script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_manual_page_is_good_roff(page: Path) -> None:
    for command in (["groff", "-ww", "-man", "-Tutf8", "-z"], ["mandoc", "-Tlint", "-Wwarning"]):
        program = shutil.which(command[0])
        if program is not None:
            done = subprocess.run([program, *command[1:], page], capture_output=True, text=True, check=False)
            assert (done.returncode, done.stderr + done.stdout) == (0, "")
            return
    pytest.skip("neither groff nor mandoc is installed: apt-get install groff-base")


def test_a_manual_page_says_what_the_program_does() -> None:
    page = (ROOT / "docs" / "man" / "pgcopydb-copy.1").read_text(encoding="utf-8")
    assert page.count(".SS ") == len(complete("copy", "")) - len(["--help", "-h"])
    assert page.count("\\fB\\-\\-source\\fR") == 1, "what all of them take is there once"
    assert "PGCOPYDB_TABLE_JOBS" in page


def test_the_package_brings_them() -> None:
    """Where each shell, and man, looks for them below the prefix of the installation."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    brought = {
        f"{folder}/{path.name}"
        for folder, patterns in settings["tool"]["setuptools"]["data-files"].items()
        for pattern in patterns
        for path in ROOT.glob(pattern)
    }
    assert brought == {
        *(f"share/man/man1/{page.name}" for page in PAGES),
        "share/bash-completion/completions/pgcopydb",
        "share/zsh/site-functions/_pgcopydb",
        "share/fish/vendor_completions.d/pgcopydb.fish",
    }
