"""What the operator wants of a database: the rules of a filter file, and what one rule says of one name.

Pure. A filter file is an INI file of bare lines, as the C program reads it::

    [exclude-table]
    public.audit_log            ; as it is written, or folded to lower case when no name is written so
    "Odd Schema"."It's a table"
    ~/^tmp_/.~/./               ; regular expressions of PostgreSQL, not anchored, for either half

Rules of one section are alternatives, sections add up. Whether a regular expression matches is for a server to say
(``Hits``); which names there are is the selection's business.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from pgcopydb.postgres.names import Name
from pgcopydb.runtime.errors import ConfigError


class Section(StrEnum):
    """The sections of a filter file."""

    ONLY_SCHEMA = "include-only-schema"
    NOT_SCHEMA = "exclude-schema"
    ONLY_TABLE = "include-only-table"
    NOT_TABLE = "exclude-table"
    NOT_ROWS = "exclude-table-data"
    NOT_INDEX = "exclude-index"
    ONLY_EXTENSION = "include-only-extension"
    NOT_EXTENSION = "exclude-extension"

    @property
    def qualified(self) -> bool:
        """Whether an entry has a schema in front."""
        return self in {Section.ONLY_TABLE, Section.NOT_TABLE, Section.NOT_ROWS, Section.NOT_INDEX}

    @property
    def includes(self) -> bool:
        return self in {Section.ONLY_SCHEMA, Section.ONLY_TABLE, Section.ONLY_EXTENSION}


@dataclass(frozen=True, slots=True)
class Pattern:
    """One name, or a regular expression. ``quoted``: never folded."""

    text: str
    regex: bool = False
    quoted: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the file. ``schema`` is what has no schema in front."""

    section: Section
    schema: Pattern | None
    name: Pattern
    line: int
    text: str

    def __str__(self) -> str:
        return f"[{self.section}] {self.text} (line {self.line})"


Hits = Callable[[Pattern, str], bool]
"""Whether a pattern is of a name."""


@dataclass(frozen=True, slots=True)
class FilterRules:
    """All rules, in the order of the file."""

    rules: tuple[Rule, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.rules)

    def of(self, section: Section) -> Iterator[Rule]:
        return (rule for rule in self.rules if rule.section is section)

    def has(self, section: Section) -> bool:
        return any(self.of(section))

    def patterns(self) -> Iterator[Pattern]:
        for rule in self.rules:
            if rule.schema is not None:
                yield rule.schema
            yield rule.name

    def to_json(self) -> list[dict[str, Any]]:
        return [
            {
                "section": str(rule.section),
                "schema": None if rule.schema is None else _pattern_json(rule.schema),
                "name": _pattern_json(rule.name),
                "line": rule.line,
                "text": rule.text,
            }
            for rule in self.rules
        ]

    @classmethod
    def from_json(cls, rules: Iterable[Mapping[str, Any]]) -> FilterRules:
        """Raises ``KeyError``, ``TypeError`` or ``ValueError`` for anything else than ``to_json`` makes."""
        return cls(
            tuple(
                Rule(
                    Section(rule["section"]),
                    None if rule["schema"] is None else Pattern(**rule["schema"]),
                    Pattern(**rule["name"]),
                    rule["line"],
                    rule["text"],
                )
                for rule in rules
            )
        )


def _pattern_json(pattern: Pattern) -> dict[str, Any]:
    return {"text": pattern.text, "regex": pattern.regex, "quoted": pattern.quoted}


class Fate(StrEnum):
    """What becomes of a relation."""

    KEPT = "kept"
    NO_ROWS = "without rows"
    LEFT_OUT = "left out"


@dataclass(frozen=True, slots=True)
class Decision:
    """``why``: the rule that decided, empty for what is kept."""

    fate: Fate
    why: str = ""


KEPT: Final = Decision(Fate.KEPT)


@dataclass(frozen=True, slots=True)
class Relation:
    """What a decision rests on. ``kind`` is ``pg_class.relkind``; ``above`` are the tables that it is a partition of or
    inherits from, at any distance; ``below`` the other way round."""

    name: Name
    kind: str
    above: tuple[Name, ...] = ()
    below: tuple[Name, ...] = field(default=(), compare=False)


def decide(rules: FilterRules, hits: Hits, relation: Relation) -> Decision:
    """The one place where it is decided what becomes of a table, a view or a materialized view.

    A partition or an inheriting table shares the fate of what is above it. Above a table that is listed as one of the
    only ones, others are kept for their form: partitioned tables, and inherited tables without their rows.
    """
    decision = decide_schema(rules, hits, relation.name.schema)
    if decision is not KEPT:
        return decision
    line = (relation.name, *relation.above)
    found = _first(rules, hits, Section.NOT_TABLE, line)
    if found is not None:
        return Decision(Fate.LEFT_OUT, str(found))
    if relation.kind != "v" and rules.has(Section.ONLY_TABLE) and _first(rules, hits, Section.ONLY_TABLE, line) is None:
        if _first(rules, hits, Section.ONLY_TABLE, relation.below) is None:
            return Decision(Fate.LEFT_OUT, f"not in [{Section.ONLY_TABLE}]")
        if relation.kind != "p":
            return Decision(Fate.NO_ROWS, f"not in [{Section.ONLY_TABLE}], but what inherits from it is")
    found = _first(rules, hits, Section.NOT_ROWS, line)
    return KEPT if found is None else Decision(Fate.NO_ROWS, str(found))


def decide_schema(rules: FilterRules, hits: Hits, schema: str) -> Decision:
    return _decide_plain(rules, hits, Section.ONLY_SCHEMA, Section.NOT_SCHEMA, schema)


def decide_extension(rules: FilterRules, hits: Hits, extension: str) -> Decision:
    return _decide_plain(rules, hits, Section.ONLY_EXTENSION, Section.NOT_EXTENSION, extension)


def decide_index(rules: FilterRules, hits: Hits, index: Name) -> Decision:
    """By its own name alone."""
    found = _first(rules, hits, Section.NOT_INDEX, (index,))
    return KEPT if found is None else Decision(Fate.LEFT_OUT, str(found))


def _decide_plain(rules: FilterRules, hits: Hits, only: Section, without: Section, name: str) -> Decision:
    for rule in rules.of(without):
        if hits(rule.name, name):
            return Decision(Fate.LEFT_OUT, str(rule))
    if rules.has(only) and not any(hits(rule.name, name) for rule in rules.of(only)):
        return Decision(Fate.LEFT_OUT, f"not in [{only}]")
    return KEPT


def _first(rules: FilterRules, hits: Hits, section: Section, names: Sequence[Name]) -> Rule | None:
    return next((rule for rule in rules.of(section) if any(of_name(rule, hits, name) for name in names)), None)


def of_name(rule: Rule, hits: Hits, name: Name) -> bool:
    """Whether a rule with a schema in front is of this name."""
    return rule.schema is not None and hits(rule.schema, name.schema) and hits(rule.name, name.name)


_CLOSING: Final = {
    "/": "/", "[": "]", "{": "}", "(": ")", "<": ">", '"': '"', "'": "'", "|": "|", "#": "#", "$": "$",
}  # fmt: skip
_SECTION: Final = re.compile(r"\[\s*([^\]]*?)\s*\]")
_REMARK: Final = re.compile(r"\s+[;#].*$")
_EXCLUSIVE: Final = (
    (Section.ONLY_SCHEMA, Section.NOT_SCHEMA),
    (Section.ONLY_TABLE, Section.NOT_TABLE),
    (Section.ONLY_EXTENSION, Section.NOT_EXTENSION),
)


def parse_filters(text: str, where: str) -> FilterRules:
    """The rules of a file; ``where`` is its name. Raises ``ConfigError`` that names file, line, and what was found."""
    rules: list[Rule] = []
    section: Section | None = None
    for number, raw in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        line = raw.strip()
        if not line or line[0] in ";#":
            continue
        try:
            if line[0] == "[":
                section = _section(line)
            elif section is None:
                raise _Refused(f"{line!r} stands above the first section", _sections())
            else:
                rules.append(_rule(section, line, number))
        except _Refused as refused:
            raise ConfigError(f"{where}, line {number}: {refused.found}", hint=refused.expected) from None
    for one, other in _EXCLUSIVE:
        lines = [next((rule.line for rule in rules if rule.section is each), 0) for each in (one, other)]
        if all(lines):
            raise ConfigError(
                f"{where}, lines {lines[0]} and {lines[1]}: [{one}] and [{other}] exclude each other",
                hint="Leave one of them out.",
            )
    return FilterRules(tuple(rules))


class _Refused(Exception):
    """What was found in a line, and what is expected there."""

    def __init__(self, found: str, expected: str) -> None:
        super().__init__(found)
        self.found = found
        self.expected = expected


def _sections() -> str:
    return f"Sections are: {', '.join(f'[{section}]' for section in Section)}."


def _section(line: str) -> Section:
    match = _SECTION.fullmatch(_REMARK.sub("", line))
    if match is None:
        raise _Refused(f"{line!r} is not a section", _sections())
    try:
        return Section(match[1])
    except ValueError:
        near = difflib.get_close_matches(match[1], [*Section], n=1)
        hint = f"Did you mean [{near[0]}]? " if near else ""
        raise _Refused(f"there is no section [{match[1]}]", hint + _sections()) from None


def _rule(section: Section, line: str, number: int) -> Rule:
    first, rest = _half(line, ends_at_dot=section.qualified)
    if not section.qualified:
        return Rule(section, None, first, number, _without_remark(line, rest))
    if not rest.startswith("."):
        raise _Refused(
            f"{line!r} is not a name with a schema", f"[{section}] has entries like public.orders or public.~/^tmp_/."
        )
    second, rest = _half(rest[1:], ends_at_dot=False)
    return Rule(section, first, second, number, _without_remark(line, rest))


def _without_remark(line: str, rest: str) -> str:
    """The line up to where the entry ends; only a remark may follow."""
    if rest.strip() and not _REMARK.fullmatch(rest):
        raise _Refused(
            f"{rest.strip()!r} behind a name", 'A name that holds a dot or a quote is written in quotes: "my.table".'
        )
    return line[: len(line) - len(rest)].rstrip()


def _half(text: str, *, ends_at_dot: bool) -> tuple[Pattern, str]:
    """A name or a regular expression at the beginning, and what follows it."""
    if text.startswith('"'):
        return _quoted(text)
    if text.startswith("~"):
        return _regex(text)
    bare = _REMARK.sub("", text).rstrip()
    if ends_at_dot:
        bare = bare.partition(".")[0]
    elif "." in bare:
        raise _Refused(f"{bare!r} holds a dot", 'A name that holds a dot is written in quotes: "my.table".')
    if not bare or '"' in bare:
        raise _Refused(f"{text!r} is not a name", 'Names are bare, or in quotes as in SQL: "my ""table""".')
    return Pattern(bare), text[len(bare) :]


def _quoted(text: str) -> tuple[Pattern, str]:
    match = re.match(r'"((?:[^"]|"")+)"', text)
    if match is None:
        raise _Refused(f"{text!r} is not a name", "A name that begins with a quote ends with one; two make one.")
    return Pattern(match[1].replace('""', '"'), quoted=True), text[match.end() :]


def _regex(text: str) -> tuple[Pattern, str]:
    """Several behind each other are one."""
    pieces: list[str] = []
    while text.startswith("~"):
        closing = _CLOSING.get(text[1:2])
        end = -1 if closing is None else text.find(closing, 2)
        if end < 0:
            raise _Refused(
                f"{text!r} is not a regular expression", "It stands between two of the same sign: ~/^tmp_/, or ~{^a/b}."
            )
        pieces.append(text[2:end])
        text = text[end + 1 :]
    if not any(pieces):
        raise _Refused("an empty regular expression", "For every name: ~/./")
    return Pattern("".join(pieces), regex=True), text
