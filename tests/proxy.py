"""A TCP proxy in front of a server that can cut its connections, refuse new ones and stop passing bytes."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from types import TracebackType
from typing import Final, Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo

_CHUNK: Final = 1 << 16
_RESET: Final = struct.pack("ii", 1, 0)


class Proxy:
    """Passes bytes between whoever connects to ``port`` and the server of ``dsn``, both on 127.0.0.1."""

    def __init__(self, dsn: str) -> None:
        given = conninfo_to_dict(dsn)
        self._server = (str(given["host"]), int(str(given["port"])))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.dsn = make_conninfo(dsn, host="127.0.0.1", port=str(self.port))
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._passed = 0
        self._cut_at: int | None = None
        self._refusing = False
        self._refuse_after = False
        self._flowing = threading.Event()
        self._flowing.set()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def passed(self) -> int:
        """Bytes that have gone through, both ways."""
        return self._passed

    def cut(self) -> None:
        """Reset every connection that is open."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    end.shutdown(socket.SHUT_RDWR)
                end.close()

    def cut_after(self, size: int, *, refuse: bool = False) -> None:
        """Cut once, when so many bytes more have passed; from then on refuse new connections, or not."""
        self._refuse_after = refuse
        self._cut_at = self._passed + size

    def refuse(self) -> None:
        """Reset whoever connects from now on."""
        self._refusing = True

    def accept_again(self) -> None:
        self._refusing = False

    def stall(self) -> None:
        """Keep connections open and pass nothing."""
        self._flowing.clear()

    def flow(self) -> None:
        self._flowing.set()

    def close(self) -> None:
        self._refusing = True
        self._listener.close()
        self.flow()
        self.cut()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _exc: BaseException | None, _tb: TracebackType | None
    ) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                if self._refusing:
                    raise ConnectionRefusedError
                server = socket.create_connection(self._server)
            except OSError:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                client.close()
                continue
            with self._lock:
                self._pairs.append((client, server))
            for here, there in ((client, server), (server, client)):
                threading.Thread(target=self._pass, args=(here, there), daemon=True).start()

    def _pass(self, here: socket.socket, there: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := here.recv(_CHUNK):
                self._flowing.wait()
                there.sendall(chunk)
                self._count(len(chunk))
        for end in (here, there):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _count(self, size: int) -> None:
        with self._lock:
            self._passed += size
            due = self._cut_at is not None and self._passed >= self._cut_at
            if due:
                self._cut_at = None
                self._refusing = self._refuse_after
        if due:
            self.cut()
