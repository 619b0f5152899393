"""``make demo``: a database moves from PostgreSQL 17 to 18, and every row is checked.

Starts two throw-away servers from the wheels, fills the source with a shop, runs the same ``pgcopydb`` commands that a
user would type, and removes everything at the end. Exit code 0 only when both databases are equal.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from demo.clusters import Cluster
from demo.shop import load

SOURCE_MAJOR = 17
TARGET_MAJOR = 18
PROGRAM = Path(sys.executable).parent / "pgcopydb"

console = Console()


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--scale", type=float, default=0.6, help="size of the shop; 1 is about 550 MB (default 0.6)")
    parser.add_argument("--jobs", default="2", help="table jobs and index jobs (default 2)")
    options = parser.parse_args()
    settings = {"shared_buffers": "256MB", "max_wal_size": "4GB"}
    begun = time.monotonic()
    with (
        Cluster.of_major(SOURCE_MAJOR, settings=settings) as source,
        Cluster.of_major(TARGET_MAJOR, settings=settings) as target,
        tempfile.TemporaryDirectory(prefix="pgcopydb-demo-") as folder,
    ):
        source.create_database("shop")
        target.create_database("shop")
        say(f"Filling a shop on PostgreSQL {SOURCE_MAJOR} (customers, orders, events, reviews, large objects) …")
        load(source.dsn("shop"), options.scale)
        code = migrate(source.dsn("shop"), target.dsn("shop"), Path(folder) / "work", options.jobs)
    ended = "Finished" if code == 0 else f"Failed with exit code {code}"
    say(f"{ended} after {time.monotonic() - begun:.0f} s; both servers and their data are gone again.")
    return code


def migrate(source: str, target: str, work: Path, jobs: str) -> int:
    """The commands of a migration; the first exit code that is not 0."""
    servers = ("--source", source, "--target", target)
    for explanation, command in (
        ("Is anything in the way?", ("check", *servers, "--dir", str(work))),
        (
            f"Copy it to PostgreSQL {TARGET_MAJOR}.",
            ("clone", *servers, "--dir", str(work), "--table-jobs", jobs, "--index-jobs", jobs),
        ),
        ("Are all rows equal?", ("compare", "data", *servers, "--table-jobs", jobs)),
    ):
        say(explanation)
        console.print(f"[dim]$ pgcopydb {' '.join(command)}[/dim]", soft_wrap=True)
        code = subprocess.run([PROGRAM, *command], check=False).returncode
        if code != 0:
            return code
    return 0


def say(text: str) -> None:
    console.print(f"\n[bold]{text}[/bold]")


if __name__ == "__main__":
    sys.exit(main())
