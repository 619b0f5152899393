"""From the options of a command line to what the copy is asked for."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pgcopydb.bootstrap.options import CloneOptions, CopyFormat, ForeignKeys, Jobs, RestoreOptions, Roles, Skip, Split
from pgcopydb.bootstrap.placement import parse_map
from pgcopydb.cli.contradictions import check_options
from pgcopydb.cli.given import filters_of, requirements_of
from pgcopydb.runtime.errors import UsageError

logger = logging.getLogger("pgcopydb.cli")


def clone_options(values: Mapping[str, Any]) -> CloneOptions:
    """``values``: parameters of a command by name, as ``click.Context.params`` has them: paths and choices as text.

    What a command does not take is as if it was not given.
    """
    get = values.get
    check_options(values)
    return CloneOptions(
        jobs=_jobs(values),
        split=Split(
            get("split_tables_larger_than", 0),
            get("split_max_parts"),
            not get("skip_split_by_ctid", False),
            get("estimate_table_sizes", False),
        ),
        restore=_restore(values),
        skip=Skip(
            get("skip_large_objects", False),
            get("skip_vacuum", False),
            get("skip_analyze", False),
            get("skip_db_properties", False),
        ),
        copy_format=CopyFormat.BINARY if get("use_copy_binary") else CopyFormat(get("copy_format", CopyFormat.AUTO)),
        filters=filters_of(get("filters") and Path(values["filters"]), skip_extensions=get("skip_extensions", False)),
        roles=_roles(values),
        fail_fast=get("fail_fast", False),
        resume=get("resume", False),
        restart=get("restart", False),
        not_consistent=get("not_consistent", False),
        snapshot=get("snapshot"),
        at_once=get("database_jobs", 1) if get("all_databases") else 1,
    )


def tablespace_map_of(pairs: Collection[str] | None, *, no_tablespaces: bool) -> dict[str, str]:
    mapped = parse_map(pairs or ())
    if mapped and no_tablespaces:
        raise UsageError("--tablespace-map and --no-tablespaces exclude each other", hint="Give one of them.")
    return mapped


def _restore(values: Mapping[str, Any]) -> RestoreOptions:
    mapped = tablespace_map_of(values.get("tablespace_map"), no_tablespaces=values.get("no_tablespaces", False))
    given = {name: values.get(name, False) for name in RestoreOptions.__dataclass_fields__}
    file = values.get("requirements")
    pins = requirements_of(file and Path(file), skip_extensions=values.get("skip_extensions", False))
    fk = ForeignKeys(values.get("fk", ForeignKeys.VALID))
    return RestoreOptions(**{**given, "fk": fk, "tablespace_map": mapped, "requirements": pins})


def _jobs(values: Mapping[str, Any]) -> Jobs:
    indexes = values.get("index_jobs", 4)
    return Jobs(
        values.get("table_jobs", 4), indexes, values.get("restore_jobs") or indexes, values.get("large_objects_jobs", 4)
    )


def _roles(values: Mapping[str, Any]) -> Roles:
    if not values.get("roles"):
        if values.get("no_role_passwords"):
            logger.warning("--no-role-passwords says nothing without --roles: no roles are copied")
        return Roles.NO
    return Roles.WITHOUT_PASSWORDS if values.get("no_role_passwords") else Roles.WITH_PASSWORDS
