"""Filter files: what is read out of them, what is refused, and what rules say of a relation."""

from __future__ import annotations

import re

import pytest

from pgcopydb.postgres.filters import (
    Fate,
    FilterRules,
    Pattern,
    Relation,
    Section,
    decide,
    parse_filters,
)
from pgcopydb.postgres.names import Name
from pgcopydb.runtime.errors import ConfigError

EVERY_FORM = '''\
; a remark
# another
[exclude-table]
public.plain
public.plain2 ; why
"Odd ""Schema"""."It's a. table" # why
public.~/^tmp_/
~/^seq$/.~{a/b}~/c/   ; two are one
  ~#^x#.spaced out

[ exclude-schema ]
Sales
~<^old_>
'''


def test_every_form_of_a_line_is_read() -> None:
    rules = parse_filters(EVERY_FORM, "f.ini").rules
    assert [(rule.schema, rule.name, rule.line) for rule in rules] == [
        (Pattern("public"), Pattern("plain"), 4),
        (Pattern("public"), Pattern("plain2"), 5),
        (Pattern('Odd "Schema"', quoted=True), Pattern("It's a. table", quoted=True), 6),
        (Pattern("public"), Pattern("^tmp_", regex=True), 7),
        (Pattern("^seq$", regex=True), Pattern("a/bc", regex=True), 8),
        (Pattern("^x", regex=True), Pattern("spaced out"), 9),
        (None, Pattern("Sales"), 12),
        (None, Pattern("^old_", regex=True), 13),
    ]
    assert rules[1].text == "public.plain2"
    assert rules[4].text == "~/^seq$/.~{a/b}~/c/"


def test_what_is_kept_in_the_work_directory_is_the_same() -> None:
    rules = parse_filters(EVERY_FORM, "f.ini")
    assert FilterRules.from_json(rules.to_json()) == rules


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ("public.t\n", "f.ini, line 1: 'public.t' stands above the first section", "Sections are"),
        ("[exclude-tables]\n", "f.ini, line 1: there is no section [exclude-tables]", "Did you mean [exclude-table]?"),
        ("[exclude-table\n", "f.ini, line 1: '[exclude-table' is not a section", "Sections are"),
        ("[exclude-table]\n\nt\n", "f.ini, line 3: 't' is not a name with a schema", "public.orders"),
        ("[exclude-table]\na.b.c\n", "f.ini, line 2: 'b.c' holds a dot", "in quotes"),
        ("[exclude-schema]\na.b\n", "f.ini, line 2: 'a.b' holds a dot", "in quotes"),
        ('[exclude-schema]\n"a\n', "f.ini, line 2: '\"a' is not a name", "ends with one"),
        ('[exclude-schema]\na"b\n', "f.ini, line 2: 'a\"b' is not a name", "in quotes as in SQL"),
        ('[exclude-schema]\n"a" b\n', "f.ini, line 2: 'b' behind a name", "in quotes"),
        ("[exclude-schema]\n~/a\n", "f.ini, line 2: '~/a' is not a regular expression", "the same sign"),
        ("[exclude-schema]\n~\n", "f.ini, line 2: '~' is not a regular expression", "the same sign"),
        ("[exclude-schema]\n~//\n", "f.ini, line 2: an empty regular expression", "every name"),
        ("[exclude-table]\npublic.\n", "f.ini, line 2: '' is not a name", "in quotes as in SQL"),
        (
            "[exclude-table]\na.b\n[include-only-table]\na.c\n",
            "f.ini, lines 4 and 2: [include-only-table] and [exclude-table] exclude each other",
            "Leave one",
        ),
    ],
)
def test_what_is_wrong_is_named(text: str, said: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)) as caught:
        parse_filters(text, "f.ini")
    assert hint in (caught.value.hint or "")
    assert caught.value.exit_code == 2


def fate(text: str, relation: Relation) -> Fate:
    rules = parse_filters(text, "f.ini")

    def hits(pattern: Pattern, name: str) -> bool:
        return re.search(pattern.text, name) is not None if pattern.regex else pattern.text == name

    return decide(rules, hits, relation).fate


ROOT, LEAF, OTHER = Name("s", "root"), Name("s", "leaf"), Name("s", "other")


@pytest.mark.parametrize(
    ("text", "relation", "expected"),
    [
        ("[exclude-table]\ns.root", Relation(LEAF, "r", above=(ROOT,)), Fate.LEFT_OUT),
        ("[exclude-table]\ns.leaf", Relation(ROOT, "p", below=(LEAF,)), Fate.KEPT),
        ("[exclude-table]\ns.v", Relation(Name("s", "v"), "v"), Fate.LEFT_OUT),
        ("[include-only-table]\ns.root", Relation(LEAF, "r", above=(ROOT,)), Fate.KEPT),
        ("[include-only-table]\ns.leaf", Relation(ROOT, "p", below=(LEAF,)), Fate.KEPT),
        ("[include-only-table]\ns.leaf", Relation(ROOT, "r", below=(LEAF,)), Fate.NO_ROWS),
        ("[include-only-table]\ns.leaf", Relation(OTHER, "r", above=(ROOT,)), Fate.LEFT_OUT),
        ("[include-only-table]\ns.leaf", Relation(Name("s", "v"), "v"), Fate.KEPT),
        ("[include-only-table]\ns.leaf", Relation(Name("s", "m"), "m"), Fate.LEFT_OUT),
        ("[exclude-table-data]\ns.root", Relation(LEAF, "r", above=(ROOT,)), Fate.NO_ROWS),
        ("[include-only-table]\ns.leaf\n[exclude-table-data]\n~/./.~/./", Relation(LEAF, "r"), Fate.NO_ROWS),
        ("[include-only-schema]\nt\n~/^x/", Relation(LEAF, "r"), Fate.LEFT_OUT),
        ("[include-only-schema]\ns\n~/^x/", Relation(LEAF, "r"), Fate.KEPT),
        ("[include-only-schema]\ns\n[include-only-table]\ns.root", Relation(LEAF, "r"), Fate.LEFT_OUT),
        ("[exclude-schema]\n~/^s$/", Relation(Name("s", "v"), "v"), Fate.LEFT_OUT),
        ("[exclude-index]\ns.leaf", Relation(LEAF, "r"), Fate.KEPT),
    ],
)
def test_what_becomes_of_a_relation(text: str, relation: Relation, expected: Fate) -> None:
    assert fate(text, relation) is expected


def test_each_section_is_known_by_its_name() -> None:
    for section in Section:
        entry = "a.b" if section.qualified else "a"
        assert [rule.section for rule in parse_filters(f"[{section}]\n{entry}\n", "f.ini").rules] == [section]
