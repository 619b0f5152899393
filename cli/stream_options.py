"""The options of commands that follow changes, each declared once."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from pgcopydb.apply.replay import ApplyMode, OnConflict
from pgcopydb.cli.values import lsn_option, size_option, slot_name
from pgcopydb.daemon.plugins import PluginChoice
from pgcopydb.postgres.lsn import Lsn

_STREAM = "Following changes"

Follow = Annotated[
    bool,
    typer.Option(
        "--follow",
        "-f",
        help="Receive changes from the moment of the snapshot on, apply them when the copy is complete, and go on "
        "until the end position.",
        rich_help_panel=_STREAM,
    ),
]
FollowSnapshot = Annotated[
    bool,
    typer.Option(
        "--follow",
        "-f",
        help="Make a replication slot, and export the snapshot that goes with it.",
        rich_help_panel=_STREAM,
    ),
]
PluginOption = Annotated[
    PluginChoice,
    typer.Option(
        "--plugin",
        "-p",
        envvar="PGCOPYDB_OUTPUT_PLUGIN",
        help="Output plugin that decodes changes on the source. auto: wal2json from 2.6 on, else test_decoding, else "
        "pgoutput.",
        rich_help_panel=_STREAM,
    ),
]
NumericAsString = Annotated[
    bool,
    typer.Option(
        "--wal2json-numeric-as-string",
        "-w",
        envvar="PGCOPYDB_WAL2JSON_NUMERIC_AS_STRING",
        help="Refuse a wal2json that cannot print numbers as strings (before 2.6).",
        rich_help_panel=_STREAM,
    ),
]
LossyNan = Annotated[
    bool,
    typer.Option(
        "--wal2json-lossy-nan",
        help="Accept a wal2json that sends NULL for NaN and infinities (before 2.6), though tables may hold them.",
        rich_help_panel=_STREAM,
    ),
]
SlotName = Annotated[
    str,
    typer.Option(
        "--slot-name",
        "-s",
        envvar="PGCOPYDB_SLOT_NAME",
        parser=slot_name,
        help="Replication slot on the source, and its publication.",
        rich_help_panel=_STREAM,
        metavar="NAME",
    ),
]
OriginName = Annotated[
    str,
    typer.Option(
        "--origin",
        "-o",
        envvar="PGCOPYDB_ORIGIN",
        help="Replication origin on the target.",
        rich_help_panel=_STREAM,
        metavar="NAME",
    ),
]
Endpos = Annotated[
    Optional[Lsn],  # noqa: UP045
    typer.Option(
        "--endpos",
        "-E",
        envvar="PGCOPYDB_ENDPOS",
        parser=lsn_option,
        help="Stop when everything up to this position is applied. (default: as the sentinel says, else never)",
        rich_help_panel=_STREAM,
        metavar="LSN",
    ),
]
ToStdout = Annotated[
    bool,
    typer.Option(
        "--to-stdout",
        "-O",
        help="Write the lines of change files to stdout. Only what the target has is acknowledged.",
        rich_help_panel=_STREAM,
    ),
]
FromStdin = Annotated[
    bool, typer.Option("--from-stdin", "-I", help="The same as - for the file to read.", rich_help_panel=_STREAM)
]
SqlToStdout = Annotated[
    bool, typer.Option("--to-stdout", "-O", help="The same as - for the SQL file.", rich_help_panel=_STREAM)
]
OnConflictOption = Annotated[
    OnConflict,
    typer.Option(
        "--on-conflict",
        envvar="PGCOPYDB_ON_CONFLICT",
        help="When a change finds no row on the target, or several: stop, or say so and go on.",
        rich_help_panel=_STREAM,
    ),
]
ApplyModeOption = Annotated[
    ApplyMode,
    typer.Option(
        "--apply-mode",
        envvar="PGCOPYDB_APPLY_MODE",
        help="Whether changes that wait are reduced to what they come to before they are applied: when there are many, "
        "always, or never.",
        rich_help_panel=_STREAM,
    ),
]
ReplayNoOp = Annotated[
    bool,
    typer.Option(
        "--replay-no-op-updates",
        envvar="PGCOPYDB_REPLAY_NO_OP_UPDATES",
        help="Apply UPDATEs that change nothing too.",
        rich_help_panel=_STREAM,
    ),
]
KeepFiles = Annotated[
    bool,
    typer.Option(
        "--keep-files",
        envvar="PGCOPYDB_KEEP_FILES",
        help="Keep files of changes that the target has on its disk.",
        rich_help_panel=_STREAM,
    ),
]
MaxDisk = Annotated[
    int,
    typer.Option(
        "--max-disk",
        envvar="PGCOPYDB_MAX_DISK",
        parser=size_option,
        metavar="SIZE",
        help="How much the files of changes may take, e.g. 200GB, before receiving pauses; 0 for any size. "
        "A transaction that is larger is received all the same.",
        rich_help_panel=_STREAM,
    ),
]
MinFree = Annotated[
    int | None,
    typer.Option(
        "--min-free",
        envvar="PGCOPYDB_MIN_FREE",
        parser=size_option,
        metavar="SIZE",
        show_default="5 % of the disk, at most 1GB",
        help="How much of the work directory's disk must stay free; with less receiving pauses until there is room.",
        rich_help_panel=_STREAM,
    ),
]
