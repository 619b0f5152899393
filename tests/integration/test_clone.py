"""A whole clone by the command line: every type and kind of object, on every pair of versions."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from tests.content import assert_same_content, assert_same_schema
from tests.fix_command import Command
from tests.fix_servers import Database, DbPair
from tests.fix_zoo import load_zoo


@pytest.mark.parametrize(
    "options", [(), ("--use-copy-binary", "--split-tables-larger-than", "16kB")], ids=["text", "binary"]
)
def test_the_zoo_arrives_as_it_is(
    options: tuple[str, ...], db_pair: DbPair, pgcopydb: Command, workdir_path: Path
) -> None:
    load_zoo(db_pair.source, db_pair.target)
    pgcopydb.run(
        "clone", "--source", db_pair.source.dsn, "--target", db_pair.target.dsn, "--dir", workdir_path, *options
    )
    assert_same_content(db_pair.source.dsn, db_pair.target.dsn)
    assert_same_schema(db_pair.source.dsn, db_pair.target.dsn)


def test_what_pg_restore_alone_cannot_copy(
    source_db: Database, target_db: Database, pgcopydb: Command, workdir_path: Path
) -> None:
    load_zoo(source_db, target_db, extras=("search_path", "enum_hash"))
    pgcopydb.run("clone", "--source", source_db.dsn, "--target", target_db.dsn, "--dir", workdir_path)
    compared = pgcopydb.run("compare", "data", "--source", source_db.dsn, "--target", target_db.dsn, "--json")
    rows = orjson.loads(compared.stdout)
    assert len(rows) > 20
    assert all(row["equal"] for row in rows)
