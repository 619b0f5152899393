"""The options that several commands share, each declared once."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Optional

import click
import typer

from pgcopydb.apply.replay import ApplyMode, OnConflict
from pgcopydb.bootstrap.options import CopyFormat, ForeignKeys
from pgcopydb.bootstrap.pins import parse_requirements
from pgcopydb.cli.accepted import SAID
from pgcopydb.daemon.plugins import PluginChoice
from pgcopydb.postgres.conninfo import SECRETS, ConnInfo, Side
from pgcopydb.postgres.filters import FilterRules, Section, parse_filters
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.runtime.errors import ConfigError, UsageError
from pgcopydb.runtime.logs import level_of, settings_from, setup_logging
from pgcopydb.runtime.sizes import parse_size
from pgcopydb.runtime.workdir import WorkDir, default_directory

logger = logging.getLogger("pgcopydb.cli")


def size_option(text: str | int) -> int:
    """For typer, which also hands the default through: a size in bytes; a bad one is a usage error."""
    try:
        return text if isinstance(text, int) else parse_size(text)
    except UsageError as exc:
        raise typer.BadParameter(f"{exc.message}. {exc.hint}") from exc


def whole_number(least: int, most: int | None = None) -> Callable[[str | int], int]:
    """For typer: a number within bounds; the message names the value, which typer's own does not."""
    bounds = f"of at least {least}" if most is None else f"from {least} to {most}"

    def parse(text: str | int) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least or (most is not None and number > most):
            raise typer.BadParameter(f"{text!r} is not a whole number {bounds}")
        return number

    return parse


def slot_name(text: str) -> str:
    """For typer: a name that the server accepts for a slot."""
    if re.fullmatch(r"[a-z0-9_]{1,56}", text) is None:
        raise typer.BadParameter(f"{text!r} is not a slot name: lower-case letters, digits and _, at most 56 of them")
    return text


def lsn_option(text: str | Lsn) -> Lsn:
    """For typer, which also hands the default through: a WAL position."""
    try:
        return text if isinstance(text, Lsn) else Lsn.parse(text)
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from exc


class Pairs(click.types.StringParamType):
    """Text with ``=`` in it; several in one variable, with commas between that stand in no quotes."""

    name = "pair"

    def split_envvar_value(self, rv: str) -> list[str]:
        return [pair for pair in re.findall(r'(?:"[^"]*"|[^",])+', rv) if pair.strip()]


_JOBS = whole_number(1, 128)
_CONNECTION = "Servers and work directory"
_WORKERS = "Workers"
_SPLIT = "Tables in several parts"
_WHAT = "What is copied"
_RUN = "How the run goes"
_STREAM = "Following changes"
_LOGS = "Log lines"

Source = Annotated[
    Optional[str],  # noqa: UP045  typer reads this form on every Python that is supported
    typer.Option(
        "--source",
        "-S",
        envvar="PGCOPYDB_SOURCE_PGURI",
        show_envvar=True,
        help="Connection string of the source: a URI or libpq's keyword form.",
        rich_help_panel=_CONNECTION,
        metavar="URI",
    ),
]
Target = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--target",
        "-T",
        envvar="PGCOPYDB_TARGET_PGURI",
        help="Connection string of the target: a URI or libpq's keyword form.",
        rich_help_panel=_CONNECTION,
        metavar="URI",
    ),
]
Directory = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--dir",
        "-D",
        help="Work directory, where the state of the run is kept. (default: $TMPDIR/pgcopydb)",
        rich_help_panel=_CONNECTION,
        metavar="PATH",
    ),
]
TableJobs = Annotated[
    int,
    typer.Option(
        "--table-jobs",
        "--jobs",
        "-J",
        envvar="PGCOPYDB_TABLE_JOBS",
        parser=_JOBS,
        help="Tables (or parts of them) copied at once; also VACUUM workers.",
        rich_help_panel=_WORKERS,
        metavar="N",
    ),
]
IndexJobs = Annotated[
    int,
    typer.Option(
        "--index-jobs",
        "-I",
        envvar="PGCOPYDB_INDEX_JOBS",
        parser=_JOBS,
        help="Indexes built at once.",
        rich_help_panel=_WORKERS,
        metavar="N",
    ),
]
RestoreJobs = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(
        "--restore-jobs",
        "-j",
        envvar="PGCOPYDB_RESTORE_JOBS",
        parser=_JOBS,
        help="Jobs of pg_restore for post-data. (default: as --index-jobs)",
        rich_help_panel=_WORKERS,
        metavar="N",
    ),
]
LargeObjectsJobs = Annotated[
    int,
    typer.Option(
        "--large-objects-jobs",
        "--large-object-jobs",
        "-b",
        envvar="PGCOPYDB_LARGE_OBJECTS_JOBS",
        parser=_JOBS,
        help="Batches of large objects copied at once.",
        rich_help_panel=_WORKERS,
        metavar="N",
    ),
]
SplitLargerThan = Annotated[
    int,
    typer.Option(
        "--split-tables-larger-than",
        "--split-at",
        "-L",
        envvar="PGCOPYDB_SPLIT_TABLES_LARGER_THAN",
        parser=size_option,
        help="Copy tables of at least this size in parts, several at once: bytes, or with a unit (kB MB GB TB); "
        "0 never does.",
        rich_help_panel=_SPLIT,
        metavar="SIZE",
    ),
]
SplitMaxParts = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(
        "--split-max-parts",
        "-u",
        envvar="PGCOPYDB_SPLIT_MAX_PARTS",
        parser=whole_number(1),
        help="At most this many parts of one table. (default: unlimited)",
        rich_help_panel=_SPLIT,
        metavar="N",
    ),
]
EstimateSizes = Annotated[
    bool,
    typer.Option(
        "--estimate-table-sizes",
        "-m",
        envvar="PGCOPYDB_ESTIMATE_TABLE_SIZES",
        help="Take sizes from the planner's statistics (after vacuumdb --analyze-only on the source) "
        "instead of asking for each table.",
        rich_help_panel=_SPLIT,
    ),
]
SkipSplitByCtid = Annotated[
    bool,
    typer.Option(
        "--skip-split-by-ctid",
        "-k",
        envvar="PGCOPYDB_SKIP_CTID_SPLIT",
        help="Split tables on integer keys only, never by ranges of pages.",
        rich_help_panel=_SPLIT,
    ),
]
SkipAnalyze = Annotated[
    bool,
    typer.Option(
        "--skip-analyze",
        "-a",
        envvar="PGCOPYDB_SKIP_ANALYZE",
        help="With --estimate-table-sizes: use the statistics as they are.",
        rich_help_panel=_SPLIT,
    ),
]
DropIfExists = Annotated[
    bool,
    typer.Option(
        "--drop-if-exists",
        "-c",
        envvar="PGCOPYDB_DROP_IF_EXISTS",
        help="Drop what is in the way on the target first: tables, large objects and other objects of the same name.",
        rich_help_panel=_WHAT,
    ),
]
NoOwner = Annotated[
    bool, typer.Option("--no-owner", "-O", help="Leave ownership to the connecting role.", rich_help_panel=_WHAT)
]
NoAcl = Annotated[bool, typer.Option("--no-acl", "-x", help="Leave out grants.", rich_help_panel=_WHAT)]
NoComments = Annotated[bool, typer.Option("--no-comments", "-X", help="Leave out comments.", rich_help_panel=_WHAT)]
NoTablespaces = Annotated[
    bool,
    typer.Option(
        "--no-tablespaces",
        "-y",
        envvar="PGCOPYDB_SKIP_TABLESPACES",
        help="Create everything in the target's default tablespace.",
        rich_help_panel=_WHAT,
    ),
]
TablespaceMap = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--tablespace-map",
        envvar="PGCOPYDB_TABLESPACE_MAP",
        click_type=Pairs(),
        help="Put what is in tablespace OLD of the source into NEW of the target; may be given several times, in the "
        "environment with commas between.",
        rich_help_panel=_WHAT,
        metavar="OLD=NEW",
    ),
]
SkipLargeObjects = Annotated[
    bool,
    typer.Option("--skip-large-objects", "--skip-blobs", "-B", help="Leave out large objects.", rich_help_panel=_WHAT),
]
SkipExtensions = Annotated[
    bool,
    typer.Option(
        "--skip-extensions",
        "-e",
        help="Leave out extensions, their comments and their configuration data.",
        rich_help_panel=_WHAT,
    ),
]
RequirementsFile = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--requirements",
        "-Q",
        help="JSON file with the versions in which extensions are created, as `pgcopydb list extensions "
        "--requirements` prints it; others are created in the target's default version.",
        rich_help_panel=_WHAT,
        metavar="FILE",
    ),
]
SkipExtComments = Annotated[
    bool,
    typer.Option(
        "--skip-ext-comments",
        "--skip-ext-comment",
        "-M",
        help="Leave out comments on extensions.",
        rich_help_panel=_WHAT,
    ),
]
RestoreSkipExtComments = Annotated[
    bool,
    typer.Option(
        "--skip-ext-comments",
        "--skip-ext-comment",
        "-M",
        "-E",
        help="Leave out comments on extensions.",
        rich_help_panel=_WHAT,
    ),
]
Filters = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--filters",
        "--filter",
        "-F",
        envvar="PGCOPYDB_FILTERS",
        help="File that says which schemas, tables, rows of tables, indexes and extensions are left out.",
        rich_help_panel=_WHAT,
        metavar="FILE",
    ),
]
WithRoles = Annotated[
    bool,
    typer.Option(
        "--roles",
        "-A",
        help="Make the roles of the source's server first; those that the target has stay as they are.",
        rich_help_panel=_WHAT,
    ),
]
NoRolePasswords = Annotated[
    bool,
    typer.Option(
        "--no-role-passwords",
        "-P",
        help="With --roles: without passwords, which only a superuser of the source may read.",
        rich_help_panel=_WHAT,
    ),
]
AllDatabases = Annotated[
    bool,
    typer.Option(
        "--all-databases",
        help="Copy every database of the source's server that allows connections and is no template, each into the one "
        "of its name, which is made where it is missing.",
        rich_help_panel=_WHAT,
    ),
]
ExcludeDatabase = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--exclude-database",
        help="With --all-databases: not this one; may be given several times.",
        rich_help_panel=_WHAT,
        metavar="NAME",
    ),
]
DatabaseJobs = Annotated[
    int,
    typer.Option(
        "--database-jobs",
        envvar="PGCOPYDB_DATABASE_JOBS",
        parser=_JOBS,
        help="With --all-databases: databases copied at once, the largest first. They share the other workers.",
        rich_help_panel=_WORKERS,
        metavar="N",
    ),
]
SkipCollations = Annotated[
    bool, typer.Option("--skip-collations", "-l", help="Leave out collations.", rich_help_panel=_WHAT)
]
ForeignKeysOption = Annotated[
    ForeignKeys,
    typer.Option(
        "--fk",
        envvar="PGCOPYDB_FK",
        help="not-valid-first adds foreign keys without looking at the rows that are there, and validates them "
        "afterwards, --restore-jobs at once; with --follow while changes are applied already.",
        rich_help_panel=_RUN,
    ),
]
SkipVacuum = Annotated[
    bool,
    typer.Option(
        "--skip-vacuum",
        "-U",
        envvar="PGCOPYDB_SKIP_VACUUM",
        help="No VACUUM and no ANALYZE on the target.",
        rich_help_panel=_WHAT,
    ),
]
SkipDbProperties = Annotated[
    bool,
    typer.Option(
        "--skip-db-properties",
        "-g",
        envvar="PGCOPYDB_SKIP_DB_PROPERTIES",
        help="Leave out ALTER DATABASE SET and ALTER ROLE IN DATABASE SET.",
        rich_help_panel=_WHAT,
    ),
]
CopyFormatOption = Annotated[
    CopyFormat,
    typer.Option(
        "--copy-format",
        envvar="PGCOPYDB_COPY_FORMAT",
        help="Form in which rows travel: binary is cheaper for both servers, text is often fewer bytes on the wire. "
        "auto: binary for tables from 1 MB on whose types have the same binary form on every server.",
        rich_help_panel=_RUN,
    ),
]
UseCopyBinary = Annotated[
    bool,
    typer.Option(
        "--use-copy-binary",
        "-n",
        envvar="PGCOPYDB_USE_COPY_BINARY",
        help="The same as --copy-format binary: for every table whose types allow it.",
        rich_help_panel=_RUN,
    ),
]
FailFast = Annotated[
    bool,
    typer.Option(
        "--fail-fast",
        "-i",
        envvar="PGCOPYDB_FAIL_FAST",
        help="Stop everything at the first object that fails.",
        rich_help_panel=_RUN,
    ),
]
Restart = Annotated[
    bool,
    typer.Option("--restart", "-r", help="Discard the state of an earlier run and begin again.", rich_help_panel=_RUN),
]
Resume = Annotated[
    bool, typer.Option("--resume", "-R", help="Continue an earlier run of this work directory.", rich_help_panel=_RUN)
]
ResumeAnyway = Annotated[
    bool,
    typer.Option("--resume", "-R", help="Accepted: it always goes on where it was left.", rich_help_panel=_RUN),
]
NotConsistent = Annotated[
    bool,
    typer.Option(
        "--not-consistent",
        "-C",
        help="With --resume: read what is left under a new snapshot when the earlier one is gone.",
        rich_help_panel=_RUN,
    ),
]
Snapshot = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--snapshot",
        "-N",
        envvar="PGCOPYDB_SNAPSHOT",
        help="Read under this exported snapshot. (default: export one)",
        rich_help_panel=_RUN,
        metavar="ID",
    ),
]
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
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ShortJson = Annotated[bool, typer.Option("--json", "-J", help="Print JSON.")]
Verbose = Annotated[
    int,
    typer.Option(
        "--verbose", "-v", count=True, help="More log lines: NOTICE, then SQL, DEBUG, TRACE.", rich_help_panel=_LOGS
    ),
]
Notice = Annotated[bool, typer.Option("--notice", help="Log from NOTICE on.", rich_help_panel=_LOGS)]
Debug = Annotated[bool, typer.Option("--debug", "-d", help="Log from DEBUG on.", rich_help_panel=_LOGS)]
Trace = Annotated[bool, typer.Option("--trace", "-z", help="Log everything.", rich_help_panel=_LOGS)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Log errors only.", rich_help_panel=_LOGS)]


def begin_logging(
    verbose: int, notice: bool = False, debug: bool = False, trace: bool = False, quiet: bool = False
) -> None:
    """Set up the logs as the verbosity options and ``PGCOPYDB_LOG_*`` say."""
    level = level_of(verbose=verbose, notice=notice, debug=debug, trace=trace, quiet=quiet)
    setup_logging(settings_from(os.environ, level))
    context = click.get_current_context(silent=True)
    for severity, text in context.meta.get(SAID, ()) if context is not None else ():
        logger.log(severity, "%s", text)


def log_flags(verbose: int, notice: bool, debug: bool, trace: bool, quiet: bool) -> list[str]:
    """The verbosity options, for a process that is started to log as this one does."""
    flags = {"--notice": notice, "--debug": debug, "--trace": trace, "--quiet": quiet}
    return ["--verbose"] * verbose + [flag for flag, given in flags.items() if given]


def servers(source: str | None, target: str | None) -> tuple[ConnInfo, ConnInfo]:
    """Both connection strings, parsed."""
    return server(Side.SOURCE, source), server(Side.TARGET, target)


def server(side: Side, text: str | None) -> ConnInfo:
    """One connection string, parsed; says when its password can be read by everybody on this machine."""
    info = ConnInfo.parse(side, text)
    origin = click.get_current_context().get_parameter_source(side)
    if SECRETS.intersection(info.params) and origin is click.core.ParameterSource.COMMANDLINE:
        logger.warning(
            "The password in --%s can be seen in the process list: set %s or use a passfile", side, side.variable
        )
    return info


def filters_of(path: Path | None, *, skip_extensions: bool = False) -> FilterRules:
    """The rules of a filter file, none without one. Raises ``ConfigError``, or ``UsageError`` when it is not there."""
    if path is None:
        return FilterRules()
    try:
        rules = parse_filters(path.read_text(encoding="utf-8"), str(path))
        if skip_extensions and rules.has(Section.ONLY_EXTENSION):
            raise UsageError(
                f"--skip-extensions and [{Section.ONLY_EXTENSION}] of {path} exclude each other",
                hint="Leave one of them out.",
            )
        if skip_extensions and rules.has(Section.NOT_EXTENSION):
            logger.warning("--skip-extensions leaves out all of them: [%s] says nothing more", Section.NOT_EXTENSION)
        return rules
    except OSError as exc:
        raise UsageError(f"--filters {path} cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path} is not UTF-8: byte {exc.start}", hint="Save it as UTF-8.") from exc


def requirements_of(path: Path | None, *, skip_extensions: bool = False) -> dict[str, str] | None:
    """The versions of a requirements file, none without one. Raises ``ConfigError`` or ``UsageError``."""
    if path is None:
        return None
    if skip_extensions:
        raise UsageError("--requirements and --skip-extensions exclude each other", hint="Give one of them.")
    try:
        return parse_requirements(path.read_text(encoding="utf-8"), str(path))
    except OSError as exc:
        raise UsageError(f"--requirements {path} cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path} is not UTF-8: byte {exc.start}", hint="Save it as UTF-8.") from exc


def workdir_of(directory: Path | None) -> WorkDir:
    """The work directory; its name goes to the log."""
    workdir = WorkDir((directory or default_directory()).absolute())
    logger.info('Using work dir "%s"', workdir.top)
    return workdir
