"""Options of the C program that have nothing to do in a command of ours: its scripts give them, so they are accepted.

Pure but for what it puts into click's context: what is to be said of an option that was given, for ``begin_logging``,
and what is to be compared with the work directory. An option that a command declares itself is not looked up here.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

import click

from pgcopydb.runtime.errors import UsageError
from pgcopydb.runtime.logs import NOTICE, STAGE_VARIABLE

SAID: Final = "pgcopydb.said"
"""In ``Context.meta``: level and text of what is to be logged."""
GIVEN: Final = "pgcopydb.given"
"""In ``Context.meta``: by name, what was said of a stream that the work directory knows better."""


class Kind(Enum):
    """What becomes of an accepted option."""

    IDLE = auto()
    """It has no effect on this command, in the C program neither: a line at NOTICE."""
    REPLACED = auto()
    """What it asks for is done in another way: a warning says how."""
    REFUSED = auto()
    """To go on as if it was not given would harm: an error says what to do."""
    COMPARED = auto()
    """The work directory has the value; another one is an error of the command."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """``names``: as on a command line, the short one last. ``value``: what follows it, empty for a flag."""

    names: tuple[str, ...]
    value: str
    kind: Kind
    text: str = ""
    variable: str | None = None

    def option(self) -> AcceptedOption:
        flag: dict[str, Any] = {"type": str, "metavar": self.value} if self.value else {"is_flag": True}
        return AcceptedOption(
            self,
            self.names,
            expose_value=False,
            hidden=True,
            envvar=self.variable,
            callback=self._heed,
            **flag,
        )

    def _heed(self, context: click.Context, _parameter: click.Parameter, value: str | bool | None) -> None:
        if not value or context.resilient_parsing:
            return
        name = self.names[0]
        if self.kind is Kind.REFUSED:
            raise UsageError(f"{name} is not for `{context.command_path}`", hint=self.text)
        if self.kind is Kind.COMPARED:
            context.meta.setdefault(GIVEN, {})[name] = value
        elif self.kind is Kind.IDLE:
            _say(context, NOTICE, f"{name} has no effect on `{context.command_path}`")
        elif STAGE_VARIABLE not in os.environ:
            _say(context, logging.WARNING, f"{name}: {self.text}")


class AcceptedOption(click.Option):
    """On the command line, not in the help. ``accepted`` says what becomes of it."""

    def __init__(self, accepted: Accepted, names: tuple[str, ...], **settings: Any) -> None:
        super().__init__(names, **settings)
        self.accepted = accepted


def _say(context: click.Context, level: int, text: str) -> None:
    context.meta.setdefault(SAID, []).append((level, text))


def _options(kind: Kind, text: str, *lines: str, variable: str | None = None) -> tuple[Accepted, ...]:
    found = []
    for line in lines:
        words = line.split()
        names = tuple(word for word in words if word.startswith("-"))
        found.append(Accepted(names, " ".join(words[len(names) :]), kind, text, variable))
    return tuple(found)


_CREATE_SLOT: Final = _options(Kind.IDLE, "", "--create-slot -t")
_COPY: Final = _options(
    Kind.IDLE,
    "",
    "--table-jobs --jobs -J N",
    "--index-jobs -I N",
    "--restore-jobs -j N",
    "--large-objects-jobs --large-object-jobs -b N",
    "--split-tables-larger-than --split-at -L SIZE",
    "--split-max-parts -u N",
    "--estimate-table-sizes -m",
    "--drop-if-exists -c",
    "--roles -A",
    "--no-role-passwords -P",
    "--no-owner -O",
    "--no-acl -x",
    "--no-comments -X",
    "--no-tablespaces -y",
    "--skip-large-objects --skip-blobs -B",
    "--skip-extensions -e",
    "--skip-ext-comments --skip-ext-comment -M",
    "--skip-collations -l",
    "--skip-vacuum -U",
    "--skip-analyze -a",
    "--skip-db-properties -g",
    "--skip-split-by-ctid -k",
    "--use-copy-binary -n",
    "--requirements -Q FILE",
    "--filters --filter -F FILE",
    "--fail-fast -i",
    "--restart -r",
    "--not-consistent -C",
    "--snapshot -N ID",
    "--follow -f",
)
_STREAM: Final = _options(
    Kind.IDLE,
    "",
    "--plugin -p NAME",
    "--wal2json-numeric-as-string -w",
    "--slot-name -s NAME",
    "--publication NAME",
    "--origin -o NAME",
    "--endpos -E LSN",
    "--replay-no-op-updates",
)
_PUBLICATION: Final = _options(
    Kind.REPLACED,
    "with pgoutput publications of its own are made, named as the slot, of exactly the tables that are followed: one "
    "of somebody else's may lack some",
    "--publication NAME",
)
_KNOWN: Final = (
    *_options(
        Kind.COMPARED,
        "",
        "--plugin -p NAME",
        "--slot-name -s NAME",
        "--origin -o NAME",
    ),
    *_options(Kind.IDLE, "", "--wal2json-numeric-as-string -w"),
    *_PUBLICATION,
)
_KNOWN_FILTERS: Final = _options(Kind.COMPARED, "", "--filters --filter -F FILE")
_COORDINATOR: Final = tuple(
    each
    for line, variable in (("--host ADDRESS", "PGCOPYDB_HOST"), ("--port N", "PGCOPYDB_PORT"))
    for each in _options(
        Kind.REPLACED,
        "no port is opened: `pgcopydb stream sentinel` with --source and `pgcopydb status` reach a migration from any "
        "machine through its databases",
        line,
        variable=variable,
    )
)
_CLIENT_TEXT: Final = "nobody listens there: the answer comes from the databases (--source) and the work directory"
_CLIENT: Final = _options(Kind.REPLACED, _CLIENT_TEXT, "--host ADDRESS", "--port N")
_SENTINEL: Final = _options(Kind.REPLACED, _CLIENT_TEXT, "--host -H ADDRESS", "--port -P N")
_DUMP: Final = _options(
    Kind.IDLE,
    "",
    "--target -T URI",
    "--no-role-passwords -P",
    "--skip-extensions -e",
    "--filters -F FILE",
    "--restart -r",
    "--not-consistent -C",
    "--snapshot -N ID",
)
_RESTORE: Final = (
    *_options(
        Kind.IDLE,
        "",
        "--source -S URI",
        "--target -T URI",
        "--restore-jobs -j N",
        "--drop-if-exists -c",
        "--no-owner -O",
        "--no-acl -x",
        "--no-comments -X",
        "--no-tablespaces -y",
        "--skip-extensions -e",
        "--skip-ext-comments -E",
        "--filters -F FILE",
        "--not-consistent -C",
        "--snapshot -N ID",
    ),
    *_options(
        Kind.REFUSED,
        "It would remove the dump that is restored. To dump anew: `dump schema --restart`.",
        "--restart -r",
    ),
)
_LIST: Final = _options(
    Kind.IDLE,
    "",
    "--source -S URI",
    "--schema-name -s NAME",
    "--table-name -t NAME",
    "--filters --filter -F FILE",
    "--list-skipped -x",
    "--without-pkey -P",
    "--split-tables-larger-than --split-at -L SIZE",
    "--split-max-parts -u N",
    "--estimate-table-sizes -m",
    "--skip-split-by-ctid -k",
    "--force -f",
    "--summary -y",
    "--available-versions -a",
    "--requirements -r",
    "--resume -R",
    "--not-consistent -I",
    "--snapshot -N ID",
)
_EVERY_STREAM: Final = (
    *_options(
        Kind.REPLACED,
        "changes are kept in files, a pair for each WAL segment; --max-disk bounds what they take together",
        "--max-replaydb-size SIZE",
    ),
    *_options(
        Kind.REFUSED,
        "Changes that were received cannot be had again: `pgcopydb stream cleanup` removes them, with the slot.",
        "--restart -r",
    ),
    *_options(Kind.REFUSED, "`pgcopydb stream prune` is the one that can say what it would do.", "--dry-run"),
    *_options(
        Kind.IDLE,
        "",
        "--target -T URI",
        "--snapshot -N ID",
        "--resume -R",
        "--not-consistent -C",
        "--to-stdout -O",
        "--from-stdin -I",
    ),
)
_RUNS: Final = (*_KNOWN, *_EVERY_STREAM, *_STREAM, *_COORDINATOR)
_ONE_DATABASE: Final = _options(
    Kind.REFUSED,
    "One command for each database, with a --dir of its own; `clone --all-databases` does all steps for all of them.",
    "--all-databases",
)
_FOLLOWS_ONE: Final = _options(
    Kind.REFUSED,
    "A replication slot decodes one database: one `follow` for each, with a --dir and a --slot-name of its own, as the "
    "units pgcopydb-follow@NAME.service have it.",
    "--all-databases",
)
_STEP: Final = (*_COPY, *_STREAM, *_CREATE_SLOT, *_COORDINATOR)

_BY_COMMAND: Final[dict[str, tuple[Accepted, ...]]] = {
    **dict.fromkeys(("clone", "fork", "copy db"), (*_PUBLICATION, *_CREATE_SLOT, *_COORDINATOR)),
    "snapshot": _PUBLICATION,
    "follow": (
        *_KNOWN,
        *_KNOWN_FILTERS,
        *_options(
            Kind.REFUSED, "What was copied is of no use without the slot: `clone --follow --restart`.", "--restart -r"
        ),
        *_FOLLOWS_ONE,
        *_STEP,
    ),
    **dict.fromkeys(
        (
            f"copy {what}"
            for what in (
                *("extensions", "schema", "data", "table-data"),
                *("blobs", "sequences", "indexes", "constraints"),
            )
        ),
        (*_STEP, *_ONE_DATABASE),
    ),
    "copy roles": (*_STEP, *_options(Kind.IDLE, "", "--all-databases")),
    **dict.fromkeys(("dump schema", "dump roles", "dump pre-data", "dump post-data"), _DUMP),
    **dict.fromkeys(("restore schema", "restore pre-data", "restore post-data"), (*_KNOWN_FILTERS, *_RESTORE)),
    **dict.fromkeys(("restore roles", "restore parse-list"), _RESTORE),
    **dict.fromkeys(
        (
            f"list {what}"
            for what in (
                *("databases", "extensions", "collations", "tables", "table-parts"),
                *("sequences", "indexes", "depends", "schema", "progress"),
            )
        ),
        _LIST,
    ),
    "compare schema": _options(Kind.IDLE, "", "--table-jobs --jobs -j N"),
    "stream setup": (*_PUBLICATION, *_EVERY_STREAM, *_STREAM, *_COORDINATOR),
    "stream cleanup": (*_EVERY_STREAM, *_STREAM, *_COORDINATOR),
    "stream prune": (*_KNOWN, *_CLIENT, *_EVERY_STREAM, *_STREAM),
    **dict.fromkeys(
        (f"stream {what}" for what in ("receive", "transform", "apply", "prefetch", "catchup", "replay")), _RUNS
    ),
    **dict.fromkeys(
        (
            "stream sentinel setup",
            "stream sentinel get",
            *(f"stream sentinel set {what}" for what in ("startpos", "endpos", "apply", "prefetch")),
        ),
        _SENTINEL,
    ),
}


def accepted(path: str, declared: Iterable[str]) -> Iterator[Accepted]:
    """What the command at ``path`` accepts beside the options that it declares; a name once, the first in line."""
    taken = set(declared)
    for each in _BY_COMMAND.get(path, ()):
        names = tuple(name for name in each.names if name not in taken)
        # A long name that is declared has its short one elsewhere.
        if names and each.names[0] not in taken:
            taken.update(names)
            yield Accepted(names, each.value, each.kind, each.text, each.variable)
