"""Connection strings: what the user gave, without ever showing its secrets.

A string is a URI or libpq's keyword form; service files, passfiles and the ``PG*`` variables are libpq's business and
are honoured because libpq itself opens every connection. Passwords leave this module in two ways only: into libpq, and
into the environment of a child program.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgcopydb.runtime.errors import ConfigError, SourceError, TargetError, UsageError

SECRETS: Final = frozenset({"password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"})

_KEEPALIVES: Final = {
    "keepalives": "1",
    "keepalives_idle": "10",
    "keepalives_interval": "10",
    "keepalives_count": "60",
    # Of what was sent and is not acknowledged; while that is so nothing else is asked.
    "tcp_user_timeout": "610000",
}
_CONNECT_SECONDS: Final = "10"
_SOON: Final = {"keepalives_count": "6", "tcp_user_timeout": "70000"}
"""For a session that is easily made again: a machine that is gone is missed after 70 seconds instead of ten minutes."""


class Side(StrEnum):
    """Which of the two servers."""

    SOURCE = "source"
    TARGET = "target"

    @property
    def variable(self) -> str:
        """The environment variable that holds this side's connection string."""
        return f"PGCOPYDB_{self.upper()}_PGURI"

    @property
    def error(self) -> type[SourceError] | type[TargetError]:
        """The error type of this side."""
        return SourceError if self is Side.SOURCE else TargetError


@dataclass(frozen=True, slots=True)
class ConnInfo:
    """One side's connection parameters, as given (libpq has not added its defaults yet)."""

    side: Side
    params: Mapping[str, str] = field(repr=False)
    soon: bool = False
    """Whether its sessions notice the loss of their server soon."""

    @classmethod
    def parse(cls, side: Side, text: str | None) -> ConnInfo:
        """Raises ``UsageError`` when nothing was given and ``ConfigError`` when libpq could not use it."""
        if not text:
            raise UsageError(
                f"no connection string for the {side}",
                hint=f"Give --{side} or set {side.variable}, e.g. postgres://user@host:5432/dbname",
            )
        try:
            params = {key: str(value) for key, value in conninfo_to_dict(text).items() if value is not None}
        except psycopg.ProgrammingError as exc:
            # libpq repeats the string in its message, and with it the password.
            raise ConfigError(
                f"--{side} ({side.variable}) is not a connection string that libpq can read",
                hint="Write postgres://user@host:port/dbname with special characters percent-encoded, "
                "or host=… port=… dbname=… user=…",
            ) from _without_text(exc)
        for port in params.get("port", "").split(","):
            if port and not (port.isdigit() and 1 <= int(port) <= 65535):
                raise ConfigError(
                    f"--{side} ({side.variable}): {port!r} is not a port", hint="Write a number from 1 to 65535."
                )
        return cls(side, params)

    def libpq(self, title: str) -> str:
        """The full string for libpq, secrets included: never to be logged, never an argument of a child."""
        return make_conninfo("", **{**self._defaults(), **self.params, "application_name": title[:63]})

    def with_settings(self, settings: Mapping[str, str]) -> ConnInfo:
        """The same server, each session beginning with these settings; for programs that open their own."""
        given = self.params.get("options", os.environ.get("PGOPTIONS", ""))
        added = [f"-c {name}={_for_options(value)}" for name, value in settings.items()]
        return replace(self, params={**self.params, "options": " ".join([given, *added]).strip()})

    def of_database(self, name: str) -> ConnInfo:
        """The same server, another database of it."""
        return replace(self, params={**self.params, "dbname": name})

    def text(self) -> str:
        """The whole string as it was given, for the environment of a process of this program: secrets included."""
        return make_conninfo("", **self.params)

    def child_dsn(self) -> str:
        """The string for a child's argument list: no secret in it."""
        public = {key: value for key, value in self.params.items() if key not in SECRETS}
        return make_conninfo("", **{**self._defaults(), **public})

    def child_environment(self, title: str) -> dict[str, str]:
        """The environment for a child program that connects to this side.

        Raises ``ConfigError`` for a secret that libpq's environment has no variable for.
        """
        unsupported = sorted(SECRETS.intersection(self.params) - {"password"})
        if unsupported:
            raise ConfigError(
                f"--{self.side}: {', '.join(unsupported)} cannot be handed to pg_dump without showing it",
                hint="Keep it in a service file (service=…), or use a key file that needs no password.",
            )
        environment = {**os.environ, "PGAPPNAME": title[:63]}
        if "password" in self.params:
            environment["PGPASSWORD"] = self.params["password"]
        return environment

    def noticing_loss(self) -> ConnInfo:
        """The same server, for sessions that lose nothing when they are made again. What was given counts more."""
        return replace(self, soon=True)

    def display(self) -> str:
        """For people and logs: without secrets."""
        public = {key: value for key, value in self.params.items() if key not in SECRETS}
        return make_conninfo("", **public) or "(libpq's defaults)"

    def _defaults(self) -> dict[str, str]:
        defaults = {**_KEEPALIVES, **(_SOON if self.soon else {})}
        if "PGCONNECT_TIMEOUT" not in os.environ:
            defaults["connect_timeout"] = _CONNECT_SECONDS
        return defaults


def _for_options(value: str) -> str:
    """A word of libpq's ``options``."""
    return re.sub(r"([\\\s])", r"\\\1", value)


def _without_text(exc: Exception) -> Exception:
    return type(exc)("details withheld: they may hold a password")
