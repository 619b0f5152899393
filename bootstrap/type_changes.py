"""What becomes of values whose column has another type on the target.

They go over as text, which the target's type reads. Most types refuse what they cannot hold, and the copy fails with
their words; some round it or cut it off instead. Those are known here, so that nothing is lost without a word. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_TYPE: Final = re.compile(
    r"(?P<base>[^(\[]+?) ?(?:\((?P<sizes>[\d, -]+)\))?(?P<more>(?: with| without) time zone)?(?P<array>(?:\[\])*)"
)
"""What ``format_type`` prints of a built-in type."""

_INTEGERS: Final = {"smallint": 16, "integer": 32, "bigint": 64, "oid": 32}
_EXACT_BITS: Final = {"real": 24, "double precision": 53}
"""Up to so many bits each integer has a value of its own."""
_FRACTIONS: Final = frozenset({"numeric", "real", "double precision"})
_PARTS: Final = {
    "date": frozenset({"date"}),
    "time without time zone": frozenset({"time"}),
    "time with time zone": frozenset({"time", "zone"}),
    "timestamp without time zone": frozenset({"date", "time"}),
    "timestamp with time zone": frozenset({"date", "time", "zone"}),
}
_ELEMENTS: Final = {
    "int4range": "integer",
    "int8range": "bigint",
    "numrange": "numeric",
    "daterange": "date",
    "tsrange": "timestamp without time zone",
    "tstzrange": "timestamp with time zone",
}
_RANGES: Final = _ELEMENTS | {name.replace("range", "multirange"): element for name, element in _ELEMENTS.items()}
_DISCRETE: Final = frozenset({"integer", "bigint", "date"})
"""Ranges of these are written in one way: ``(1,5]`` becomes ``[2,6)``."""
_UNSIGNED: Final = frozenset({"oid", "xid", "xid8", "cid"})
"""What is below zero becomes another number."""
_TEXTS: Final = frozenset({"text", "character varying", "character"})
_CUT_OFF: Final = frozenset({"name", '"char"'})
_FREELY_READ: Final = frozenset({"bytea", "money", *_UNSIGNED, *_PARTS, *_EXACT_BITS, *_RANGES})
_SECONDS: Final = 6
"""Digits behind the point of a second."""


@dataclass(frozen=True, slots=True)
class _Type:
    base: str
    sizes: tuple[int, ...] = ()
    array: bool = False


def loses(source: str, target: str) -> bool:
    """Whether a value of the one type may become another value, without an error, when the other one reads its text.

    Both as ``format_type`` prints them, with their size.
    """
    if source == target:
        return False
    one, other = _parsed(source), _parsed(target)
    if one is None or other is None or one.array != other.array:
        return False
    return _is_lost(one, other)


def _is_lost(one: _Type, other: _Type) -> bool:
    if one.base in _RANGES and other.base in _RANGES:
        element, there = _RANGES[one.base], _RANGES[other.base]
        merges = there in _DISCRETE and element not in _DISCRETE
        return merges or _is_lost(_Type(element), _Type(there))
    return any(way(one, other) for way in (_rounds, _wraps, _drops_parts, _cuts_off, _is_read_freely))


def _parsed(text: str) -> _Type | None:
    match = _TYPE.fullmatch(text)
    if match is None:
        return None
    sizes = tuple(int(size) for size in (match["sizes"] or "").split(",") if size)
    base = match["base"] + (match["more"] or "")
    if base in {"character", "bit"} and not sizes:
        sizes = (1,)
    return _Type(base, sizes, bool(match["array"]))


def _rounds(one: _Type, other: _Type) -> bool:
    bits = _INTEGERS.get(one.base)
    if bits is None and one.base not in _FRACTIONS:
        return False
    if other.base == "money":
        return bits is None
    exact = _EXACT_BITS.get(other.base)
    if exact is not None:
        if bits is not None:
            return bits > exact
        return one.base == "numeric" or _EXACT_BITS[one.base] > exact
    if other.base != "numeric" or not other.sizes:
        return False
    scale = _scale(other)
    if bits is not None:
        return scale < 0
    return one.base != "numeric" or not one.sizes or _scale(one) > scale


def _wraps(one: _Type, other: _Type) -> bool:
    is_number = one.base in _INTEGERS or one.base in _FRACTIONS
    return is_number and other.base in _UNSIGNED and one.base != other.base


def _scale(kind: _Type) -> int:
    return kind.sizes[1] if len(kind.sizes) > 1 else 0


def _drops_parts(one: _Type, other: _Type) -> bool:
    """Of dates and times: a part that the target's type has no place for, or digits of the second."""
    if other.base.startswith("interval"):
        return other.base != "interval" or bool(other.sizes)
    of_one, of_other = _PARTS.get(one.base), _PARTS.get(other.base)
    if of_one is None or of_other is None:
        return False
    return not of_one <= of_other or ("time" in of_one and _seconds(one) > _seconds(other))


def _seconds(kind: _Type) -> int:
    return kind.sizes[0] if kind.sizes else _SECONDS


def _cuts_off(one: _Type, other: _Type) -> bool:
    """Of texts: what is too long for ``name``, and blanks in the end, which a shorter type takes away unasked."""
    if other.base in _CUT_OFF:
        return one.base != other.base
    if one.base not in _TEXTS or other.base not in {"character varying", "character"}:
        return False
    if other.base == "character" and one.base != "character":
        return True
    return bool(other.sizes) and (not one.sizes or one.sizes[0] > other.sizes[0])


def _is_read_freely(one: _Type, other: _Type) -> bool:
    """Of texts that become something else: several of them mean one value there, or a part of them nothing."""
    if one.base not in _TEXTS:
        return False
    return other.base in _FREELY_READ or (other.base == "numeric" and bool(other.sizes))
