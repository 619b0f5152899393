"""What the operator asked a clone for, as frozen values; each part takes the leaf it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from pgcopydb.daemon.slot import StreamOptions
from pgcopydb.postgres.filters import FilterRules
from pgcopydb.postgres.lsn import Lsn


@dataclass(frozen=True, slots=True)
class Jobs:
    """How many workers of each sort run at once."""

    tables: int = 4
    indexes: int = 4
    restore: int = 4
    large_objects: int = 4


@dataclass(frozen=True, slots=True)
class Split:
    """When a table is copied in parts. ``larger_than`` is in bytes; 0 never splits."""

    larger_than: int = 0
    max_parts: int | None = None
    by_ctid: bool = True
    estimate_sizes: bool = False


class ForeignKeys(StrEnum):
    """When the rows that are there are checked against foreign keys."""

    VALID = "valid"
    """When a key is made."""
    NOT_VALID_FIRST = "not-valid-first"
    """When all keys are there, several at once."""


@dataclass(frozen=True, slots=True)
class RestoreOptions:
    """What of the schema is restored, and how."""

    drop_if_exists: bool = False
    no_owner: bool = False
    no_acl: bool = False
    no_comments: bool = False
    no_tablespaces: bool = False
    tablespace_map: Mapping[str, str] = field(default_factory=dict)
    """Tablespaces of the source that have another name on the target."""
    skip_extensions: bool = False
    requirements: Mapping[str, str] | None = None
    """Versions of extensions, by name: each is then created one by one, not by pg_restore."""
    skip_ext_comments: bool = False
    skip_collations: bool = False
    fk: ForeignKeys = ForeignKeys.VALID


@dataclass(frozen=True, slots=True)
class Skip:
    """Steps that are left out."""

    large_objects: bool = False
    vacuum: bool = False
    analyze: bool = False
    db_properties: bool = False


class Step(StrEnum):
    """What a run consists of; commands do one or some of these in a work directory."""

    ROLES = "roles"
    DUMP = "dump"
    EXTENSIONS = "extensions"
    """Created one by one; in a whole clone they are part of pre-data."""
    PRE_DATA = "pre-data"
    EXTENSION_DATA = "extension data"
    TABLE_DATA = "table data"
    LARGE_OBJECTS = "large objects"
    INDEXES = "indexes"
    CONSTRAINTS = "constraints"
    VACUUM = "vacuum"
    SEQUENCES = "sequences"
    POST_DATA = "post-data"
    PROPERTIES = "properties"
    MATVIEWS = "materialized views"


EVERY_STEP: Final = frozenset(Step) - {Step.EXTENSIONS}


class Roles(StrEnum):
    """Whether the roles of the source's server are made on the target's."""

    NO = "no"
    WITHOUT_PASSWORDS = "without passwords"
    WITH_PASSWORDS = "with passwords"


class CopyFormat(StrEnum):
    """In which form rows travel."""

    AUTO = "auto"
    """Binary for larger tables whose types have one binary form on every server, text for the others."""
    TEXT = "text"
    BINARY = "binary"
    """Binary for every table whose types allow it."""


@dataclass(frozen=True, slots=True)
class FollowOptions:
    """Changes are followed beside the copy."""

    stream: StreamOptions
    endpos: Lsn = field(default_factory=Lsn)
    databases: int = 1
    """How many are followed at once."""

    def of_database(self, database: str) -> FollowOptions:
        """For one of several."""
        return replace(self, stream=self.stream.of_database(database))


@dataclass(frozen=True, slots=True)
class CloneOptions:
    """Everything that ``pgcopydb clone`` can be told besides the two servers and the work directory."""

    jobs: Jobs = field(default_factory=Jobs)
    split: Split = field(default_factory=Split)
    restore: RestoreOptions = field(default_factory=RestoreOptions)
    skip: Skip = field(default_factory=Skip)
    copy_format: CopyFormat = CopyFormat.AUTO
    filters: FilterRules = field(default_factory=FilterRules)
    roles: Roles = Roles.NO
    steps: frozenset[Step] = EVERY_STEP
    changed_only: bool = False
    """Of large objects what has changed since they were copied."""
    fail_fast: bool = False
    resume: bool = False
    restart: bool = False
    not_consistent: bool = False
    snapshot: str | None = None
    at_once: int = 1
    """How many databases are copied side by side, each with connections of its own."""
    follow: FollowOptions | None = None
