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
from collections.abc import Collection, Generator, Sequence
from contextlib import closing
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import conninfo, sql

from demo.clusters import find_major

Connection = psycopg.Connection[tuple[Any, ...]]

OWN_SCHEMAS: Final = ("pgcopydb",)
"""What a tool keeps in the databases for itself."""

_MAJORS: Final = range(13, 30)
_SHOWN: Final = 500

# A database's own settings must not decide what a value looks like.
_SESSION: Final = (
    "-c datestyle=ISO,YMD -c intervalstyle=postgres -c extra_float_digits=3 -c bytea_output=hex -c timezone=UTC"
    " -c search_path=pg_catalog -c statement_timeout=0 -c row_security=off -c application_name=content"
)

_RELATIONS: Final = """
SELECT n.nspname, c.relname, CASE c.relkind WHEN 'm' THEN 'materialized view' WHEN 'S' THEN 'sequence' ELSE 'table' END,
    c.relispopulated
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
        differences = [
            difference
            for schema, name, kind, populated in of_source
            if populated and (difference := _compare(source, target, kind, sql.Identifier(schema, name)))
        ]
        assert not differences, "\n".join(differences)
        _assert_equal("large objects", *(each.execute(_LARGE_OBJECTS).fetchall() for each in (source, target)))


def assert_same_schema(
    source_dsn: str,
    target_dsn: str,
    *,
    ignore_schemas: Collection[str] = OWN_SCHEMAS,
    pg_dump_options: Sequence[str] = (),
    database_settings: bool = True,
) -> None:
    """What ``pg_dump --schema-only`` says, the settings easily lost, and the settings of the database itself.

    Both sides are dumped by one ``pg_dump``: the oldest on this machine that reads both servers.
    """
    with _connect(source_dsn) as source, _connect(target_dsn) as target:
        pg_dump = _pg_dump_for(max(each.info.server_version // 10000 for each in (source, target)))
        options = [*pg_dump_options, *(f'--exclude-schema="{name}"' for name in ignore_schemas)]
        _assert_equal("the schema", *(normalised(_dump(pg_dump, dsn, options)) for dsn in (source_dsn, target_dsn)))
        queries = {**_EASILY_LOST, **({"settings of the database": _DATABASE_SETTINGS} if database_settings else {})}
        for what, query in queries.items():
            _assert_equal(what, *(sorted(map(repr, each.execute(query.encode()))) for each in (source, target)))


def normalised(dump: str) -> list[str]:
    """The lines of a plain schema dump, entry by entry in the order of their names, without what has no meaning."""
    entries = re.split(r"(?m)^--\n(?=-- Name: )", dump)[1:]
    return [line for entry in sorted(_without_noise(entry) for entry in entries) for line in entry.splitlines()]


_NOISE: Final = re.compile(
    r"^\\(?:un)?restrict \w+$"  # a random token
    # Said where the previous entry left something else: it depends on the order. Catalog queries compare the fact.
    r"|^SET default_(?:tablespace|table_access_method) = .*;$"
    # The server's own bookkeeping in pg_attribute.attoptions.
    r"|^ALTER TABLE (?:ONLY )?.* ALTER COLUMN .* SET \(pg_attver=\d+\);$"
    r"|^-- PostgreSQL database dump complete$|^--$",
    re.MULTILINE,
)


def _without_noise(entry: str) -> str:
    return re.sub(r"\n{2,}", "\n", _NOISE.sub("", entry)).strip()


def _connect(dsn: str) -> Connection:
    return psycopg.connect(dsn, autocommit=True, client_encoding="UTF8", options=_SESSION)


def _relations(
    connection: Connection, ignore_schemas: Collection[str], ignore_tables: Collection[tuple[str, str]]
) -> list[tuple[str, str, str, bool]]:
    rows = connection.execute(_RELATIONS, [list(ignore_schemas)]).fetchall()
    return [(row[0], row[1], row[2], row[3]) for row in rows if (row[0], row[1]) not in ignore_tables]


def _compare(source: Connection, target: Connection, kind: str, name: sql.Identifier) -> str | None:
    """What differs in one relation: the first two rows that are not the same, in the order of their text."""
    if kind == "sequence":
        query = sql.SQL("COPY (SELECT last_value, is_called FROM {}) TO STDOUT").format(name)
    else:
        # A row as one text tells NULL from '', and holds every column; ONLY, because children are compared too.
        query = sql.SQL(
            'COPY (SELECT ROW(r.*)::text FROM ONLY {} AS r ORDER BY ROW(r.*)::text COLLATE "C") TO STDOUT'
        ).format(name)
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
def _pg_dump_for(major: int) -> Path:
    for candidate in (each for each in _MAJORS if each >= major):
        folder = find_major(candidate)
        if folder is not None and os.access(folder / "pg_dump", os.X_OK):
            return folder / "pg_dump"
    raise AssertionError(f"no pg_dump on this machine reads PostgreSQL {major}")


def _dump(pg_dump: Path, dsn: str, options: Sequence[str]) -> str:
    parts = {name: str(value) for name, value in conninfo.conninfo_to_dict(dsn).items() if value is not None}
    password = parts.pop("password", None)
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
    if password is not None:
        environment["PGPASSWORD"] = password
    # A word is reserved on one major and not on another: quoted are all of them.
    done = subprocess.run(
        [
            pg_dump,
            "--schema-only",
            "--quote-all-identifiers",
            *options,
            f"--dbname={conninfo.make_conninfo('', **parts)}",
        ],
        check=False,
        capture_output=True,
        env=environment,
    )
    assert done.returncode == 0, f"pg_dump failed: {done.stderr.decode(errors='replace')}"
    return done.stdout.decode()
