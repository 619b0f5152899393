"""What would stop following changes after the copy, found out before it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pgcopydb.bootstrap.findings import Finding, Severity
from pgcopydb.bootstrap.options import FollowOptions
from pgcopydb.daemon.identity import followed_tables, without_identity
from pgcopydb.daemon.plugin_choice import choose_plugin
from pgcopydb.daemon.plugins import Plugin
from pgcopydb.daemon.progress import check_origin
from pgcopydb.daemon.requirements import login_problem, replica_role_problem, source_problems
from pgcopydb.daemon.stream import find_stream
from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Connection, Endpoint
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.names import Name, quote_ident
from pgcopydb.postgres.selection import Selection
from pgcopydb.runtime.errors import SourceError, StateError
from pgcopydb.runtime.workdir import WorkDir

_SHOWN: Final = 10
_TRIGGERS: Final = """
SELECT n.nspname, c.relname, t.tgname
  FROM pg_catalog.pg_trigger t
  JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE NOT t.tgisinternal AND t.tgenabled = ANY (%s::"char"[]) AND c.relkind IN ('r', 'p') AND c.relpersistence = 'p'
   AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'pgcopydb')
 ORDER BY 1, 2, 3
"""


def check_following(
    source: Endpoint,
    reader: Connection,
    writer: Connection,
    workdir: WorkDir,
    wanted: FollowOptions,
    selection: Selection,
) -> Iterator[Finding]:
    """Nothing remains of what is tried. A slot that this work directory has made already is as it should be."""
    login = login_problem(source, reader)
    if login is not None:
        yield Finding(Severity.ERROR, Side.SOURCE, "changes", login.message, login.fix)
    stream = find_stream(workdir)
    plugin = wanted.stream.plugin or Plugin.TEST_DECODING if stream is None else stream.plugin
    if stream is None:
        yield from _check_new_stream(reader, writer, wanted, replicates=login is None)
    yield from _feedback(reader)
    lacking = without_identity(followed_tables(reader, plugin, selection))
    for name in lacking[:_SHOWN]:
        yield Finding(
            Severity.WARNING,
            Side.SOURCE,
            f"table {name}",
            "has no usable replica identity: its UPDATEs and DELETEs cannot be followed",
            f"ALTER TABLE {name.sql} REPLICA IDENTITY FULL;",
        )
    if len(lacking) > _SHOWN:
        yield Finding(
            Severity.WARNING, Side.SOURCE, "changes", f"{len(lacking) - _SHOWN} more tables lack a replica identity"
        )
    replica = replica_role_problem(writer)
    if replica is not None:
        yield Finding(Severity.WARNING, Side.TARGET, "changes", replica.message, replica.fix)
    yield from _triggers_that_fire(reader, "OA" if replica is not None else "AR")


def _feedback(reader: Connection) -> Iterator[Finding]:
    with server_errors(Side.SOURCE, "asking what its primary knows"):
        row = reader.execute(
            "SELECT pg_catalog.pg_is_in_recovery(), current_setting('hot_standby_feedback') = 'on'"
        ).fetchone()
    if row == (True, False):
        yield Finding(
            Severity.WARNING,
            Side.SOURCE,
            "standby",
            "its primary does not know what decoding still needs: a VACUUM there can end the slot and so the migration",
            "ALTER SYSTEM SET hot_standby_feedback = on; SELECT pg_reload_conf(); -- on the standby",
        )


def _check_new_stream(
    reader: Connection, writer: Connection, wanted: FollowOptions, *, replicates: bool
) -> Iterator[Finding]:
    options = wanted.stream
    problems = list(source_problems(reader, options.slot))
    for problem in problems:
        yield Finding(Severity.ERROR, Side.SOURCE, "changes", problem.message, problem.fix)
    if replicates and not problems:
        try:
            choose_plugin(reader, options.plugin, options.numeric_as_string, lossy_nan=options.lossy_nan)
        except SourceError as error:
            yield Finding(Severity.ERROR, Side.SOURCE, "changes", error.message, error.hint)
    try:
        check_origin(writer, options.origin)
    except StateError as error:
        yield Finding(Severity.ERROR, Side.TARGET, "changes", error.message, error.hint)


def _triggers_that_fire(reader: Connection, enabled: str) -> Iterator[Finding]:
    """Triggers that the copy brings along, and that act on changes which are applied. ``enabled``: of ``tgenabled``."""
    with server_errors(Side.SOURCE, "reading which triggers there are"):
        rows = reader.execute(_TRIGGERS, (list(enabled),)).fetchall()
    for schema, table, trigger in rows[:_SHOWN]:
        name = Name(schema, table)
        yield Finding(
            Severity.WARNING,
            Side.TARGET,
            f"trigger {trigger} on {name}",
            "will fire while changes are applied: what it does is done twice, or to other values than on the source",
            f"When the copy is complete: ALTER TABLE {name.sql} DISABLE TRIGGER {quote_ident(trigger)}; and enable it"
            " when the end position is reached.",
        )
    if len(rows) > _SHOWN:
        more = f"{len(rows) - _SHOWN} more triggers will fire while changes are applied"
        yield Finding(Severity.WARNING, Side.TARGET, "changes", more)
