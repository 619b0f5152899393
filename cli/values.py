"""What an option's text must be: for typer, which also hands defaults through. A bad one is a usage error."""

from __future__ import annotations

import re
from collections.abc import Callable

import click
import typer

from pgcopydb.postgres.lsn import Lsn
from pgcopydb.runtime.errors import UsageError
from pgcopydb.runtime.sizes import parse_size


def size_option(text: str | int) -> int:
    """For typer, which also hands the default through: a size in bytes; a bad one is a usage error."""
    try:
        return text if isinstance(text, int) else parse_size(text)
    except UsageError as exc:
        raise typer.BadParameter(f"{exc.message}. {exc.hint}") from exc


def whole_number(least: int, most: int | None = None) -> Callable[[str | int], int]:
    """For typer: a number within bounds; the message names the value, which typer's own does not."""
    bounds = f"of at least {least}" if most is None else f"from {least} to {most}"

    def parse(text: str | int) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least or (most is not None and number > most):
            raise typer.BadParameter(f"{text!r} is not a whole number {bounds}")
        return number

    return parse


def slot_name(text: str) -> str:
    """For typer: a name that the server accepts for a slot."""
    if re.fullmatch(r"[a-z0-9_]{1,56}", text) is None:
        raise typer.BadParameter(f"{text!r} is not a slot name: lower-case letters, digits and _, at most 56 of them")
    return text


def lsn_option(text: str | Lsn) -> Lsn:
    """For typer, which also hands the default through: a WAL position."""
    try:
        return text if isinstance(text, Lsn) else Lsn.parse(text)
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from exc


class Pairs(click.types.StringParamType):
    """Text with ``=`` in it; several in one variable, with commas between that stand in no quotes."""

    name = "pair"

    def split_envvar_value(self, rv: str) -> list[str]:
        return [pair for pair in re.findall(r'(?:"[^"]*"|[^",])+', rv) if pair.strip()]
