"""Whether two databases are equal: an oracle of its own, which uses nothing of what it judges.

``assert_same_content`` reads every row of every table and materialized view on both sides, as text and sorted, and
compares them as they stream by; then sequences and large objects. ``assert_same_schema`` compares what one ``pg_dump``
says of both sides, and what no dump says. Both raise ``AssertionError`` with what differs, and write nothing.
"""

from __future__ import annotations

import difflib
import functools
import os
import re
import subprocess
import uuid
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import conninfo, sql

from demo.clusters import find_major

Connection = psycopg.Connection[tuple[Any, ...]]
Relation = tuple[str, str, str, bool, list[str]]
"""Schema, name, kind, whether it can be read, and the names of its columns in alphabetical order: the order in a table
may be another one in a good copy, for inherited columns come first there."""

OWN_SCHEMAS: Final = ("pgcopydb",)
"""What a tool keeps in the databases for itself."""

_MAJORS: Final = range(13, 30)
_SHOWN: Final = 500

# A database's own settings must not decide what a value looks like.
_SESSION: Final = (
    "-c datestyle=ISO,YMD -c intervalstyle=postgres -c extra_float_digits=3 -c bytea_output=hex -c timezone=UTC"
    " -c search_path=pg_catalog -c statement_timeout=0 -c row_security=off -c application_name=content"
    " -c quote_all_identifiers=off"
)

_RELATIONS: Final = """
SELECT n.nspname, c.relname, CASE c.relkind WHEN 'm' THEN 'materialized view' WHEN 'S' THEN 'sequence' ELSE 'table' END,
    c.relispopulated, ARRAY(
        SELECT a.attname FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        ORDER BY a.attname
    )::text[]
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm', 'S') AND c.relpersistence <> 't'
    AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND NOT n.nspname = ANY (%s)
    AND NOT EXISTS (
        SELECT FROM pg_depend AS d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
    )
ORDER BY 1, 2
"""

_LARGE_OBJECTS: Final = """
SELECT m.oid, r.rolname, ARRAY(SELECT a::text FROM unnest(m.lomacl) AS a ORDER BY 1), d.description,
    length(lo_get(m.oid)), md5(lo_get(m.oid))
FROM pg_largeobject_metadata AS m JOIN pg_roles AS r ON r.oid = m.lomowner
LEFT JOIN pg_description AS d ON d.classoid = 'pg_largeobject'::regclass AND d.objoid = m.oid
ORDER BY m.oid
"""

# What a dump says late, in another form on each major, or not at all.
_EASILY_LOST: Final = {
    "replica identity": """
        SELECT c.oid::regclass::text, c.relreplident::text, i.indexrelid::regclass::text
        FROM pg_class AS c LEFT JOIN pg_index AS i ON i.indrelid = c.oid AND i.indisreplident
        WHERE c.relkind IN ('r', 'p', 'm') AND c.relnamespace::regnamespace::text !~ '^pg_|^information_schema$'
    """,
    "CLUSTER ON": "SELECT indrelid::regclass::text, indexrelid::regclass::text FROM pg_index WHERE indisclustered",
    # From 17 on the default is NULL, before it is -1.
    "statistics targets of index columns": """
        SELECT c.oid::regclass::text, a.attnum, a.attstattarget
        FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
        WHERE c.relkind IN ('i', 'I') AND a.attstattarget >= 0
            AND c.relnamespace::regnamespace::text !~ '^pg_|^information_schema$'
    """,
    "access methods": """
        SELECT c.oid::regclass::text, m.amname FROM pg_class AS c JOIN pg_am AS m ON m.oid = c.relam
        WHERE c.relkind IN ('r', 'm') AND c.relnamespace::regnamespace::text !~ '^pg_|^information_schema$'
    """,
    "row-level security": "SELECT oid::regclass::text, relforcerowsecurity FROM pg_class WHERE relrowsecurity",
}

_DATABASE_SETTINGS: Final = """
SELECT coalesce(r.rolname, ''), unnest(s.setconfig)
FROM pg_db_role_setting AS s JOIN pg_database AS d ON d.oid = s.setdatabase LEFT JOIN pg_roles AS r ON r.oid = s.setrole
WHERE d.datname = current_database()
"""


def assert_same_content(
    source_dsn: str,
    target_dsn: str,
    *,
    ignore_schemas: Collection[str] = OWN_SCHEMAS,
    ignore_tables: Collection[tuple[str, str]] = (),
) -> None:
    """All rows of all tables and materialized views, all sequences, all large objects.

    A partition is compared as a table of its own. ``ignore_tables`` are pairs of schema and name.
    """
    with _connect(source_dsn) as source, _connect(target_dsn) as target:
        of_source, of_target = (_relations(each, ignore_schemas, ignore_tables) for each in (source, target))
        _assert_equal("tables, materialized views and sequences", of_source, of_target)
        differences = [difference for each in of_source if (difference := _compare(source, target, each))]
        assert not differences, "\n".join(differences)
        _assert_equal("large objects", *(each.execute(_LARGE_OBJECTS).fetchall() for each in (source, target)))


def assert_same_rows(source_dsn: str, target_dsn: str, table: str, *, casts: Mapping[str, str] | None = None) -> None:
    """All rows of one table of schema public and of those below it, in the columns that the source has.

    The target's may be of another shape: flat or partitioned, with more columns. ``casts``: types by the names of
    columns, for those whose text is another one on the target.
    """
    with _connect(source_dsn) as source, _connect(target_dsn) as target:
        name = sql.Identifier("public", table)
        found = source.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped",
            [name.as_string()],
        )
        values = [
            sql.SQL("{}::{}").format(sql.Identifier("r", column), sql.SQL((casts or {})[column]))
            if column in (casts or {})
            else sql.Identifier("r", column)
            for (column,) in found
        ]
        query = sql.SQL('SELECT ROW({})::text COLLATE "C" AS line FROM {} AS r ORDER BY line').format(
            sql.SQL(", ").join(values), name
        )
        _assert_equal(f"rows of {table}", *([row[0] for row in each.execute(query)] for each in (source, target)))


def assert_same_schema(
    source_dsn: str,
    target_dsn: str,
    *,
    ignore_schemas: Collection[str] = OWN_SCHEMAS,
    pg_dump_options: Sequence[str] = (),
    database_settings: bool = True,
) -> None:
    """What ``pg_dump --schema-only`` says, the settings easily lost, and the settings of the database itself.

    Both sides are dumped by one ``pg_dump``: the oldest on this machine that reads both servers. Servers of two majors
    describe one and the same object in other words (views without their tables' names from 16 on, NOT NULL as a
    constraint from 18 on), so the source's schema is restored beside the target first, and that copy is compared.
    """
    options = [*pg_dump_options, *(f'--exclude-schema="{name}"' for name in ignore_schemas)]
    with _connect(source_dsn) as source, _connect(target_dsn) as target, ExitStack() as stack:
        of_source, of_target = (each.info.server_version // 10000 for each in (source, target))
        program = _program("pg_dump", max(of_source, of_target))
        compared = source_dsn
        if of_source != of_target:
            compared = stack.enter_context(_restored_beside(source_dsn, of_source, target, target_dsn, options))
        # MAINTAIN came with 17. A tool that knows it takes ALL of an older server for less than its own ALL.
        maintain = (of_source < 17) == (of_target < 17)
        dumps = (_dump(program, dsn, options).decode() for dsn in (compared, target_dsn))
        _assert_equal("the schema", *(normalised(dump, maintain=maintain) for dump in dumps))
        queries = {**_EASILY_LOST, **({"settings of the database": _DATABASE_SETTINGS} if database_settings else {})}
        for what, query in queries.items():
            _assert_equal(what, *(sorted(map(repr, each.execute(query.encode()))) for each in (source, target)))


def normalised(dump: str, *, maintain: bool = True) -> list[str]:
    """The lines of a plain schema dump, entry by entry in the order of their names, without what has no meaning.

    ``maintain`` says whether the privilege of that name is compared.
    """
    entries = [_without_noise(entry) for entry in re.split(r"(?m)^--\n(?=-- Name: )", dump)[1:]]
    if not maintain:
        entries = [_ON_TABLE.sub(_without_maintain, entry) for entry in entries]
    return [line for entry in sorted(entries) for line in entry.splitlines()]


_NOISE: Final = re.compile(
    r"^\\(?:un)?restrict \w+$"  # a random token
    # Said where the previous entry left something else: it depends on the order. Catalog queries compare the fact.
    r"|^SET default_(?:tablespace|table_access_method) = .*;$"
    # The server's own bookkeeping in pg_attribute.attoptions.
    r"|^ALTER TABLE (?:ONLY )?.* ALTER COLUMN .* SET \(\"?pg_attver\"?='?\d+'?\);$"
    r"|^-- PostgreSQL database dump complete$|^--$",
    re.MULTILINE,
)
_ON_TABLE: Final = re.compile(
    r"^(.*\b(?:GRANT|REVOKE)(?: GRANT OPTION FOR)?) ([A-Z,]+) (ON TABLES? .*\n?)", re.MULTILINE
)
_ALL_ON_TABLE: Final = "SELECT,INSERT,REFERENCES,DELETE,TRIGGER,TRUNCATE,UPDATE"


def _without_noise(entry: str) -> str:
    lines = [line for line in _NOISE.sub("", entry).splitlines() if line]
    if any(line.startswith("INHERITS (") for line in lines):
        # pg_dump puts inherited columns first, and an adopted table may have them anywhere.
        lines[1:] = sorted(line.rstrip(",") for line in lines[1:])
    return "\n".join(lines)


def _without_maintain(statement: re.Match[str]) -> str:
    command, privileges, rest = statement.groups()
    privileges = privileges.replace("ALL", _ALL_ON_TABLE)
    kept = ",".join(sorted(set(privileges.split(",")) - {"MAINTAIN"}))
    return f"{command} {kept} {rest}" if kept else ""


@contextmanager
def _restored_beside(
    source_dsn: str, major: int, target: Connection, target_dsn: str, options: Sequence[str]
) -> Iterator[str]:
    """The source's schema in a database of its own on the target's server, put there by the source's own tools."""
    name = f"content_{uuid.uuid4().hex}"
    dsn = conninfo.make_conninfo(target_dsn, dbname=name)
    target.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    try:
        dump = _dump(_program("pg_dump", major), source_dsn, ["--format=custom", *options])
        _run([_program("pg_restore", major), "--exit-on-error"], dsn, dump)
        yield dsn
    finally:
        target.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _connect(dsn: str) -> Connection:
    return psycopg.connect(dsn, autocommit=True, client_encoding="UTF8", options=_SESSION)


def _relations(
    connection: Connection, ignore_schemas: Collection[str], ignore_tables: Collection[tuple[str, str]]
) -> list[Relation]:
    rows = connection.execute(_RELATIONS, [list(ignore_schemas)]).fetchall()
    return [(row[0], row[1], row[2], row[3], row[4]) for row in rows if (row[0], row[1]) not in ignore_tables]


def _compare(source: Connection, target: Connection, relation: Relation) -> str | None:
    """What differs in one relation: the first two rows that are not the same, in the order of their text."""
    schema, table, kind, populated, columns = relation
    if not populated:
        return None
    name = sql.Identifier(schema, table)
    if kind == "sequence":
        query = sql.SQL("COPY (SELECT last_value, is_called FROM {}) TO STDOUT").format(name)
    else:
        # A row as one text tells NULL from '', and holds every column; ONLY, because children are compared too.
        row = sql.SQL("ROW({})").format(sql.SQL(", ").join(sql.Identifier("r", column) for column in columns))
        query = sql.SQL('COPY (SELECT {0}::text FROM ONLY {1} AS r ORDER BY {0}::text COLLATE "C") TO STDOUT').format(
            row, name
        )
    with closing(_rows(source, query)) as of_source, closing(_rows(target, query)) as of_target:
        pairs = enumerate(zip_longest(of_source, of_target), 1)
        difference = next(((number, *pair) for number, pair in pairs if pair[0] != pair[1]), None)
    if difference is None:
        return None
    number, left, right = difference
    counts = [_count(each, name) for each in (source, target)]
    return (
        f"{kind} {name.as_string()} differs ({counts[0]} rows in the source, {counts[1]} in the target)"
        f" at row {number}:\n  source: {_shown(left)}\n  target: {_shown(right)}"
    )


def _rows(connection: Connection, query: sql.Composed) -> Generator[bytes, None, None]:
    with connection.cursor() as cursor, cursor.copy(query) as copy:
        # The server sends one row in each message.
        yield from map(bytes, copy)


def _count(connection: Connection, name: sql.Identifier) -> int:
    row = connection.execute(sql.SQL("SELECT count(*) FROM ONLY {}").format(name)).fetchone()
    assert row is not None
    return int(row[0])


def _shown(row: bytes | None) -> str:
    if row is None:
        return "(no more rows)"
    text = row.decode(errors="backslashreplace").rstrip("\n")
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text)} characters)"


def _assert_equal(what: str, source: Sequence[object], target: Sequence[object]) -> None:
    if source != target:
        left, right = ([line if isinstance(line, str) else repr(line) for line in side] for side in (source, target))
        raise AssertionError(
            f"{what} differ:\n" + "\n".join(difflib.unified_diff(left, right, "source", "target", n=3, lineterm=""))
        )


@functools.cache
def _program(name: str, major: int) -> Path:
    """The oldest client program on this machine that is new enough for a server."""
    for candidate in (each for each in _MAJORS if each >= major):
        folder = find_major(candidate)
        if folder is not None and os.access(folder / name, os.X_OK):
            return folder / name
    raise AssertionError(f"no {name} on this machine is new enough for PostgreSQL {major}")


def _dump(pg_dump: Path, dsn: str, options: Sequence[str]) -> bytes:
    # A word is reserved on one major and not on another: quoted are all of them.
    return _run([pg_dump, "--schema-only", "--quote-all-identifiers", *options], dsn)


def _run(argv: Sequence[str | Path], dsn: str, stdin: bytes = b"") -> bytes:
    parts = {name: str(value) for name, value in conninfo.conninfo_to_dict(dsn).items() if value is not None}
    password = parts.pop("password", None)
    # pg_dump sets all that decides what a value looks like but the time zone, of which bounds of partitions tell.
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "PGTZ": "UTC"}
    if password is not None:
        environment["PGPASSWORD"] = password
    done = subprocess.run(
        [*argv, f"--dbname={conninfo.make_conninfo('', **parts)}"],
        check=False,
        input=stdin,
        capture_output=True,
        env=environment,
    )
    assert done.returncode == 0, f"{argv[0]} failed: {done.stderr.decode(errors='replace')}"
    return done.stdout
