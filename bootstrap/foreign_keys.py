"""Foreign keys that are added ``NOT VALID`` first and validated afterwards, several at once.

``fetch_foreign_keys`` reads which keys that can be done with, under the snapshot. ``add_not_valid`` makes them: rows
that come from then on are checked. ``validate`` checks those that were there before. Whether a key is validated is what
the target says, so that each of these can be run again at any time. What is true when ``validate`` returns without a
failure: each of these keys of the target is valid.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Final

from pgcopydb.bootstrap.budget import Slots
from pgcopydb.bootstrap.queries import query
from pgcopydb.bootstrap.session import SingleSession
from pgcopydb.bootstrap.store import CatalogStore
from pgcopydb.bootstrap.workers import Failures, WorkerPool
from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Connection, Endpoint
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.names import Name, quote_ident
from pgcopydb.runtime.errors import PartialFailure, PgcopydbError
from pgcopydb.runtime.failpoint import failpoint
from pgcopydb.runtime.stop import Stop, StopMode
from pgcopydb.runtime.workdir import WorkDir

logger = logging.getLogger(__name__)

_ADDED: Final = "foreign_keys_added"
"""The setting of the store that says that keys are waiting to be validated, or were."""
_ORPHAN: Final = "23503"
_POLL_SECONDS: Final = 0.2
_UNVALIDATED: Final = """
SELECT n.nspname, c.relname, con.conname
  FROM pg_catalog.pg_constraint con
  JOIN pg_catalog.pg_class c ON c.oid = con.conrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE con.contype = 'f' AND NOT con.convalidated
"""


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """``pages``: how large the table was on the source."""

    oid: int
    table: Name
    name: str
    definition: str
    pages: int

    def __str__(self) -> str:
        return f"foreign key {self.name} of {self.table}"

    @property
    def validate_statement(self) -> str:
        return f"ALTER TABLE {self.table.sql} VALIDATE CONSTRAINT {quote_ident(self.name)}"


def fetch_foreign_keys(connection: Connection, store: CatalogStore) -> None:
    """Which keys can be validated apart from being added."""
    store.executemany(
        "INSERT INTO foreign_key (oid, schema, table_name, name, definition, pages) VALUES (?, ?, ?, ?, ?, ?)",
        connection.execute(query("foreign_keys")).fetchall(),
    )


def foreign_keys(store: CatalogStore) -> list[ForeignKey]:
    return [
        ForeignKey(row["oid"], Name(row["schema"], row["table_name"]), row["name"], row["definition"], row["pages"])
        for row in store.rows("SELECT * FROM foreign_key ORDER BY oid")
    ]


def add_not_valid(store: CatalogStore, target: Connection, wanted: Collection[int]) -> list[str]:
    """Add these of the keys, by their numbers on the source; one error for each that could not be."""
    store.set_setting(_ADDED, "yes")
    errors = []
    for key in foreign_keys(store):
        if key.oid not in wanted:
            continue
        statement = (
            f"ALTER TABLE ONLY {key.table.sql} ADD CONSTRAINT {quote_ident(key.name)} {key.definition} NOT VALID"
        )
        try:
            with server_errors(Side.TARGET, str(key)):
                target.execute(statement.encode())
        except PgcopydbError as error:
            errors.append(str(error))
        failpoint("foreign_keys.after_add")
    return errors


def validate(
    store: CatalogStore, target: Endpoint, jobs: int, failures: Failures, stop: Stop, slots: Slots | None = None
) -> None:
    """Validate what was added and is not valid yet, the largest tables first. A row without its other half is a failure
    that names its key."""
    if not store.setting(_ADDED):
        return
    with (
        target.connect_patiently("foreign keys", stop) as connection,
        server_errors(Side.TARGET, "reading which foreign keys are not valid"),
    ):
        left = {(Name(row[0], row[1]), row[2]) for row in connection.execute(_UNVALIDATED.encode()).fetchall()}
    keys = [key for key in foreign_keys(store) if (key.table, key.name) in left]
    if not keys:
        return
    logger.info("Validating %d foreign keys, %d at once", len(keys), jobs)
    pool: WorkerPool[SingleSession, ForeignKey] = WorkerPool(
        "foreign-keys",
        jobs,
        open_session=lambda role: SingleSession(target.connect_patiently(role, stop)),
        work=_validate,
        describe=str,
        failures=failures,
        stop=stop,
        slots=slots,
    )
    for key in keys:
        pool.submit(key, cost=key.pages)
    pool.drain()


@contextmanager
def validated_beside(workdir: WorkDir, target: Endpoint, jobs: int, stop: Stop) -> Iterator[None]:
    """Validate while the block goes on; when it has ended, wait for what is left of that.

    A block that ends with an error, or a stop, ends the validation too: another run goes on with it. Raises
    ``PartialFailure`` when keys could not be validated.
    """
    own = Stop()
    failures = Failures(own, fail_fast=False)

    def run() -> None:
        with closing(CatalogStore.read(workdir.catalog)) as store:
            validate(store, target, jobs, failures, own)

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="foreign-keys") as pool:
        running = pool.submit(run)
        try:
            yield
            while not running.done() and not stop.wait(_POLL_SECONDS):
                pass
        finally:
            own.request(StopMode.FAST)
        stop.check()
        running.result()
    if failures.all:
        raise PartialFailure(
            f"everything is applied, but {len(failures.all)} foreign keys are not valid, the first is"
            f" {failures.all[0].what}",
            hint="The errors above name the rows and the statements; or run again with --resume when they are mended.",
            causes=[failure.error for failure in failures.all],
        )


def _validate(session: SingleSession, key: ForeignKey) -> None:
    try:
        with server_errors(Side.TARGET, "validating"):
            session.connection.execute(key.validate_statement.encode())
    except PgcopydbError as error:
        if error.sqlstate == _ORPHAN:
            error.hint = f"Mend the rows, or leave the key as it is (NOT VALID); then: {key.validate_statement};"
        raise
    failpoint("foreign_keys.after_validate")
