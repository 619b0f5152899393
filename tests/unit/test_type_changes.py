"""Which changes of a column's type may change a value without an error."""

from __future__ import annotations

import pytest

from pgcopydb.bootstrap.type_changes import loses

KEPT = [
    ("integer", "bigint"),
    ("bigint", "integer"),  # or an error
    ("bigint", "numeric(20,0)"),
    ("integer", "double precision"),
    ("real", "double precision"),
    ("numeric(10,2)", "numeric(12,3)"),
    ("numeric(10,2)", "numeric"),
    ("numeric(10,2)", "bigint"),  # or an error
    ("numeric(10,2)[]", "numeric(12,2)[]"),
    ("character varying(10)", "text"),
    ("character varying(10)", "character varying"),
    ("character varying(10)", "character varying(20)"),
    ("character(3)", "character(5)"),
    ("character(3)", "text"),
    ("date", "timestamp without time zone"),
    ("timestamp without time zone", "timestamp with time zone"),
    ("timestamp(3) without time zone", "timestamp(6) with time zone"),
    ("interval(3)", "interval"),
    ("json", "jsonb"),
    ("text", "uuid"),
    ("text", 'public."mood (new)"'),
    ("public.mood", "text"),
    ("integer", "integer[]"),
    ("int4range", "int8range"),
    ("int8range", "int4range"),  # or an error
    ("int4range", "numrange"),
    ("daterange", "tsrange"),
    ("tsrange", "tstzrange"),
    ("int4multirange", "nummultirange"),
    ("bigint", "money"),
    ("oid", "bigint"),
    ("date", "daterange"),  # an error
]
LOST = [
    ("bigint", "double precision"),
    ("integer", "real"),
    ("double precision", "real"),
    ("numeric", "double precision"),
    ("numeric(10,4)", "numeric(10,2)"),
    ("numeric", "numeric(20,10)"),
    ("double precision", "numeric(20,10)"),
    ("bigint", "numeric(10,-2)"),
    ("numeric(10,4)[]", "numeric(10,2)[]"),
    ("timestamp with time zone", "timestamp without time zone"),
    ("timestamp without time zone", "date"),
    ("timestamp without time zone", "time without time zone"),
    ("timestamp(6) without time zone", "timestamp(0) with time zone"),
    ("time without time zone", "time(3) without time zone"),
    ("interval", "interval(0)"),
    ("interval", "interval day to second"),
    ("text", "character varying(20)"),
    ("character varying(20)", "character varying(10)"),
    ("text", "character(10)"),
    ("character(10)", "character"),
    ("text", "name"),
    ("text", '"char"'),
    ("text", "date"),
    ("text", "bytea"),
    ("character varying(20)", "numeric(10,2)"),
    ("tsrange", "daterange"),
    ("tstzrange", "tsrange"),
    ("tstzrange[]", "tsrange[]"),
    ("tstzmultirange", "datemultirange"),
    ("numrange", "int4range"),
    ("text", "tsrange"),
    ("numeric", "money"),
    ("double precision", "money"),
    ("text", "money"),
    ("integer", "oid"),
    ("bigint", "xid8"),
    ("text", "xid"),
]


@pytest.mark.parametrize(("source", "target"), KEPT)
def test_kept(source: str, target: str) -> None:
    assert not loses(source, target)


@pytest.mark.parametrize(("source", "target"), LOST)
def test_lost(source: str, target: str) -> None:
    assert loses(source, target)


@pytest.mark.parametrize("kind", sorted({each for pair in KEPT + LOST for each in pair}))
def test_the_same_type_loses_nothing(kind: str) -> None:
    assert not loses(kind, kind)
