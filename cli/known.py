"""What a command line says of a stream of changes, or of filters, that the work directory knows already.

As in the C program an option that repeats what is known is accepted, and one that says something else is an error.
"""

from __future__ import annotations

from pathlib import Path

import click

from pgcopydb.bootstrap.filtering import rules_of_run
from pgcopydb.cli.accepted import GIVEN
from pgcopydb.cli.given import filters_of
from pgcopydb.cli.several import databases_of
from pgcopydb.daemon.plugins import Plugin, PluginChoice
from pgcopydb.daemon.stream import Stream, load_stream
from pgcopydb.runtime.errors import StateError, UsageError
from pgcopydb.runtime.workdir import WorkDir


def known_stream(workdir: WorkDir) -> Stream:
    """The stream of a work directory. Raises ``StateError`` when there is none, or when the options are of another."""
    if databases_of(workdir):
        raise StateError(
            f"the work directory {workdir.top} is that of a run of all databases",
            hint="`clone --all-databases --follow --resume` goes on with all of them; for one name its own with --dir: "
            f"{workdir.database('NAME').top}",
        )
    stream = load_stream(workdir)
    given = _given()
    plugin = given.get("--plugin")
    if plugin is not None and _plugin(plugin) not in {None, stream.plugin}:
        raise _differs(workdir, "--plugin", plugin, stream.plugin)
    for option, value in (("--slot-name", stream.slot), ("--origin", stream.origin)):
        if given.get(option, value) != value:
            raise _differs(workdir, option, given[option], value)
    check_filters(workdir)
    return stream


def check_filters(workdir: WorkDir) -> None:
    """Raises ``StateError`` when --filters names others than those that the run began with."""
    path = _given().get("--filters")
    if path is not None:
        rules_of_run(workdir, filters_of(Path(path)), resume=True)


def _given() -> dict[str, str]:
    given: dict[str, str] = click.get_current_context().meta.get(GIVEN, {})
    return given


def _plugin(name: str) -> Plugin | None:
    try:
        return PluginChoice(name).plugin
    except ValueError:
        raise UsageError(
            f"--plugin: {name!r} is not an output plugin", hint=f"Name one of {', '.join(PluginChoice)}."
        ) from None


def _differs(workdir: WorkDir, option: str, given: str, known: str) -> StateError:
    return StateError(
        f"{option} {given} is not what the work directory {workdir.top} has: {known}",
        hint=f"Leave {option} out to go on with what there is, or name another work directory with --dir.",
    )
