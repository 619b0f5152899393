"""``pgcopydb stream sentinel …``: steer a migration, and see where it is."""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass
from typing import Annotated, Optional

import orjson
import typer

from pgcopydb.cli import options as o
from pgcopydb.cli.given import begin_logging, server, workdir_of
from pgcopydb.cli.groups import command_group
from pgcopydb.cli.several import each_of
from pgcopydb.cli.values import lsn_option
from pgcopydb.daemon.heartbeat import read_state
from pgcopydb.daemon.sentinel import Sentinel, SentinelRow
from pgcopydb.daemon.slot import sentinel_of
from pgcopydb.daemon.stream import find_stream
from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Endpoint
from pgcopydb.postgres.conninfo import ConnInfo, Side
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.postgres.server import wal_position
from pgcopydb.runtime.errors import StateError, UsageError
from pgcopydb.runtime.workdir import WorkDir

logger = logging.getLogger("pgcopydb.cli")

Position = Annotated[Lsn, typer.Argument(parser=lsn_option, metavar="LSN", help="A WAL position of the source.")]
MaybePosition = Annotated[
    Optional[Lsn],  # noqa: UP045  typer reads this form on every Python that is supported
    typer.Argument(parser=lsn_option, metavar="[LSN]", help="A WAL position of the source."),
]
Current = Annotated[bool, typer.Option("--current", "-C", help="Where the source's WAL is flushed to right now.")]


@dataclass(frozen=True, slots=True)
class _Opened:
    """``database``: of a run of all; empty where there is one."""

    database: str
    sentinel: Sentinel
    source: Endpoint
    workdir: WorkDir


def _opened(source: str | None, target: str | None, directory: o.Directory, *, every: bool = False) -> list[_Opened]:
    """The sentinels of a work directory: one, or that of each database that is followed.

    Raises ``StateError`` when a run of all databases has none yet; with ``every`` also when some have none, which would
    not hear of what is set now.
    """
    one = Endpoint(server(Side.SOURCE, source), secrets.token_hex(4))
    other = Endpoint(ConnInfo.parse(Side.TARGET, target), secrets.token_hex(4)) if target else None
    top = workdir_of(directory)
    each = each_of(top)
    late = [database for database, workdir in each if database and find_stream(workdir) is None]
    if len(late) == len(each):
        raise StateError(
            f"no database of {top.top} is followed yet", hint="`pgcopydb list progress` shows how far it is."
        )
    if every and late:
        raise StateError(
            f"{len(late)} databases are not followed yet: {', '.join(late)}",
            hint="Wait until the copy of each has begun (`pgcopydb status`), or name the --dir of one database.",
        )
    return [_open(one, other, database, workdir) for database, workdir in each if database not in late]


def _open(source: Endpoint, target: Endpoint | None, database: str, workdir: WorkDir) -> _Opened:
    """Wherever the work directory says that it is: on the source unless that is a standby."""
    if database:
        source, target = source.of_database(database), target and target.of_database(database)
    stream = find_stream(workdir)
    if stream is not None:
        return _Opened(database, sentinel_of(stream, source, target), source, workdir)
    with source.connect("sentinel") as connection, server_errors(Side.SOURCE, "asking whether it is a standby"):
        row = connection.execute("SELECT pg_catalog.pg_is_in_recovery()").fetchone()
    sentinel = Sentinel(target if row and row[0] and target is not None else source)
    return _Opened(database, sentinel, source, workdir)


def _the_one(source: str | None, target: str | None, directory: o.Directory) -> Sentinel:
    """Raises ``UsageError`` when there are several."""
    opened = _opened(source, target, directory)
    if opened[0].database:
        raise UsageError(
            "the work directory is that of a run of all databases",
            hint=f"Name that of one with --dir: {opened[0].workdir.top}",
        )
    return opened[0].sentinel


def setup(
    startpos: Position,
    endpos: Position,
    source: o.Source = None,
    target: o.Target = None,
    directory: o.Directory = None,
    verbose: o.Verbose = 0,
    notice: o.Notice = False,
    debug: o.Debug = False,
    trace: o.Trace = False,
    quiet: o.Quiet = False,
) -> None:
    """Make the sentinel by hand, or overwrite it."""
    begin_logging(verbose, notice, debug, trace, quiet)
    _the_one(source, target, directory).create(startpos, endpos)


def get(
    *,
    startpos: Annotated[bool, typer.Option("--startpos", "-s", help="Print this value only.")] = False,
    endpos: Annotated[bool, typer.Option("--endpos", "-e", help="Print this value only.")] = False,
    apply: Annotated[bool, typer.Option("--apply", "-a", help="Print this value only.")] = False,
    write_lsn: Annotated[bool, typer.Option("--write-lsn", "-w", help="Print this value only.")] = False,
    transform_lsn: Annotated[
        bool,
        typer.Option("--transform-lsn", "-t", help="Print how far SQL files are made, as the work directory says."),
    ] = False,
    flush_lsn: Annotated[bool, typer.Option("--flush-lsn", "-f", help="Print this value only.")] = False,
    replay_lsn: Annotated[bool, typer.Option("--replay-lsn", "-r", help="Print this value only.")] = False,
    json: o.ShortJson = False,
    source: o.Source = None,
    target: o.Target = None,
    directory: o.Directory = None,
    verbose: o.Verbose = 0,
    notice: o.Notice = False,
    debug: o.Debug = False,
    trace: o.Trace = False,
    quiet: o.Quiet = False,
) -> None:
    """Print what the sentinel says."""
    begin_logging(verbose, notice, debug, trace, quiet)
    asked = {
        "startpos": startpos,
        "endpos": endpos,
        "apply": apply,
        "write_lsn": write_lsn,
        "transform_lsn": transform_lsn,
        "flush_lsn": flush_lsn,
        "replay_lsn": replay_lsn,
    }
    chosen = [name for name, wanted in asked.items() if wanted]
    if len(chosen) > 1:
        raise UsageError(f"only one of {', '.join(chosen)} can be asked for", hint="Leave them out to see all.")
    if transform_lsn:
        found = {database: _transformed(workdir) for database, workdir in each_of(workdir_of(directory))}
    else:
        found = {each.database: _values(each.sentinel.read()) for each in _opened(source, target, directory)}
    if chosen:
        found = {database: {chosen[0]: values[chosen[0]]} for database, values in found.items()}
    if json:
        typer.echo(orjson.dumps(found.get("", found)))
        return
    for database, values in found.items():
        for name, value in values.items():
            text = ("enabled" if value else "disabled") if isinstance(value, bool) else value
            typer.echo(f"{f'{database}: ' if database else ''}{text if chosen else f'{name:<15} {text}'}")


def _values(row: SentinelRow) -> dict[str, str | bool]:
    return {name: value if isinstance(value, bool) else str(value) for name, value in row._asdict().items()}


def _transformed(workdir: WorkDir) -> dict[str, str | bool]:
    state = read_state(workdir, "transform")
    return {"transform_lsn": "0/0" if state is None else state.position}


def set_startpos(
    startpos: Position,
    source: o.Source = None,
    target: o.Target = None,
    directory: o.Directory = None,
    verbose: o.Verbose = 0,
    notice: o.Notice = False,
    debug: o.Debug = False,
    trace: o.Trace = False,
    quiet: o.Quiet = False,
) -> None:
    """Record where streaming began."""
    begin_logging(verbose, notice, debug, trace, quiet)
    _the_one(source, target, directory).set_startpos(startpos)
    typer.echo(startpos)


def set_endpos(
    endpos: MaybePosition = None,
    *,
    current: Current = False,
    json: o.ShortJson = False,
    source: o.Source = None,
    target: o.Target = None,
    directory: o.Directory = None,
    verbose: o.Verbose = 0,
    notice: o.Notice = False,
    debug: o.Debug = False,
    trace: o.Trace = False,
    quiet: o.Quiet = False,
) -> None:
    """Say where the migration ends, and print it. Stop writes on the source first; then give --current."""
    begin_logging(verbose, notice, debug, trace, quiet)
    if (endpos is None) != current:
        raise UsageError("give either an LSN or --current", hint="--current takes the source's position of now.")
    opened = _opened(source, target, directory, every=True)
    # One position for all databases: the WAL is the server's.
    position = endpos if endpos is not None else _current(opened[0].source)
    for each in opened:
        each.sentinel.set_endpos(position)
    typer.echo(orjson.dumps({"endpos": str(position)}) if json else position)


def _current(endpoint: Endpoint) -> Lsn:
    with endpoint.connect("sentinel") as connection:
        return wal_position(connection, with_all_commits=True)


def set_apply(
    source: o.Source = None,
    target: o.Target = None,
    directory: o.Directory = None,
    verbose: o.Verbose = 0,
    notice: o.Notice = False,
    debug: o.Debug = False,
    trace: o.Trace = False,
    quiet: o.Quiet = False,
) -> None:
    """Let changes be applied: the copy is complete."""
    begin_logging(verbose, notice, debug, trace, quiet)
    for each in _opened(source, target, directory, every=True):
        each.sentinel.set_apply(apply=True)


def set_prefetch(
    source: o.Source = None,
    target: o.Target = None,
    directory: o.Directory = None,
    verbose: o.Verbose = 0,
    notice: o.Notice = False,
    debug: o.Debug = False,
    trace: o.Trace = False,
    quiet: o.Quiet = False,
) -> None:
    """Only receive and transform from now on; nothing is applied until `set apply`."""
    begin_logging(verbose, notice, debug, trace, quiet)
    for each in _opened(source, target, directory, every=True):
        each.sentinel.set_apply(apply=False)


def group() -> typer.Typer:
    """The commands, below ``stream``."""
    commands = command_group("Steer a running migration, and see where it is.")
    commands.command("setup")(setup)
    commands.command("get")(get)
    setters = command_group("Change what a running migration heeds.")
    setters.command("startpos")(set_startpos)
    setters.command("endpos")(set_endpos)
    setters.command("apply")(set_apply)
    setters.command("prefetch")(set_prefetch)
    commands.add_typer(setters, name="set")
    return commands
