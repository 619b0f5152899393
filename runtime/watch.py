"""Notice that a file of a folder was written, without asking again and again.

Linux's inotify (man 7 inotify) through the C library: the standard library has no binding. ``fileno`` is readable when
something was created, renamed or written since the last ``drain``. Which file it was is not said: readers look anyway.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from pgcopydb.runtime.errors import StateError

_MODIFY: Final = 0x2
_MOVED_TO: Final = 0x80
_CREATE: Final = 0x100
_BUFFER_BYTES: Final = 1 << 16

_libc: Final = ctypes.CDLL(None, use_errno=True)


class FolderWatch:
    """Watches one folder."""

    def __init__(self, folder: Path) -> None:
        """Raises ``StateError`` when the kernel gives no watch, or there is no such folder."""
        self._fd: int = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0 or _libc.inotify_add_watch(self._fd, os.fsencode(folder), _MODIFY | _MOVED_TO | _CREATE) < 0:
            reason = os.strerror(ctypes.get_errno())
            self.close()
            raise StateError(
                f"watching {folder}: {reason}",
                hint="Raise fs.inotify.max_user_instances and fs.inotify.max_user_watches with sysctl if they are used"
                " up.",
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _exc: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def fileno(self) -> int:
        return self._fd

    def drain(self) -> None:
        """Forget what has happened so far. Read the files after this, not before."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self._fd, _BUFFER_BYTES):
                pass


def wait_for_any(descriptors: Sequence[int], seconds: float) -> set[int]:
    """Those that are readable, or have failed, at the latest after so many seconds."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return {descriptor for descriptor, _ in poll.poll(max(0.0, seconds) * 1000)}
