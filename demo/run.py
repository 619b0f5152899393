"""``make demo``: a database that is written to all the time moves from PostgreSQL 17 to 18, and every row is checked.

Starts two throw-away servers from the wheels, fills the source with a shop whose visitors never stop, runs the same
``pgcopydb`` commands that a user would type, and removes everything at the end. Exit code 0 only when both databases
are equal.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psycopg
from rich.console import Console

from demo.clusters import Cluster
from demo.shop import load
from demo.visitors import Visitors

SOURCE_MAJOR = 17
TARGET_MAJOR = 18
PROGRAM = Path(sys.executable).parent / "pgcopydb"
CATCH_UP_SECONDS = 120.0

console = Console()


class DemoError(Exception):
    """A command of the demo did not do what it should."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--scale", type=float, default=0.6, help="size of the shop; 1 is about 550 MB (default 0.6)")
    parser.add_argument("--jobs", default="2", help="table jobs and index jobs (default 2)")
    parser.add_argument("--plugin", default="auto", help="output plugin: auto, test_decoding or pgoutput")
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
        migration = Migration(
            source.dsn("shop"), target.dsn("shop"), Path(folder) / "work", options.jobs, options.plugin
        )
        try:
            migration.run()
        except DemoError as error:
            say(f"Failed: {error}")
            return 1
    say(f"Finished after {time.monotonic() - begun:.0f} s; both servers and their data are gone again.")
    return 0


@dataclass
class Migration:
    """The commands of an online migration, and what happens around them."""

    source: str
    target: str
    work: Path
    jobs: str
    plugin: str

    def run(self) -> None:
        say("Is anything in the way?")
        self.command("check", "--dir", str(self.work))
        visitors = Visitors(self.source)
        visitors.start()
        try:
            self.follow(visitors)
        finally:
            visitors.stop()

    def follow(self, visitors: Visitors) -> None:
        say(f"Visitors are writing now. Copy the shop to PostgreSQL {TARGET_MAJOR}, and follow what they do.")
        arguments = ["clone", "--follow", "--dir", str(self.work), "--table-jobs", self.jobs, "--index-jobs", self.jobs]
        clone = subprocess.Popen([*self.show(*arguments, "--plugin", self.plugin)])
        try:
            self.wait_until_it_keeps_up(clone)
            say(f"The target keeps up; {visitors.committed} transactions were committed meanwhile.")
            time.sleep(5)
            say("Cutover: visitors stop, and the end position is set to where the source is now.")
            visitors.stop()
            with psycopg.connect(self.source, autocommit=True) as connection:
                connection.execute("REFRESH MATERIALIZED VIEW shop.monthly_sales")
            stopped = time.monotonic()
            self.command("stream", "sentinel", "set", "endpos", "--current", "--dir", str(self.work))
            if clone.wait(CATCH_UP_SECONDS) != 0:
                raise DemoError(f"clone --follow ended with exit code {clone.returncode}")
            write_stop = time.monotonic() - stopped
        finally:
            clone.terminate()
            clone.wait()
        say("Are all rows equal?")
        self.command("compare", "data", "--table-jobs", self.jobs)
        say("Remove slot, sentinel and origin.")
        self.command("stream", "cleanup", "--dir", str(self.work))
        say(
            f"{visitors.committed} transactions were committed during the migration. Writes would have had to stop for"
            f" {write_stop:.1f} s."
        )

    def wait_until_it_keeps_up(self, clone: subprocess.Popen[bytes]) -> None:
        """Until what was committed a moment ago is on the target."""
        deadline = time.monotonic() + CATCH_UP_SECONDS
        with psycopg.connect(self.source, autocommit=True) as connection:
            here = _value(connection, "SELECT pg_current_wal_flush_lsn()")
            while time.monotonic() < deadline:
                if clone.poll() is not None:
                    raise DemoError(f"clone --follow ended with exit code {clone.returncode}")
                if _value(connection, "SELECT to_regclass('pgcopydb.sentinel')") is not None:
                    row = connection.execute(
                        "SELECT replay_lsn > %s, pg_wal_lsn_diff(pg_current_wal_flush_lsn(), replay_lsn)"
                        " FROM pgcopydb.sentinel WHERE apply",
                        (here,),
                    ).fetchone()
                    if row is not None and row[0] and row[1] < 1 << 20:
                        return
                time.sleep(0.2)
        raise DemoError("the target did not catch up")

    def command(self, *arguments: str) -> None:
        """Raises ``DemoError`` unless it ends with 0."""
        code = subprocess.run(self.show(*arguments), check=False).returncode
        if code != 0:
            raise DemoError(f"pgcopydb {arguments[0]} ended with exit code {code}")

    def show(self, *arguments: str) -> list[str]:
        servers = ("--source", self.source, "--target", self.target)
        console.print(f"[dim]$ pgcopydb {' '.join((*arguments, *servers))}[/dim]", soft_wrap=True)
        return [str(PROGRAM), *arguments, *servers]


def _value(connection: psycopg.Connection[tuple[object, ...]], query: str) -> object:
    row = connection.execute(query.encode()).fetchone()
    return row[0] if row is not None else None


def say(text: str) -> None:
    console.print(f"\n[bold]{text}[/bold]")


if __name__ == "__main__":
    sys.exit(main())
