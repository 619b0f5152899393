"""A TCP proxy in front of a server that can cut its connections or half of them, refuse new ones, and pass bytes slowly
or not at all."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from types import TracebackType
from typing import Final, Literal, Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo

_CHUNK: Final = 1 << 16
_SLOW_CHUNK: Final = 1 << 12
_RESET: Final = struct.pack("ii", 1, 0)

Half = Literal["client", "server"]


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
        self._rate = 0.0
        self._closed = threading.Event()
        self._told = b""
        self._told_passes = 0
        self._told_skips = 0
        self.told = 0
        """How often it was cut in an answer."""
        self._orphans: list[socket.socket] = []
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

    def lose(self, half: Half) -> None:
        """Of every open connection; the other end is not told, as behind a balancer that has forgotten it."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for client, server in pairs:
            kept, lost = (client, server) if half == "server" else (server, client)
            self._orphans.append(kept)
            lost.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            with contextlib.suppress(OSError):
                lost.shutdown(socket.SHUT_RDWR)
            lost.close()

    def throttle(self, rate: float) -> None:
        """Pass so many bytes a second in each direction of a connection; 0 is as many as come."""
        self._rate = rate

    def cut_in_answer(self, answer: bytes, passes: int, skips: int = 0) -> None:
        """Once, when the server says this the next time but ``skips``: pass so many bytes of it, and cut."""
        self._told_passes, self._told_skips = passes, skips
        self._told = answer

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
        self._closed.set()
        self.flow()
        self.cut()
        for end in self._orphans:
            # A thread that reads from it would keep it open.
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

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
                threading.Thread(target=self._pass, args=(here, there, there is client), daemon=True).start()

    def _pass(self, here: socket.socket, there: socket.socket, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while chunk := here.recv(_CHUNK if not self._rate else _SLOW_CHUNK):
                self._flowing.wait()
                if answers and self._is_cut_in(chunk, there):
                    break
                there.sendall(chunk)
                self._count(len(chunk))
                if rate := self._rate:
                    self._closed.wait(len(chunk) / rate)
        if here in self._orphans or there in self._orphans:
            return
        for end in (here, there):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _is_cut_in(self, chunk: bytes, there: socket.socket) -> bool:
        """An answer that is spread over two chunks is waited for once more."""
        with self._lock:
            found = chunk.find(self._told) if self._told else -1
            if found < 0:
                return False
            if self._told_skips:
                self._told_skips -= 1
                return False
            self._told = b""
            self.told += 1
        there.sendall(chunk[: found + self._told_passes])
        self.cut()
        return True

    def _count(self, size: int) -> None:
        with self._lock:
            self._passed += size
            due = self._cut_at is not None and self._passed >= self._cut_at
            if due:
                self._cut_at = None
                self._refusing = self._refuse_after
        if due:
            self.cut()
