"""What filter rules choose of a database: resolved once, kept in the work directory, read by every part.

``select`` reads the catalogs of the source: which relations there are, what they inherit from, which names a regular
expression matches. The selection answers for each of them, and for ones that are made later: those are asked for on
the source when a change of theirs comes. ``save`` and ``load`` keep it in ``filters.json`` of the work directory.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, TypeVar

import psycopg

from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Connection
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.filters import (
    KEPT,
    Decision,
    Fate,
    FilterRules,
    Pattern,
    Relation,
    Rule,
    Section,
    decide,
    decide_extension,
    decide_index,
    decide_schema,
    of_name,
)
from pgcopydb.postgres.names import Name
from pgcopydb.runtime.errors import ConfigError, CorruptState
from pgcopydb.runtime.sealed import read_sealed, write_sealed
from pgcopydb.runtime.workdir import WorkDir

logger = logging.getLogger(__name__)

T = TypeVar("T", Name, str)

_NEAR: Final = 3
_RELATIONS: Final = """
WITH RECURSIVE above (oid, parent) AS (
    SELECT i.inhrelid, i.inhparent FROM pg_catalog.pg_inherits i
      JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid AND c.relkind IN ('r', 'p', 'f')
    UNION
    SELECT a.oid, i.inhparent FROM above a JOIN pg_catalog.pg_inherits i ON i.inhrelid = a.parent
)
SELECT c.oid::bigint, n.nspname, c.relname, c.relkind::text,
       (SELECT json_agg(json_build_array(pn.nspname, p.relname))
          FROM above a
          JOIN pg_catalog.pg_class p ON p.oid = a.parent
          JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
         WHERE a.oid = c.oid)
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'm', 'f', 'v') AND c.relpersistence <> 't'
   AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'pgcopydb')
   AND (%(one)s::text IS NULL OR n.nspname = %(one)s AND c.relname = %(other)s)
   AND NOT EXISTS (
       SELECT FROM pg_catalog.pg_depend d
        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
"""
_INDEXES: Final = """
SELECT c.oid::bigint, n.nspname, c.relname
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('i', 'I') AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'pgcopydb')
"""
_SCHEMAS: Final = """
SELECT oid::bigint, nspname FROM pg_catalog.pg_namespace
 WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'pgcopydb')
"""
_EXTENSIONS: Final = "SELECT oid::bigint, extname FROM pg_catalog.pg_extension"
# Names have the collation C: what a character class is does not depend on the database.
_MATCHING: Final = """
SELECT p.pattern, n.name
  FROM unnest(%(patterns)s::text[]) AS p (pattern), unnest(%(names)s::text[]) AS n (name)
 WHERE n.name COLLATE "C" ~ p.pattern
"""


@dataclass(frozen=True, slots=True)
class Selection:
    """``relations``: what is not simply kept, and what is kept for the sake of what is above it. ``schemas``,
    ``indexes`` and ``extensions``: those that are left out. ``unmatched``: rules that are of nothing, with the nearest
    names that there are. ``oids`` and
    ``schema_oids``: of all that there is, not kept in the work directory."""

    rules: FilterRules = field(default_factory=FilterRules)
    relations: Mapping[Name, Decision] = field(default_factory=dict)
    schemas: Mapping[str, Decision] = field(default_factory=dict)
    indexes: Mapping[Name, Decision] = field(default_factory=dict)
    extensions: Mapping[str, Decision] = field(default_factory=dict)
    unmatched: Sequence[tuple[Rule, Sequence[str]]] = ()
    oids: Mapping[Name, int] = field(default_factory=dict, repr=False)
    schema_oids: Mapping[str, int] = field(default_factory=dict, repr=False)

    def __bool__(self) -> bool:
        """Whether anything is filtered at all."""
        return bool(self.rules)

    def relation(self, name: Name) -> Decision:
        """Of one that was there when the selection was made, or that is not in it and so kept."""
        return self.relations.get(name, KEPT)

    def keeps(self, name: Name) -> bool:
        """Whether a relation is on the target."""
        return self.relation(name).fate is not Fate.LEFT_OUT

    def keeps_rows(self, name: Name) -> bool:
        """Whether its rows are copied, and changes of them followed."""
        return self.relation(name).fate is Fate.KEPT

    def save(self, workdir: WorkDir) -> None:
        """Nothing is written when nothing is filtered."""
        if self:
            write_sealed(workdir.filters, self._to_json())

    def _to_json(self) -> dict[str, Any]:
        return {
            "rules": self.rules.to_json(),
            "relations": [[name.schema, name.name, each.fate, each.why] for name, each in self.relations.items()],
            "schemas": {name: each.why for name, each in self.schemas.items()},
            "indexes": [[name.schema, name.name, each.why] for name, each in self.indexes.items()],
            "extensions": {name: each.why for name, each in self.extensions.items()},
        }


EVERYTHING: Final = Selection()


def load_selection(workdir: WorkDir) -> Selection:
    """What the run of a work directory chose. Raises ``CorruptState`` when its file cannot be read."""
    if not workdir.filters.exists():
        return EVERYTHING
    try:
        kept = read_sealed(workdir.filters)
        return Selection(
            rules=FilterRules.from_json(kept["rules"]),
            relations={Name(row[0], row[1]): Decision(Fate(row[2]), row[3]) for row in kept["relations"]},
            schemas={name: Decision(Fate.LEFT_OUT, why) for name, why in kept["schemas"].items()},
            indexes={Name(row[0], row[1]): Decision(Fate.LEFT_OUT, row[2]) for row in kept["indexes"]},
            extensions={name: Decision(Fate.LEFT_OUT, why) for name, why in kept["extensions"].items()},
        )
    except (ValueError, KeyError, TypeError, IndexError) as exc:
        raise CorruptState(
            f"{workdir.filters} does not hold filters: {exc}",
            hint="Begin again with --restart and the filter file.",
        ) from exc


def select(source: Connection, rules: FilterRules) -> Selection:
    """Resolve the rules. Raises ``ConfigError`` for a bad regular expression, and for one of the only names that is not
    there."""
    if not rules:
        return EVERYTHING
    with server_errors(Side.SOURCE, "reading what the filters are about"):
        relations = [*_relations(source)]
        schemas = _named(source, _SCHEMAS)
        extensions = _named(source, _EXTENSIONS)
        indexes: dict[Name, int] = {}
        if rules.has(Section.NOT_INDEX):
            indexes = {Name(row[1], row[2]): row[0] for row in source.execute(_INDEXES).fetchall()}
    names = [relation.name for relation, _ in relations]
    rules = _folded(rules, schemas, [*names, *indexes], extensions)
    words = {*schemas, *extensions}.union(*((name.schema, name.name) for name in (*names, *indexes)))
    hits = _Hits(source, rules, words)
    unmatched = _unmatched(rules, hits, schemas, names, [*indexes], extensions)
    chosen = {relation.name: decide(rules, hits, relation) for relation, _ in relations}
    without = {relation.name: decide(rules, hits, replace(relation, above=(), below=())) for relation, _ in relations}
    return Selection(
        rules,
        {name: each for name, each in chosen.items() if each.fate is not Fate.KEPT or without[name] is not KEPT},
        _left_out((name, decide_schema(rules, hits, name)) for name in schemas),
        _left_out((name, decide_index(rules, hits, name)) for name in indexes),
        _left_out((name, decide_extension(rules, hits, name)) for name in extensions),
        unmatched,
        {**{relation.name: oid for relation, oid in relations}, **indexes},
        schemas,
    )


def select_later(source: Connection, selection: Selection, name: Name) -> Decision:
    """Of a relation that was made after the selection, or is gone already."""
    known = selection.relations.get(name)
    if known is not None or not selection:
        return known or KEPT
    with server_errors(Side.SOURCE, f"reading what {name} inherits from"):
        found = [relation for relation, _ in _relations(source, name)]
    relation = found[0] if found else Relation(name, "r")
    words = {text for each in (name, *relation.above) for text in (each.schema, each.name)}
    return decide(selection.rules, _Hits(source, selection.rules, words), relation)


class _Hits:
    """Which names each pattern is of; asked once."""

    def __init__(self, source: Connection, rules: FilterRules, names: Collection[str]) -> None:
        patterns = {pattern.text for pattern in rules.patterns() if pattern.regex}
        _check_patterns(source, rules)
        self._found: set[tuple[str, str]] = set()
        if patterns:
            with server_errors(Side.SOURCE, "matching names with filters"):
                values = {"patterns": [*patterns], "names": [*names]}
                self._found = {(row[0], row[1]) for row in source.execute(_MATCHING, values).fetchall()}

    def __call__(self, pattern: Pattern, name: str) -> bool:
        return (pattern.text, name) in self._found if pattern.regex else pattern.text == name


def _check_patterns(source: Connection, rules: FilterRules) -> None:
    for rule in rules.rules:
        for pattern in (rule.schema, rule.name):
            if pattern is None or not pattern.regex:
                continue
            try:
                with source.transaction():
                    source.execute("SELECT '' ~ %s", (pattern.text,))
            except psycopg.errors.InvalidRegularExpression as exc:
                raise ConfigError(
                    f"filters, line {rule.line}: {rule.text!r}: {exc.diag.message_primary}",
                    hint="Regular expressions are those of PostgreSQL (documentation: POSIX Regular Expressions).",
                ) from None


def _relations(source: Connection, one: Name | None = None) -> Iterator[tuple[Relation, int]]:
    values = {"one": one and one.schema, "other": one and one.name}
    rows = source.execute(_RELATIONS, values).fetchall()
    above = {Name(row[1], row[2]): tuple(Name(*parent) for parent in row[4] or ()) for row in rows}
    below: dict[Name, list[Name]] = {}
    for name, parents in above.items():
        for parent in parents:
            below.setdefault(parent, []).append(name)
    for row in rows:
        name = Name(row[1], row[2])
        yield Relation(name, row[3], above[name], tuple(below.get(name, ()))), row[0]


def _named(source: Connection, query: str) -> dict[str, int]:
    return {row[1]: row[0] for row in source.execute(query.encode()).fetchall()}


def _left_out(decided: Iterable[tuple[T, Decision]]) -> dict[T, Decision]:
    return {name: decision for name, decision in decided if decision is not KEPT}


def _folded(
    rules: FilterRules, schemas: Collection[str], names: Collection[Name], extensions: Collection[str]
) -> FilterRules:
    """A bare name that nothing has as it is written means what SQL makes of it, as ``Sales`` means ``sales``."""
    words = {name.name for name in names}
    plain = {
        section: schemas if section in {Section.ONLY_SCHEMA, Section.NOT_SCHEMA} else extensions
        for section in Section
        if not section.qualified
    }
    return FilterRules(
        tuple(
            replace(
                rule,
                schema=None if rule.schema is None else _fold(rule.schema, schemas),
                name=_fold(rule.name, words if rule.section.qualified else plain[rule.section]),
            )
            for rule in rules.rules
        )
    )


def _fold(pattern: Pattern, names: Collection[str]) -> Pattern:
    if pattern.regex or pattern.quoted or pattern.text in names:
        return pattern
    return replace(pattern, text=pattern.text.lower()) if pattern.text.lower() in names else pattern


def _unmatched(
    rules: FilterRules,
    hits: _Hits,
    schemas: Collection[str],
    relations: Sequence[Name],
    indexes: Sequence[Name],
    extensions: Collection[str],
) -> list[tuple[Rule, Sequence[str]]]:
    found: list[tuple[Rule, Sequence[str]]] = []
    for rule in rules.rules:
        if rule.section.qualified:
            names = indexes if rule.section is Section.NOT_INDEX else relations
            if any(map(partial(of_name, rule, hits), names)):
                continue
            near = _near(rule, [str(name) for name in names])
        else:
            plain = schemas if rule.section in {Section.ONLY_SCHEMA, Section.NOT_SCHEMA} else extensions
            if any(hits(rule.name, name) for name in plain):
                continue
            near = _near(rule, [*plain])
        if rule.section.includes and not rule.name.regex and (rule.schema is None or not rule.schema.regex):
            raise ConfigError(
                f"filters, line {rule.line}: there is no {rule.text} on the source",
                hint=f"The nearest names are {', '.join(near)}." if near else "Take it out of the file.",
            )
        found.append((rule, near))
    nothing = {id(rule) for rule, _ in found}
    for section in Section:
        if section.includes and rules.has(section) and all(id(rule) in nothing for rule in rules.of(section)):
            raise ConfigError(
                f"filters: nothing on the source is of [{section}], so nothing would be copied",
                hint="Look at what there is: `pgcopydb list tables`.",
            )
    return found


def _near(rule: Rule, names: Sequence[str]) -> list[str]:
    written = rule.name.text if rule.schema is None else f"{rule.schema.text}.{rule.name.text}"
    lowered = {name.lower(): name for name in names}
    return [lowered[name] for name in difflib.get_close_matches(written.lower(), [*lowered], n=_NEAR)]


def report_unmatched(selection: Selection) -> None:
    """A rule that is of nothing is a warning: it may be misspelt."""
    for rule, near in selection.unmatched:
        logger.warning("filters: nothing on the source is of %s", rule)
        if near:
            logger.warning("hint: the nearest names are %s", ", ".join(near))
