"""Files as transform reads and writes them, a pair for each plugin; ``tests/unit/test_golden.py`` holds them together.

``.venv/bin/python -m tests.golden`` makes them again, with servers that it starts. Positions, transaction numbers and
times are put in order, so that the same changes always make the same files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pgcopydb.apply.statements import Comparison, TableFacts
from pgcopydb.postgres.names import Name

FOLDER: Final = Path(__file__).parent

SCHEMA: Final = """
CREATE SCHEMA shop;
CREATE TABLE shop.customer (id int PRIMARY KEY, name text, balance numeric, picture bytea, since timestamptz);
ALTER TABLE shop.customer ALTER picture SET STORAGE EXTERNAL;
CREATE TABLE shop."Order line" ("order" int, line int, what text, PRIMARY KEY ("order", line));
CREATE TABLE shop.event (at date, kind text, price numeric);
ALTER TABLE shop.event REPLICA IDENTITY FULL;
CREATE TABLE shop.parcel (
    number int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, grams int,
    kilos numeric GENERATED ALWAYS AS (grams / 1000.0) STORED
);
"""

TRANSACTIONS: Final = (
    # Inserts into one table become one statement.
    (
        "INSERT INTO shop.customer VALUES (1, 'Ann', 1.10, '\\x00ff', '2026-01-10 15:00+00')",
        "INSERT INTO shop.customer VALUES (2, 'it''s Bob', NULL, '', NULL)",
        "INSERT INTO shop.\"Order line\" VALUES (7, 1, E'two\\nlines'), (7, 2, E'a \\\\ and a ''')",
    ),
    ("UPDATE shop.customer SET balance = 'NaN', name = NULL WHERE id = 2",),
    # A change of the key comes with the old one.
    ("UPDATE shop.customer SET id = 10 WHERE id = 1",),
    # A large value that did not change is left out.
    ("UPDATE shop.customer SET picture = repeat('x', 2100)::bytea WHERE id = 2",),
    ("UPDATE shop.customer SET name = 'Bob' WHERE id = 2",),
    # Deletes by a key become one statement.
    ('DELETE FROM shop."Order line" WHERE "order" = 7',),
    # Of equal rows one is meant.
    (
        "INSERT INTO shop.event VALUES ('2026-01-10', 'sold', 1.0), ('2026-01-10', 'sold', 1.0)",
        "INSERT INTO shop.event VALUES ('2026-01-10', NULL, 1.00)",
        "UPDATE shop.event SET price = 1.00 WHERE kind IS NULL OR ctid = '(0,1)'",
        "DELETE FROM shop.event WHERE ctid = '(0,2)'",
    ),
    # What the target computes is left to it; an identity that is always generated is set by a new row.
    (
        "INSERT INTO shop.parcel (grams) VALUES (1500)",
        "UPDATE shop.parcel SET grams = 2500",
        "UPDATE shop.parcel SET number = DEFAULT",
    ),
    ('TRUNCATE shop.event, shop."Order line" RESTART IDENTITY',),
)


def _facts(columns: str, key: str = "", always: str = "", computed: str = "") -> TableFacts:
    """Names of columns; a star is behind those whose ``=`` calls values equal that have another text."""
    return TableFacts(
        frozenset(key.split()),
        computed=frozenset(computed.split()),
        always=frozenset(always.split()),
        comparisons={
            name.rstrip("*"): Comparison.BOTH if name.endswith("*") else Comparison.EXACT for name in columns.split()
        },
    )


FACTS: Final = {
    Name("shop", "customer"): _facts("id name balance* picture since", "id"),
    Name("shop", "Order line"): _facts("order line what", "order line"),
    Name("shop", "event"): _facts("at kind price*"),
    Name("shop", "parcel"): _facts("number grams kilos*", "number", always="number", computed="kilos"),
}
"""What the catalogs say of these tables."""
