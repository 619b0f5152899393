"""Restore through a script that psql runs, where pg_restore's own statements would be refused.

An archive cannot be edited; the script that pg_restore makes of it can.

Some releases of the server keep a version number of a column among its options (``pg_attver``). Their own pg_dump
hides it, another one prints ``ALTER TABLE … ALTER COLUMN … SET (pg_attver=…)`` inside a table's entry, which every
server rejects, and with it the table. Needed only where ``Tools.knows_source`` is false. Such a script is removed: a
user mapping in it may hold a password.

Rights that somebody passed on are granted again by the same role: pg_dump has the session be that role, which is for
superusers; a member may act as it (``SET ROLE``).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pgcopydb.bootstrap.archive import ArchiveEntry, write_list
from pgcopydb.bootstrap.restore import ROLE, RestoreError, last_words
from pgcopydb.postgres.binaries import Tools
from pgcopydb.postgres.connect import Endpoint
from pgcopydb.runtime.child import run_child
from pgcopydb.runtime.durable import disk_errors
from pgcopydb.runtime.errors import BinaryError
from pgcopydb.runtime.stop import Stop
from pgcopydb.runtime.workdir import WorkDir

_SET_OPTIONS: Final = re.compile(rb"(ALTER (?:FOREIGN )?TABLE .* ALTER COLUMN .* SET \()([^()']*)(\);)\s*")
_VERSION: Final = re.compile(rb"\s*pg_attver=\d+\s*")
_ENTRY_TITLE: Final = b"-- Name: "
_TRANSACTION_TIMEOUT: Final = b"SET transaction_timeout = 0;"
_AUTHORIZATION: Final = re.compile(rb"(SET|RESET) SESSION AUTHORIZATION\b(.*;\s*)")
_EXCERPT: Final = re.compile(r"LINE \d+: ")


def rewrite(lines: Iterable[bytes], *, drop_transaction_timeout: bool) -> Iterator[bytes]:
    """The script without ``pg_attver``, and without the leading ``SET`` that an older target does not know."""
    in_head = True
    for line in lines:
        in_head = in_head and not line.startswith(_ENTRY_TITLE)
        if in_head and drop_transaction_timeout and line.startswith(_TRANSACTION_TIMEOUT):
            continue
        rewritten = _without_version(line)
        if rewritten:
            yield rewritten


def _without_version(line: bytes) -> bytes:
    match = _SET_OPTIONS.fullmatch(line) if b"pg_attver=" in line else None
    if match is None:
        return line
    options = [option for option in match[2].split(b",") if not _VERSION.fullmatch(option)]
    return match[1] + b",".join(options).strip() + match[3] + b"\n" if options else b""


@contextmanager
def script_of(
    workdir: WorkDir, tools: Tools, entries: Sequence[ArchiveEntry], flags: Sequence[str], stop: Stop
) -> Iterator[Path | None]:
    """The rewritten script for these entries; none where pg_restore can restore them as they are."""
    if tools.knows_source:
        yield None
        return
    with _rewritten(workdir, tools, "script", entries, flags, stop, _write) as script:
        yield script


@contextmanager
def grants_of_others(
    workdir: WorkDir, tools: Tools, entries: Sequence[ArchiveEntry], flags: Sequence[str], stop: Stop
) -> Iterator[Path | None]:
    """A script that grants what these entries, of kind ACL, grant; none where all of it comes from the owners."""
    with _rewritten(workdir, tools, "grants", entries, flags, stop, _write_as_roles) as script:
        yield script


@contextmanager
def _rewritten(
    workdir: WorkDir,
    tools: Tools,
    name: str,
    entries: Sequence[ArchiveEntry],
    flags: Sequence[str],
    stop: Stop,
    write: Callable[[Path, Path, Tools], bool],
) -> Iterator[Path | None]:
    """What ``write`` makes of pg_restore's script for these entries; none where it says that there is nothing to do."""
    listed = workdir.restore_list(name)
    original, script = listed.with_name(f"{name}.sql"), listed.with_name(f"rewritten-{name}.sql")
    write_list(entries, listed)
    try:
        _write_original(workdir, tools, listed, flags, original, stop)
        with disk_errors(script, "writing"):
            yield script if write(original, script, tools) else None
    finally:
        original.unlink(missing_ok=True)
        script.unlink(missing_ok=True)


def _write_as_roles(original: Path, script: Path, tools: Tools) -> bool:
    with original.open("rb") as lines:
        if not any(_AUTHORIZATION.fullmatch(line) for line in lines):
            return False
        lines.seek(0)
        with script.open("wb") as target:
            for line in rewrite(lines, drop_transaction_timeout=tools.restore_too_new):
                said = _AUTHORIZATION.fullmatch(line)
                target.write(line if said is None else said[1] + b" ROLE" + said[2])
    return True


def _write_original(
    workdir: WorkDir, tools: Tools, listed: Path, flags: Sequence[str], original: Path, stop: Stop
) -> None:
    result = run_child(
        [
            tools.restore.program("pg_restore"),
            f"--use-list={listed}",
            *flags,
            f"--file={original}",
            str(workdir.schema_dump),
        ],
        environment=dict(os.environ),
        stop=stop,
        what="writing the schema as a script",
    )
    if result.returncode != 0:
        raise BinaryError(f"pg_restore could not write the schema as a script: {last_words(result.errors)}")


def _write(original: Path, script: Path, tools: Tools) -> bool:
    """Whether there was anything to take out, and so a script written."""
    with original.open("rb") as lines:
        if all(_without_version(line) == line for line in lines):
            return False
        lines.seek(0)
        with script.open("wb") as target:
            target.writelines(rewrite(lines, drop_transaction_timeout=tools.restore_too_new))
    return True


def run_script(
    script: Path, target: Endpoint, tools: Tools, *, one_transaction: bool, stop: Stop
) -> list[RestoreError]:
    """Run it up to its first error; in one transaction where asked."""
    result = run_child(
        [
            tools.restore.program("psql"),
            "--no-psqlrc",
            "--quiet",
            "--no-password",
            "--set=ON_ERROR_STOP=1",
            *(["--single-transaction"] if one_transaction else []),
            f"--dbname={target.info.child_dsn()}",
            f"--file={script}",
        ],
        environment=target.info.child_environment(target.title(ROLE)),
        stop=stop,
        what="restoring the schema with psql",
        on_line=lambda _line: None,
    )
    if result.returncode == 0:
        return []
    # The excerpt of a statement may hold a password.
    said = [line for line in result.errors if line.strip(" ^") and not _EXCERPT.match(line)]
    return [RestoreError("", last_words(said), "")]
