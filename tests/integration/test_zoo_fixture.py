"""The oracle accepts a right copy of the zoo, made by pg_dump and pg_restore alone, and refuses a wrong one."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from psycopg import sql

from tests.content import assert_same_content, assert_same_schema
from tests.fix_servers import Database, DbPair, Servers
from tests.fix_zoo import create_roles, load_zoo


def copy_plainly(source: Database, target: Database) -> None:
    """pg_dump of the source's own release, into the target's pg_restore: the settings of the database by hand."""
    dump = subprocess.Popen(
        [source.cluster.bin_dir / "pg_dump", "--format=custom", "--compress=0", f"--dbname={source.dsn}"],
        stdout=subprocess.PIPE,
    )
    restored = subprocess.run(
        [target.cluster.bin_dir / "pg_restore", "--exit-on-error", f"--dbname={target.dsn}"],
        check=False,
        stdin=dump.stdout,
        capture_output=True,
        text=True,
    )
    assert dump.stdout is not None
    dump.stdout.close()
    assert (restored.returncode, dump.wait()) == (0, 0), restored.stderr
    copy_settings(source, target)


def copy_settings(source: Database, target: Database) -> None:
    rows = source.fetch(
        "SELECT r.rolname, unnest(s.setconfig) FROM pg_db_role_setting AS s JOIN pg_database AS d ON d.oid = s.setdatabase"
        " LEFT JOIN pg_roles AS r ON r.oid = s.setrole WHERE d.datname = current_database()"
    )
    lists = {"search_path"}
    with target.connect() as connection:
        for role, setting in rows:
            name, _, value = setting.partition("=")
            whom = sql.SQL("ROLE {} IN DATABASE").format(sql.Identifier(role)) if role else sql.SQL("DATABASE")
            connection.execute(
                sql.SQL("ALTER {} {} SET {} = {}").format(
                    whom,
                    sql.Identifier(target.name),
                    sql.Identifier(*name.split(".")),
                    sql.SQL(value) if name in lists else sql.Literal(value),
                )
            )


def test_a_plain_copy_is_accepted(db_pair: DbPair) -> None:
    load_zoo(db_pair.source, db_pair.target)
    copy_plainly(db_pair.source, db_pair.target)
    assert_same_content(db_pair.source.dsn, db_pair.target.dsn)
    assert_same_schema(db_pair.source.dsn, db_pair.target.dsn)
