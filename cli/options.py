"""The options that several commands share, each declared once; for following changes there are ``stream_options``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from pgcopydb.bootstrap.options import CopyFormat, ForeignKeys
from pgcopydb.cli.values import Pairs, size_option, whole_number

_JOBS = whole_number(1, 128)
_CONNECTION = "Servers and work directory"
_WORKERS = "Workers"
_SPLIT = "Tables in several parts"
_WHAT = "What is copied"
_RUN = "How the run goes"
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
