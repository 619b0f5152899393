"""Work on a source that could make a program's memory grow: what makes the tables, and what is done to them."""

from __future__ import annotations

from typing import Final

Work = tuple[str, list[str]]

VALUE_SCHEMA: Final = """
CREATE TABLE ascii (id int PRIMARY KEY, v text, n int);
CREATE TABLE letters (id int PRIMARY KEY, v text, n int);
CREATE TABLE bytes (id int, v bytea, n int);
ALTER TABLE ascii ALTER v SET STORAGE EXTERNAL;
ALTER TABLE letters ALTER v SET STORAGE EXTERNAL;
ALTER TABLE bytes ALTER v SET STORAGE EXTERNAL, REPLICA IDENTITY FULL;
"""


def many_rows(count: int) -> Work:
    """Each statement a transaction: rows are made, changed and removed."""
    return "CREATE TABLE rows (id bigint PRIMARY KEY, a text, n numeric);", [
        f"INSERT INTO rows SELECT i, md5(i::text), i * 1.1 FROM generate_series(1, {count}) AS i",
        "UPDATE rows SET a = 'changed' WHERE id % 2 = 0",
        "DELETE FROM rows WHERE id % 3 = 0",
    ]


def large_value(size: int) -> list[str]:
    """Values of so many bytes, one in a transaction: of plain letters, of what is escaped, of bytes."""
    letters = "a''b\\c🐘"
    return [
        f"INSERT INTO ascii SELECT 1, repeat(md5('x'), {size // 32}), 1",
        "UPDATE ascii SET n = 2",
        "DELETE FROM ascii",
        f"INSERT INTO letters SELECT 1, repeat('{letters}', {size // 8}), 1",
        "UPDATE letters SET v = v || 'x'",
        # As text a byte is two characters; of a whole old row there are both.
        f"INSERT INTO bytes SELECT 1, convert_to(repeat(md5('x'), {size // 128}), 'UTF8'), 1",
        "UPDATE bytes SET v = v || 'x'",
        "DELETE FROM bytes",
    ]


def many_subtransactions(count: int) -> Work:
    """One transaction."""
    return "CREATE TABLE sub (id int PRIMARY KEY, a text);", [
        f"""
        DO $$ BEGIN FOR i IN 1..{count} LOOP
            BEGIN INSERT INTO sub VALUES (i, 'x'); EXCEPTION WHEN unique_violation THEN NULL; END;
        END LOOP; END $$
        """
    ]


def many_tables(count: int) -> Work:
    """All of them in one transaction, a few of them in each of many, all of them in one statement."""
    columns = "id int PRIMARY KEY, a text, b int, c timestamptz DEFAULT now(), d numeric"
    return (
        f"DO $$ BEGIN FOR i IN 1..{count} LOOP EXECUTE format('CREATE TABLE t%s ({columns})', i); END LOOP; END $$;",
        [
            (
                f"DO $$ BEGIN FOR i IN 1..{count} LOOP"
                " EXECUTE format('INSERT INTO t%s VALUES (1), (2)', i); END LOOP; END $$"
            ),
            f"""
        DO $$ BEGIN FOR i IN 1..{count} LOOP
            EXECUTE format('UPDATE t%s SET a = 1', i);
            EXECUTE format('DELETE FROM t%s WHERE id = 1', i);
            IF i % 10 = 0 THEN COMMIT; END IF;
        END LOOP; END $$
        """,
            (
                "DO $$ BEGIN EXECUTE (SELECT 'TRUNCATE ' || string_agg('t' || i, ', ')"
                f" FROM generate_series(2, {count}) AS i); END $$"
            ),
        ],
    )
