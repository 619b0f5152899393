"""Options that ``pgcopydb list …`` alone has."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from pgcopydb.cli import options as o

Summary = Annotated[bool, typer.Option("--summary", "-y", help="Print what each table and step took instead.")]
Skipped = Annotated[
    bool, typer.Option("--list-skipped", "-x", help="Those that --filters leaves out instead, with the rule.")
]
WithoutKey = Annotated[bool, typer.Option("--without-pkey", "-P", help="Only tables without a primary key.")]
SchemaName = Annotated[Optional[str], typer.Option("--schema-name", "-s", metavar="NAME", help="Schema of the table.")]  # noqa: UP045
TableName = Annotated[Optional[str], typer.Option("--table-name", "-t", metavar="NAME", help="Only of this table.")]  # noqa: UP045
Available = Annotated[
    bool, typer.Option("--available-versions", "-a", help="All that the server could create, with their versions.")
]
Requirements = Annotated[
    bool,
    typer.Option(
        "--requirements", "-r", help="JSON for --requirements: those in use, at the server's default version."
    ),
]
ListJson = o.ShortJson
Ignored = Annotated[
    bool,
    typer.Option(
        "--force", "-f", "--resume", "-R", "--not-consistent", "-I", help="Accepted: nothing is kept of a list."
    ),
]
IgnoredSnapshot = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--snapshot", "-N", envvar="PGCOPYDB_SNAPSHOT", metavar="ID", help="Accepted: a list shows what is there now."
    ),
]
