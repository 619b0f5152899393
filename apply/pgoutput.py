"""Decode the JSON text that ``daemon.pgoutput`` makes of a row change or a TRUNCATE.

Pure. All values are strings, so orjson reinterprets none. Types are not known: a column's is ``""``. A column whose
TOASTed value did not change is not there; an UPDATE always has the identity, if the relation has one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from pgcopydb.apply.changes import Action, Change, Column, RowChange, Truncate
from pgcopydb.postgres.names import Name
from pgcopydb.runtime.errors import CorruptState

_Fields = Mapping[str, Any]
_HAS_COLUMNS: Final = frozenset({Action.INSERT, Action.UPDATE})
_HAS_IDENTITY: Final = frozenset({Action.UPDATE, Action.DELETE})


def decode(payload: bytes) -> Change:
    """Raises ``CorruptState``."""
    try:
        fields = orjson.loads(payload)
        action = Action(fields["action"])
        if action is Action.TRUNCATE:
            return _truncate(fields)
        return RowChange(
            action,
            _name(fields),
            _columns(fields["columns"]) if action in _HAS_COLUMNS else (),
            _columns(fields["identity"]) if action in _HAS_IDENTITY else (),
        )
    except KeyError as exc:
        raise _unreadable(payload, f"field {exc} is missing") from exc
    except (ValueError, TypeError) as exc:
        raise _unreadable(payload, str(exc)) from exc


def _truncate(fields: _Fields) -> Truncate:
    flags = (fields["restart_identity"], fields["cascade"])
    if not all(isinstance(flag, bool) for flag in flags):
        raise TypeError("an option of TRUNCATE is neither true nor false")
    relations = tuple(_name(relation) for relation in _list(fields["relations"]))
    if not relations:
        raise ValueError("TRUNCATE of no relation")
    return Truncate(relations, restart_identity=flags[0], cascade=flags[1])


def _name(fields: _Fields) -> Name:
    schema, table = fields["schema"], fields["table"]
    if not isinstance(schema, str) or not isinstance(table, str):
        raise TypeError("the name of a relation is not a string")
    return Name(schema, table)


def _columns(found: object) -> tuple[Column, ...]:
    columns: list[Column] = []
    for fields in _list(found):
        name, value = fields["name"], fields["value"]
        if not isinstance(name, str) or not (value is None or isinstance(value, str)):
            raise TypeError("the name or the value of a column is not a string")
        columns.append(Column(name, "", value))
    return tuple(columns)


def _list(found: object) -> Sequence[_Fields]:
    if not isinstance(found, list):
        raise TypeError("a list is something else")
    return found


def _unreadable(payload: bytes, why: str) -> CorruptState:
    return CorruptState(
        f"pgoutput's change cannot be read, {why}: {payload[:120]!r}",
        hint="Nothing of this transaction was applied. The file was damaged, or written by another version.",
    )
