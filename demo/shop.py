"""The demo's data set: a shop with its history, and the tables of pgbench, made by the server itself.

Writes into an empty database, by two connections at a time. The rows are the same on every run. When ``load`` returns
everything is committed; statistics are left to the server.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import psycopg

SIZE_HINT: Final = "about 550 MB, 3 million rows"
"""What ``scale=1.0`` makes; the size follows the scale."""

_FOLDER: Final = Path(__file__).parent
_SESSION: Final = "-c synchronous_commit=off -c maintenance_work_mem=256MB -c search_path=pg_catalog -c timezone=UTC"


def load(dsn: str, scale: float = 1.0) -> None:
    """Make the data set in the empty database of ``dsn``. ``scale=0.05`` is enough for a test."""
    _run(dsn, scale, "schema")
    with ThreadPoolExecutor(2) as pool:
        for filling in [pool.submit(_run, dsn, scale, "helpers", name) for name in ("sales", "activity")]:
            filling.result()
    _run(dsn, scale, "finish")


def _run(dsn: str, scale: float, *names: str) -> None:
    with psycopg.connect(dsn, autocommit=True, client_encoding="UTF8", options=_SESSION) as connection:
        connection.execute("SELECT set_config('shop.scale', %s, false)", [str(scale)])
        for name in names:
            connection.execute((_FOLDER / f"shop_{name}.sql").read_bytes())
