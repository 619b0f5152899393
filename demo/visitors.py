"""Visitors of the demo's shop: they write to the source all the time, until they are asked to stop.

Orders, changes of orders, reviews, events of today, and the four statements of pgbench, by a few threads. What is true
when ``stop`` returns: everything that was begun is committed, and nothing is written any more.
"""

from __future__ import annotations

import random
import threading
from typing import Any, Final

import psycopg

_PARTS: Final[dict[str, str]] = {
    "customers": "SELECT max(id) FROM shop.customers",
    "products": "SELECT max(id) FROM shop.products",
    "accounts": "SELECT max(aid) FROM public.pgbench_accounts",
    "tellers": "SELECT max(tid) FROM public.pgbench_tellers",
    "branches": "SELECT max(bid) FROM public.pgbench_branches",
}
_ORDER: Final = """
WITH placed AS (
    INSERT INTO shop.orders (customer_id, status, invoice, placed_at, note)
    VALUES (%(customer)s, 'placed', nextval('shop.invoice_number'), now(), 'It''s a "gift"')
    RETURNING id)
INSERT INTO shop.order_items (order_id, line, product_id, quantity, price)
SELECT placed.id, line, 1 + (%(product)s + line) %% %(products)s, line, 9.99 FROM placed, generate_series(1, 3) AS line
"""
_OTHERS: Final = (
    "UPDATE shop.orders SET status = 'paid' WHERE id = (SELECT max(id) FROM shop.orders WHERE status = 'placed')",
    "UPDATE shop.products SET stock = stock + 10, attributes = attributes || '{\"seen\": true}' WHERE id = %(product)s",
    "INSERT INTO shop.reviews VALUES (DEFAULT, %(product)s, %(customer)s, 4, 'Does what it says', now())",
    "INSERT INTO shop.events VALUES (gen_random_uuid(), now(), %(customer)s, 'visit', '{\"page\": 1.10}')",
    "DELETE FROM shop.orders WHERE id = (SELECT max(id) - 20 FROM shop.orders)",
)
_PGBENCH: Final = (
    "UPDATE public.pgbench_accounts SET abalance = abalance + %(delta)s WHERE aid = %(account)s",
    "UPDATE public.pgbench_tellers SET tbalance = tbalance + %(delta)s WHERE tid = %(teller)s",
    "UPDATE public.pgbench_branches SET bbalance = bbalance + %(delta)s WHERE bid = %(branch)s",
    "INSERT INTO public.pgbench_history VALUES (%(teller)s, %(branch)s, %(account)s, %(delta)s, now())",
)


class Visitors:
    """``committed`` counts their transactions."""

    def __init__(self, dsn: str, threads: int = 2, per_second: float = 150.0) -> None:
        self._dsn = dsn
        self._pause = threads / per_second
        self._stopping = threading.Event()
        self._counts = [0] * threads
        self._errors: list[BaseException] = []
        self._threads = [threading.Thread(target=self._visit, args=(number,)) for number in range(threads)]

    @property
    def committed(self) -> int:
        return sum(self._counts)

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Raises what went wrong for a visitor."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        if self._errors:
            raise self._errors[0]

    def _visit(self, number: int) -> None:
        try:
            with psycopg.connect(self._dsn, autocommit=True) as connection:
                limits = {name: _one(connection, query) for name, query in _PARTS.items()}
                chance = random.Random(number)
                while not self._stopping.wait(self._pause):
                    self._act(connection, chance, limits)
                    self._counts[number] += 1
        except BaseException as error:  # noqa: BLE001  handed on to the thread that stops the visitors
            self._errors.append(error)

    def _act(self, connection: psycopg.Connection[Any], chance: random.Random, limits: dict[str, int]) -> None:
        values = {name.removesuffix("s"): chance.randint(1, limit) for name, limit in limits.items()}
        values |= {"branch": chance.randint(1, limits["branches"]), "products": limits["products"]}
        values["delta"] = chance.randint(-5000, 5000)
        with connection.transaction():
            if chance.random() < 0.5:
                for statement in _PGBENCH:
                    connection.execute(statement.encode(), values)
            else:
                connection.execute(_ORDER, values)
                connection.execute(chance.choice(_OTHERS).encode(), values)


def _one(connection: psycopg.Connection[Any], query: str) -> int:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0])
