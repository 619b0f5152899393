"""Files that survive a crash.

``write_atomic`` makes new content visible in one step: write aside, fsync, rename, fsync of the folder.
This module is the only one that renames or fsyncs. A full disk is raised as ``DiskFull``.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pgcopydb.runtime.errors import DiskFull, StateError

_LOOK: Final = "Look at this path, or choose another work directory with --dir."
_HINTS: Final = {
    errno.EACCES: "Give this user the permission, or choose another work directory with --dir.",
    errno.EROFS: "This file system is mounted read-only: choose another work directory with --dir.",
    errno.EIO: "The disk reports errors: look into the kernel's log before trying again.",
}


@contextmanager
def disk_errors(path: Path, doing: str) -> Iterator[None]:
    """Turn an ``OSError`` of the block into a typed error that names the path and what was being done."""
    try:
        yield
    except OSError as exc:
        reason = exc.strerror or str(exc)
        if exc.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DiskFull(
                f"{doing} {path}: {reason}",
                hint="Free some room on this file system, then run the same command with --resume.",
            ) from exc
        raise StateError(f"{doing} {path}: {reason}", hint=_HINTS.get(exc.errno or 0, _LOOK)) from exc


def fsync_directory(folder: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_atomic(path: Path, content: bytes) -> None:
    """Replace ``path`` with ``content``: a reader sees the old file or the new one, also after a power cut."""
    aside = path.with_name(f".{path.name}.new")
    with disk_errors(path, "writing"):
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        publish(aside, path)


def publish(aside: Path, path: Path) -> None:
    """Give a file that is already complete and flushed its final name."""
    aside.replace(path)
    fsync_directory(path.parent)


def fsync_file(path: Path) -> None:
    """Make the content of a file that another program wrote durable."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
