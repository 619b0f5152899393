"""The manual and ``--help`` say of every option what it does, and the generated page is what the program declares."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
import typer

from docs.generate import PAGE, pages
from docs.roff import variables
from pgcopydb.cli.main import application

MANUAL = Path(PAGE).parent


def options() -> list[tuple[str, click.Option]]:
    clone = typer.main.get_command(application()).commands["clone"]  # type: ignore[attr-defined]
    return [(option.opts[0], option) for option in clone.params if isinstance(option, click.Option)]


@pytest.mark.parametrize(("page", "text"), [*pages().items()], ids=lambda value: getattr(value, "name", ""))
def test_the_generated_page_is_up_to_date(page: Path, text: str) -> None:
    assert page.read_text(encoding="utf-8") == text, "run `make docs`"


@pytest.mark.parametrize(("name", "option"), options(), ids=lambda value: value if isinstance(value, str) else "")
def test_an_option_of_clone_is_explained(name: str, option: click.Option) -> None:
    assert option.help, name
    page = (MANUAL / "clone.md").read_text(encoding="utf-8")
    assert f"`{name}" in page, f"{name} is not on clone's manual page"
    for variable in variables(option):
        assert variable in page, f"{variable} is not on clone's manual page"


ROOT = MANUAL.parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), f"{page.name} links to {link}"


@pytest.mark.parametrize("name", ["follow", "stream"])
def test_every_command_of_the_group_is_explained(name: str) -> None:
    """Options that are on no page of their own are on the generated one."""
    command = typer.main.get_command(application()).commands[name]  # type: ignore[attr-defined]
    page = (MANUAL / f"{name}.md").read_text(encoding="utf-8")
    for child in getattr(command, "commands", {}):
        assert f"`{name} {child}" in page or f"## {name} {child}" in page, f"{name} {child} is on no page"
