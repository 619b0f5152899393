"""Names of objects and their quoting (PostgreSQL documentation, "Identifiers and Key Words" and "String Constants")."""

from __future__ import annotations

from dataclasses import dataclass


def quote_ident(name: str) -> str:
    """Always quoted: whether a name needs quotes depends on the server's version, and quotes never hurt."""
    return '"' + name.replace('"', '""') + '"'


def quote_literal(text: str) -> str:
    """A string constant that means the same whatever ``standard_conforming_strings`` is."""
    quoted = "'" + text.replace("'", "''") + "'"
    return "E" + quoted.replace("\\", "\\\\") if "\\" in text else quoted


@dataclass(frozen=True, slots=True, order=True)
class Name:
    """Schema and name of a relation as they stand in the catalogs, unquoted."""

    schema: str
    name: str

    @property
    def sql(self) -> str:
        """For use in a statement."""
        return f"{quote_ident(self.schema)}.{quote_ident(self.name)}"

    def __str__(self) -> str:
        """For people: one line, whatever the name holds."""
        return f"{self.schema}.{self.name}".replace("\n", "\\n").replace("\r", "\\r")
