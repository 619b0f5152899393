"""Manual pages in roff, one for each command of the first level: ``docs/man/*.1``, as the program declares itself.

A page of a group holds all commands of the group. Options that all of them take are listed once, at its end, and those
of several that stand behind each other and take the same behind the last of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final

import click

FOLDER: Final = Path(__file__).parent / "man"

_EXIT_CODES: Final = (
    ("0", "done"),
    ("1", "the command line makes no sense"),
    ("2", "a connection string or a setting cannot be used"),
    ("3", "the work directory forbids it: in use, of another run, full, damaged; or what it needs is not there"),
    ("4", "checks found problems; nothing was changed"),
    ("5", "pg_dump or pg_restore missing, unusable or failed"),
    ("6", "error of the source"),
    ("7", "error of the target"),
    ("12", "anything else: stopped on request, some objects failed, a difference was found"),
    ("122", "a defect of the program; --debug shows where"),
)
_LOG_VARIABLES: Final = (
    ("PGCOPYDB_LOG_JSON", "JSON lines on stderr"),
    ("PGCOPYDB_LOG_TIME_FORMAT", "time format of text lines (strftime)"),
    ("PGCOPYDB_LOG_FILENAME", "write the log to this file too"),
    ("PGCOPYDB_LOG_JSON_FILE", "that file as JSON lines"),
)


def man_pages(root: click.Context) -> dict[Path, str]:
    """Every page, by its path."""
    pages = {FOLDER / "pgcopydb.1": _main_page(root)}
    for context in children(root):
        if context.info_name == "help":
            continue
        pages[FOLDER / f"pgcopydb-{context.info_name}.1"] = _page(context)
    return pages


def children(context: click.Context) -> list[click.Context]:
    """The commands below, in alphabetical order; none of a command that is no group."""
    commands: Mapping[str, click.Command] = getattr(context.command, "commands", {})
    return [click.Context(command, parent=context, info_name=name) for name, command in sorted(commands.items())]


def shown_options(context: click.Context) -> list[click.Option]:
    """Those that ``--help`` shows."""
    params = context.command.get_params(context)
    return [each for each in params if isinstance(each, click.Option) and not each.hidden]


def variables(option: click.Option) -> list[str]:
    """The environment variables that an option is read from."""
    if option.envvar is None:
        return []
    return [option.envvar] if isinstance(option.envvar, str) else list(option.envvar)


def takes_value(option: click.Option) -> bool:
    return not option.is_flag and not option.count


def value_of(option: click.Option) -> str:
    """What stands for the value of an option in a text."""
    if isinstance(option.type, click.Choice):
        return "/".join(str(getattr(choice, "value", choice)) for choice in option.type.choices)
    return option.metavar or option.type.name.upper()


def plain(text: str | None) -> str:
    """One line without the marks of the manual."""
    return " ".join((text or "").replace("`", "").split())


def _roff(text: str) -> str:
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("…", "...")
    return re.sub(r"^\.", r"\\&.", escaped)


def _head(name: str) -> Iterator[str]:
    yield f'.TH "{_roff(name.upper())}" 1 "" pgcopydb "pgcopydb manual"'
    yield ".nh"
    yield ".ad l"
    yield ".SH NAME"


def _main_page(root: click.Context) -> str:
    lines = [*_head("pgcopydb"), _roff("pgcopydb - " + plain(root.command.get_short_help_str(200)))]
    lines += [".SH SYNOPSIS", ".B pgcopydb", "[options] command [arguments]", ".SH DESCRIPTION"]
    lines += _paragraphs(root.command.help)
    lines.append(".SH COMMANDS")
    for context in children(root):
        lines += _tagged(f"\\fBpgcopydb\\-{_roff(context.info_name or '')}\\fR(1)", _first_line(context))
    lines += [".SH OPTIONS", *_options(shown_options(root))]
    lines += [".SH ENVIRONMENT", *(_line for name, text in _LOG_VARIABLES for _line in _tagged(_bold(name), text))]
    lines += ["Each option of a command names the variable that it is read from.", *_ending(".SH EXIT STATUS")]
    return "\n".join(lines) + "\n"


def _page(context: click.Context) -> str:
    name = f"pgcopydb-{context.info_name}"
    lines = [*_head(name), _roff(f"{name} - {_first_line(context).rstrip('.')}")]
    leaves = [*_leaves(context)]
    lines.append(".SH SYNOPSIS")
    for leaf in leaves:
        lines += [f".B {_roff(leaf.command_path)}", _roff(_usage(leaf)), ".br"]
    lines.pop()
    shared = _shared(leaves) if len(leaves) > 1 else []
    lines += [".SH DESCRIPTION", *_paragraphs(context.command.help)]
    if len(leaves) > 1:
        lines.append(".SH COMMANDS")
        for options, alike in groupby(leaves, lambda leaf: "\n".join(_own_options(leaf, shared))):
            for leaf in alike:
                lines += [f'.SS "{_roff(leaf.command_path)}"', *_paragraphs(leaf.command.help)]
            lines += [options] if options else []
    lines.append(".SH OPTIONS")
    if len(leaves) > 1:
        lines.append("All of these commands take:")
    lines += _options([option for option in shown_options(leaves[0]) if not shared or option.opts in shared])
    lines += _ending(".SH EXIT STATUS")
    return "\n".join(lines) + "\n"


def _own_options(leaf: click.Context, shared: Sequence[list[str]]) -> Iterator[str]:
    """Commands that stand behind each other and take the same have them listed once, behind the last."""
    return _options([option for option in shown_options(leaf) if option.opts not in shared])


def _leaves(context: click.Context) -> Iterator[click.Context]:
    below = children(context)
    if not below:
        yield context
    for child in below:
        yield from _leaves(child)


def _shared(leaves: Sequence[click.Context]) -> list[list[str]]:
    """Options that all commands take, by their names."""
    first, *others = [[option.opts for option in shown_options(leaf)] for leaf in leaves]
    return [names for names in first if all(names in other for other in others)]


def _usage(leaf: click.Context) -> str:
    arguments = [param.make_metavar(leaf) for param in leaf.command.params if isinstance(param, click.Argument)]
    return " ".join(["[options]", *arguments])


def _first_line(context: click.Context) -> str:
    return plain((context.command.help or "").split("\n\n", maxsplit=1)[0])


def _paragraphs(text: str | None) -> Iterator[str]:
    for paragraph in (text or "").split("\n\n"):
        yield ".PP"
        yield _roff(plain(paragraph))


def _options(options: Sequence[click.Option]) -> Iterator[str]:
    for option in options:
        names = ", ".join(_bold(name) for name in option.opts)
        value = f" \\fI{_roff(value_of(option))}\\fR" if takes_value(option) else ""
        read_from = "".join(f" Environment: {name}." for name in variables(option))
        yield from _tagged(names + value, plain(option.help) + read_from)


def _bold(text: str) -> str:
    return f"\\fB{_roff(text)}\\fR"


def _tagged(tag: str, text: str) -> Iterator[str]:
    yield ".TP"
    yield tag
    yield _roff(text)


def _ending(heading: str) -> Iterator[str]:
    yield heading
    for code, text in _EXIT_CODES:
        yield from _tagged(_bold(code), text)
    yield ".SH SEE ALSO"
    yield "\\fBpgcopydb\\fR(1), \\fBpg_dump\\fR(1), \\fBpg_restore\\fR(1)"
