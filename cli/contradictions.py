"""Options of one command line that contradict each other: refused before anything is touched.

What is said by a variable of the environment counts for every command, and so contradicts nothing that only one of
them is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from pgcopydb.bootstrap.options import CopyFormat
from pgcopydb.daemon.plugins import PluginChoice
from pgcopydb.daemon.stream import find_stream
from pgcopydb.runtime.errors import UsageError
from pgcopydb.runtime.workdir import WorkDir


def check_options(values: Mapping[str, Any]) -> None:
    """Of a command that copies or follows. Raises ``UsageError``."""
    if values.get("resume") and values.get("restart"):
        raise UsageError("--resume and --restart exclude each other", hint="Give one of them.")
    if values.get("use_copy_binary") and typed("copy_format") and values["copy_format"] != CopyFormat.BINARY:
        raise UsageError(
            f"--use-copy-binary and --copy-format {values['copy_format']} exclude each other", hint="Give one of them."
        )
    check_all_databases(values)
    if "follow" in values and not values["follow"] and typed("endpos"):
        raise UsageError(
            "--endpos says nothing without --follow: a copy ends when everything is copied",
            hint="Give both, or leave it out.",
        )
    check_plugin(values)


def check_all_databases(values: Mapping[str, Any]) -> None:
    """Of a command that can do with every database what it does with one. Raises ``UsageError``."""
    if not values.get("all_databases"):
        for name in ("exclude_database", "database_jobs"):
            if name in values and typed(name):
                option = name.replace("_", "-")
                raise UsageError(f"--{option} says nothing without --all-databases", hint="Give both, or leave it out.")
        return
    if values.get("snapshot") is not None:
        raise UsageError(
            "--all-databases and --snapshot exclude each other: a snapshot is one of one database",
            hint="Leave it out (PGCOPYDB_SNAPSHOT too): each database is read under a snapshot of its own.",
        )


def check_plugin(values: Mapping[str, Any]) -> None:
    """Options of one plugin with another one."""
    plugin = values.get("plugin", PluginChoice.AUTO)
    if plugin in {PluginChoice.AUTO, PluginChoice.WAL2JSON}:
        return
    for name in ("wal2json_numeric_as_string", "wal2json_lossy_nan"):
        if values.get(name) and typed(name):
            option = name.replace("_", "-")
            raise UsageError(f"--{option} does not go with --plugin {plugin}", hint="Leave one of them out.")


def check_snapshot(values: Mapping[str, Any], workdir: WorkDir) -> None:
    """Changes begin where a slot does: another snapshot would lose some, or have some twice. Raises ``UsageError``."""
    asked = values.get("snapshot")
    if not values.get("follow") or asked is None:
        return
    stream = find_stream(workdir)
    if values.get("restart") or stream is None or stream.snapshot != asked:
        raise UsageError(
            f"--snapshot {asked} is not one of a replication slot of {workdir.top}, as --follow needs it",
            hint="Leave it out: clone --follow makes its own, or finds that of a running `pgcopydb snapshot --follow` "
            "with the same --dir.",
        )


def typed(name: str) -> bool:
    """Whether a parameter stands on the command line itself."""
    return click.get_current_context().get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
