"""Where the rows of a table go on a target whose tables somebody else has made, and what is emptied for them."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from pgcopydb.bootstrap.routes import Column, SourceTable, columns_of, destinations, no_table, units_of
from pgcopydb.postgres.names import Name
from pgcopydb.postgres.partitions import Above, Level, takes_rows_of


def name(text: str) -> Name:
    return Name("public", text)


def part(root: str, bound: str, key: str = "RANGE (id)") -> Above:
    return (Level(name(root), f"FOR VALUES {bound}", key, "integer"),)


def child(root: str) -> Above:
    return (Level(name(root), "", "", ""),)


LOW, HIGH = part("t", "FROM (0) TO (10)"), part("t", "FROM (10) TO (20)")


@pytest.mark.parametrize(
    ("above", "kinds", "there", "into"),
    [
        ((), {"a": "r"}, (), "a"),
        ((), {"a": "p"}, (), "a"),
        ((), {"a": "r", "t": "p"}, LOW, "a"),
        ((), {}, (), None),
        (LOW, {"a": "r", "t": "p"}, LOW, "a"),
        (LOW, {"a": "r", "t": "p"}, HIGH, "t"),
        (LOW, {"a": "r", "t": "p"}, part("t", "FROM (0) TO (10)", "RANGE (other)"), "t"),
        (LOW, {"t": "p"}, (), "t"),
        (LOW, {"t": "r"}, (), "t"),
        # By itself on the target, where nothing says that its rows are the root's.
        (LOW, {"a": "r", "t": "r"}, (), "a"),
        (LOW, {"a": "r"}, (), "a"),
        (LOW, {}, (), None),
        (child("t"), {"a": "r", "t": "r"}, child("t"), "a"),
        (child("t"), {"a": "r", "t": "p"}, LOW, "t"),
        (child("t"), {"t": "p"}, (), "t"),
        # A query of the flat table alone says that these rows are not its own.
        (child("t"), {"t": "r"}, (), None),
        ((*part("m", "IN (1)"), *LOW), {"t": "r"}, (), "t"),
        ((*part("m", "IN (1)"), *LOW), {"m": "r"}, (), "m"),
        ((*part("m", "IN (1)"), *LOW), {"m": "r", "t": "p"}, (), "t"),
    ],
)
def test_the_table_that_takes_the_rows(above: Above, kinds: Mapping[str, str], there: Above, into: str | None) -> None:
    found = takes_rows_of(name("a"), above, {name(key): kind for key, kind in kinds.items()}, there)
    assert found == (None if into is None else name(into))


def routed(
    tables: Mapping[str, Above],
    kinds: Mapping[str, str],
    there: Mapping[str, Above],
    left_out: Mapping[str, Above] | None = None,
    via: Mapping[str, str] | None = None,
) -> dict[str, tuple[str, str, list[str], bool]]:
    """For each table: where to, what is emptied, with which others, and whether all of them are copied."""
    names = list(tables)
    sources = [
        SourceTable(oid, name(key), above, name(via[key]) if key in (via or {}) and via else None)
        for oid, (key, above) in enumerate(tables.items())
    ]
    of_target = {name(key): kind for key, kind in kinds.items()}
    above_there = {name(key): above for key, above in there.items()}
    above_here = {name(key): above for key, above in {**tables, **(left_out or {})}.items() if above}
    parents = {level.parent: "p" if level.key else "r" for above in above_here.values() for level in above}
    here = {name(key): "r" for key in {**tables, **(left_out or {})}} | parents
    into = destinations(sources, of_target, above_there)
    units = units_of(sources, into, of_target, above_there, above_here, here)
    return {
        names[oid]: (into[oid].name, unit.name.name, [names[each] for each in unit.tables], unit.whole)
        for oid, unit in units.items()
    }


def test_a_table_by_itself_is_emptied_by_itself() -> None:
    assert routed({"a": ()}, {"a": "r"}, {}) == {"a": ("a", "a", [], True)}
    assert routed({"a": ()}, {"a": "p", "a_1": "r"}, {"a_1": part("a", "")}) == {"a": ("a", "a", [], True)}


def test_partitions_in_their_places_are_emptied_one_by_one() -> None:
    there = {"low": LOW, "high": HIGH}
    assert routed(there, {"low": "r", "high": "r", "t": "p"}, there) == {
        "low": ("low", "low", [], True),
        "high": ("high", "high", [], True),
    }


def test_partitions_into_one_table_are_emptied_together() -> None:
    both = ["low", "high"]
    assert routed({"low": LOW, "high": HIGH}, {"t": "r"}, {}) == {
        "low": ("t", "t", both, True),
        "high": ("t", "t", both, True),
    }


def test_one_in_its_place_goes_with_the_others() -> None:
    """To empty the root for those that are not would empty it too."""
    moved = routed({"low": LOW, "high": HIGH}, {"low": "r", "top": "r", "t": "p"}, {"low": LOW, "top": HIGH})
    assert moved == {"low": ("low", "t", ["low", "high"], True), "high": ("t", "t", ["low", "high"], True)}


def test_a_table_of_the_source_that_is_a_partition_of_another_one_on_the_target() -> None:
    found = routed({"t": (), "low": ()}, {"t": "p", "low": "r"}, {"low": LOW})
    assert found == {"t": ("t", "t", ["t", "low"], True), "low": ("low", "t", ["t", "low"], True)}


def test_what_is_left_out_keeps_its_rows() -> None:
    assert routed({"low": LOW}, {"t": "r"}, {}, left_out={"high": HIGH}) == {"low": ("t", "t", ["low"], False)}
    assert routed({"low": LOW}, {"low": "r", "t": "p"}, {"low": LOW}, left_out={"high": HIGH}) == {
        "low": ("low", "low", [], True)
    }


def test_what_inherits_and_is_left_out_keeps_its_rows_in_the_partitioned_table() -> None:
    kinds, there = {"t": "p", "low": "r"}, {"low": LOW}
    children = {"low": child("t")}
    assert routed({"t": ()}, kinds, there, left_out=children) == {"t": ("t", "t", ["t"], False)}
    assert routed(children, kinds, there) == {"low": ("t", "t", ["low"], False)}, "the parent has rows of its own"
    assert routed({"t": (), **children}, kinds, there)["t"] == ("t", "t", ["t", "low"], True)
    assert routed({"t": ()}, {"t": "r", "low": "r"}, children, left_out=children) == {"t": ("t", "t", [], True)}


def test_what_is_left_out_and_a_partition_on_the_target_alone_keeps_its_rows() -> None:
    kinds, there = {"t": "p", "low": "r"}, {"low": LOW}
    assert routed({"t": ()}, kinds, there, left_out={"low": ()}) == {"t": ("t", "t", ["t"], False)}
    assert routed({"t": ()}, kinds, there) == {"t": ("t", "t", [], True)}, "the source has none of that name"


def test_partitions_by_what_is_another_value_there_go_through_their_root() -> None:
    there = {"low": LOW, "high": HIGH}
    found = routed(there, {"low": "r", "high": "r", "t": "p"}, there, via={"low": "t", "high": "t"})
    assert found["low"] == ("t", "t", ["low", "high"], True)


ROUNDED = (
    "column id of public.a is integer, that of public.b on the target real, which does not keep every value as it is"
)
HERE = [Column("id", "integer"), Column("v", "text"), Column("sum", "integer", generated=True)]


def columns(there: list[Column], *, binary: bool = False) -> tuple[tuple[str, ...], bool, list[str]]:
    names, converted, problems = columns_of(
        name("a"), name("b"), HERE, {column.name: column for column in there}, binary=binary
    )
    return names, converted, [problem.message for problem in problems]


def test_columns_go_by_name() -> None:
    more = [Column("more", "text"), Column("computed", "integer", generated=True, required=True)]
    assert columns([*reversed(HERE), *more]) == (("id", "v"), False, [])


def test_what_only_the_source_computes_goes_too() -> None:
    assert columns([*HERE[:2], Column("sum", "integer")]) == (("id", "v", "sum"), False, [])


def test_other_types_are_said_and_binary_is_refused() -> None:
    there = [Column("id", "bigint"), *HERE[1:]]
    assert columns(there) == (("id", "v"), True, [])
    assert columns(there, binary=True)[2] == [
        "column id of public.a is integer, that of public.b on the target bigint, which reads another binary form"
    ]


@pytest.mark.parametrize(
    ("there", "problem"),
    [
        (HERE[1:], "column id of public.a is not in public.b on the target"),
        (
            [*HERE, Column("must", "text", required=True)],
            "column must of public.b is NOT NULL without a default, and public.a on the source has none of that name",
        ),
        (
            [HERE[0], Column("v", "text", generated=True), HERE[2]],
            "column v of public.a holds values of its own, and public.b on the target generates it",
        ),
        (
            [Column("id", "real"), *HERE[1:]],
            ROUNDED,
        ),
    ],
)
def test_what_would_lose_something_is_a_problem(there: list[Column], problem: str) -> None:
    assert columns(there)[2] == [problem]


def test_a_table_without_columns() -> None:
    there = {"more": Column("more", "text")}
    assert columns_of(name("a"), name("a"), [], {}, binary=False) == ((), False, [])
    assert len(columns_of(name("a"), name("a"), [], there, binary=False)[2]) == 1


@pytest.mark.parametrize("kind", ["v", "m", "f"])
def test_what_is_no_table(kind: str) -> None:
    assert no_table(name("a"), name("a"), kind) is not None
    assert no_table(name("a"), name("a"), "p") is None
