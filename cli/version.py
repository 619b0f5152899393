"""``pgcopydb version``."""

from __future__ import annotations

from importlib import metadata
from typing import Any

import orjson
import typer
from psycopg import pq

from pgcopydb.cli.options import ShortJson


def program_version() -> str:
    """As installed."""
    return metadata.version("pgcopydb")


def print_version() -> None:
    """For people."""
    typer.echo(f"pgcopydb version {program_version()}")
    typer.echo(f"with libpq {_libpq()} and psycopg {metadata.version('psycopg')}")
    typer.echo("compatible with Postgres 10 to 18")


def _libpq() -> str:
    number = pq.version()
    return f"{number // 10000}.{number % 10000}"


def _json() -> dict[str, Any]:
    number = pq.version()
    return {
        "pgcopydb": program_version(),
        "pg_major": str(number // 10000),
        "pg_version": _libpq(),
        "pg_version_str": f"libpq {_libpq()}",
        "pg_version_num": number,
    }


def version(json: ShortJson = False) -> None:
    """Print the version of this program and of libpq."""
    if json:
        typer.echo(orjson.dumps(_json(), option=orjson.OPT_INDENT_2).decode())
    else:
        print_version()


def register(app: typer.Typer) -> None:
    app.command()(version)
