"""Completion for bash, zsh and fish: ``docs/completion/*``, as the program declares itself.

The scripts hold all words: to start the program for each press of the key would take half a second.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import click

from docs.roff import children, plain, shown_options, takes_value

FOLDER: Final = Path(__file__).parent / "completion"

_PATHS: Final = frozenset({"FILE", "PATH"})


def completions(root: click.Context) -> dict[Path, str]:
    """Every script, by its path: the names are those under which the shells look for them."""
    return {
        FOLDER / "pgcopydb": _bash(root),
        FOLDER / "_pgcopydb": _zsh(root),
        FOLDER / "pgcopydb.fish": _fish(root),
    }


def _all(context: click.Context) -> Iterator[click.Context]:
    yield context
    for child in children(context):
        yield from _all(child)


def _path(context: click.Context) -> str:
    return context.command_path.partition(" ")[2]


def _choices(option: click.Option) -> list[str]:
    if not isinstance(option.type, click.Choice):
        return []
    return [str(getattr(choice, "value", choice)) for choice in option.type.choices]


def _is_path(option: click.Option) -> bool:
    return option.metavar in _PATHS


def _summary(context: click.Context) -> str:
    return plain((context.command.help or "").split("\n\n", maxsplit=1)[0])


def _said(option: click.Option) -> str:
    """The first sentence of its help."""
    return re.split(r"(?<=[a-z)])[.;:] ", plain(option.help), maxsplit=1)[0].rstrip(".")


def _by_body(parts: Iterable[tuple[str, tuple[str, ...]]]) -> Iterator[tuple[list[str], tuple[str, ...]]]:
    """What several have in common is written once: paths of commands, and the lines that are the same for them."""
    found: dict[tuple[str, ...], list[str]] = {}
    for path, lines in parts:
        found.setdefault(lines, []).append(path)
    for lines, paths in found.items():
        yield paths, lines


def _patterns(paths: Iterable[str]) -> str:
    return " | ".join(f'"{path}"' for path in paths)


def _takes_files(context: click.Context) -> bool:
    return any(
        isinstance(param, click.Argument) and re.search("FILE|JSON|SQL", param.metavar or "")
        for param in context.command.params
    )


_BASH: Final = """\
# bash completion of pgcopydb, written by `make docs`.
_pgcopydb() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} path="" words="" i
    if [[ $cur == "=" ]]; then
        cur=""
    elif [[ $prev == "=" ]]; then
        prev=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "$path ${COMP_WORDS[i]}" in
            @COMMANDS@) path="$path ${COMP_WORDS[i]}" ;;
        esac
    done
    path=${path# }
    COMPREPLY=()
    case "$path:$prev" in
@VALUES@
    esac
    case "$path" in
@WORDS@
    esac
    if [[ $cur != -* && $words == FILES* ]]; then
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return
    fi
    mapfile -t COMPREPLY < <(compgen -W "${words#FILES }" -- "$cur")
}
complete -F _pgcopydb pgcopydb
"""


def _bash(root: click.Context) -> str:
    contexts = [*_all(root)]
    values = [(f"{_path(each)}:{name}", lines) for each in contexts for name, lines in _bash_values(each)]
    words = [(_path(each), (f'words="{_bash_words(each)}"',)) for each in contexts]
    text = _BASH.replace("@COMMANDS@", _patterns(f" {_path(each)}" for each in contexts if _path(each)))
    return text.replace("@VALUES@", _bash_cases(values)).replace("@WORDS@", _bash_cases(words))


def _bash_cases(parts: Iterable[tuple[str, tuple[str, ...]]]) -> str:
    lines = []
    for paths, body in _by_body(parts):
        lines += [f"        {_patterns(paths)})", *(f"            {line}" for line in body), "            ;;"]
    return "\n".join(lines)


def _bash_values(context: click.Context) -> Iterator[tuple[str, tuple[str, ...]]]:
    for option in filter(takes_value, shown_options(context)):
        lines: tuple[str, ...] = ("return",)
        if choices := _choices(option):
            lines = (f'mapfile -t COMPREPLY < <(compgen -W "{" ".join(choices)}" -- "$cur")', *lines)
        elif _is_path(option):
            lines = ("compopt -o filenames 2>/dev/null", 'mapfile -t COMPREPLY < <(compgen -f -- "$cur")', *lines)
        yield from ((name, lines) for name in option.opts)


def _bash_words(context: click.Context) -> str:
    names = [child.info_name or "" for child in children(context)]
    names += [name for option in shown_options(context) for name in option.opts]
    return ("FILES " if _takes_files(context) else "") + " ".join(names)


_ZSH: Final = """\
#compdef pgcopydb
# zsh completion of pgcopydb, written by `make docs`.
_pgcopydb() {
    local at=""
    local -i i depth=1
    local -a commands
    for ((i = 2; i < CURRENT; i++)); do
        case "$at ${words[i]}" in
            @COMMANDS@)
                at="$at ${words[i]}"
                depth=$i
                ;;
        esac
    done
    # What stands before the last word of the command's name is nothing to complete.
    words=("${(@)words[$depth,-1]}")
    ((CURRENT -= depth - 1))
    case "${at# }" in
@CASES@
    esac
}
_pgcopydb "$@"
"""


def _zsh(root: click.Context) -> str:
    contexts = [*_all(root)]
    lines = []
    for paths, body in _by_body((_path(each), (*_zsh_body(each),)) for each in contexts):
        lines += [f"        {_patterns(paths)})", *(f"            {line}" for line in body), "            ;;"]
    commands = _patterns(f" {_path(each)}" for each in contexts if _path(each))
    return _ZSH.replace("@COMMANDS@", commands).replace("@CASES@", "\n".join(lines))


def _zsh_body(context: click.Context) -> Iterator[str]:
    below = children(context)
    if below:
        yield "commands=("
        yield from (f"    {_quoted(f'{child.info_name}:{_summary(child)}')}" for child in below)
        yield ")"
        yield "if [[ ${words[CURRENT]} != -* ]]; then"
        yield "    _describe command commands"
        yield "    return"
        yield "fi"
    yield "_arguments -s \\"
    for option in shown_options(context):
        for name in option.opts:
            yield f"    {_quoted(_zsh_option(option, name))} \\"
    yield f"    {_quoted('*:file:_files')}" if _takes_files(context) else "    && return"


def _zsh_option(option: click.Option, name: str) -> str:
    said = re.sub(r"([\[\]:\\])", r"\\\1", _said(option))
    equals = "=" if name.startswith("--") else "+"
    if not takes_value(option):
        return f"*{name}[{said}]"
    choices = _choices(option)
    action = f"({' '.join(choices)})" if choices else "_files" if _is_path(option) else " "
    return f"*{name}{equals}[{said}]:{(option.metavar or 'value').lower()}:{action}"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _fish(root: click.Context) -> str:
    contexts = [*_all(root)]
    commands = " ".join(_quoted_fish(_path(each)) for each in contexts if _path(each))
    lines = ["# fish completion of pgcopydb, written by `make docs`.", f"set -g __pgcopydb_commands {commands}"]
    lines += _FISH.splitlines()
    lines += [
        f"complete -c pgcopydb -n {_quoted(' '.join(['__pgcopydb_at', *map(_quoted_fish, paths)]))} {body[0]}"
        for paths, body in _by_body((_path(each), (line,)) for each in contexts for line in _fish_lines(each))
    ]
    return "\n".join(lines) + "\n"


def _fish_lines(context: click.Context) -> Iterator[str]:
    below = children(context)
    for child in below:
        yield f"-f -a {child.info_name} -d {_quoted_fish(_summary(child))}"
    for option in shown_options(context):
        yield f"{_fish_option(option)} -d {_quoted_fish(_said(option))}"
    if not _takes_files(context) and not below:
        yield "-f"


_FISH: Final = """\
function __pgcopydb_at
    set -l at
    for word in (commandline -opc)[2..-1]
        if contains -- (string join -- ' ' $at $word) $__pgcopydb_commands
            set -a at $word
        end
    end
    contains -- "$at" $argv
end
"""


def _quoted_fish(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _fish_option(option: click.Option) -> str:
    names = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.opts)
    if not takes_value(option):
        return names
    choices = _choices(option)
    if choices:
        return f"{names} -x -a {_quoted_fish(' '.join(choices))}"
    return f"{names} -r -F" if _is_path(option) else f"{names} -x"
