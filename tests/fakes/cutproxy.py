"""A TCP proxy that spoils the line: slow, cut after so many bytes, swallowed, half closed.

It stands where netem would, for kernels without it. The plan can be changed while connections are open;
byte counts are per connection.
"""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

_CHUNK_BYTES = 16 * 1024
_POLL_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What happens to the bytes. `up` is from the client to the server, `down` the way back."""

    delay_s: float = 0.0  # before every chunk, both ways
    cut_up_after: int | None = None  # both sides are reset once so many bytes went up
    cut_down_after: int | None = None  # both sides are reset once so many bytes came down
    swallow_up: bool = False  # taken from the client, never given to the server: a black hole
    swallow_down: bool = False  # the server's answer never arrives
    end_down_after: int | None = None  # the client sees an orderly end then: a truncated answer
    refuse: bool = False  # new connections are closed at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Where a connection is reset, counted from the beginning of a request."""

    up_after: int | None = None
    down_after: int | None = None


class CutProxy:
    """Listens on a loopback port of its own and connects to `target`, `host:port`."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(_POLL_S)
        self._endpoint = "{}:{}".format(*self._listener.getsockname()[:2])
        self._links: list[_Link] = []
        self._threads: list[threading.Thread] = []
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._cut_next: Cut | None = None
        self._cut_of = b""
        self.line = Line()
        self.connections = 0
        self.cuts = 0
        self._start(self._accept)

    @property
    def endpoint(self) -> str:
        """`host:port` for clients."""
        return self._endpoint

    @property
    def url(self) -> str:
        return f"http://{self.endpoint}"

    @property
    def up_bytes(self) -> int:
        """What clients have sent so far, over all connections."""
        return sum(link.up_bytes for link in self._links)

    @property
    def down_bytes(self) -> int:
        """What servers have sent so far, over all connections."""
        return sum(link.down_bytes for link in self._links)

    @contextmanager
    def spoiled(self, **how: Any) -> Iterator[None]:
        """The line as told, for open connections too; whole again afterwards."""
        before = self.line
        self.line = replace(before, **how)
        try:
            yield
        finally:
            self.line = before

    def cut_once(self, cut: "Cut", of: bytes = b"") -> None:
        """The next HTTP PUT, of something with `of` in its path, is cut off, on a kept connection or a new
        one; all after that goes through.
        """
        with self._lock:
            self._cut_next, self._cut_of = cut, of

    def take_cut(self, request_line: bytes) -> "Cut | None":
        with self._lock:
            if self._cut_of not in request_line:
                return None
            cut, self._cut_next = self._cut_next, None
        return cut

    def count_cut(self) -> None:
        with self._lock:
            self.cuts += 1

    def cut_all(self) -> None:
        """Reset every connection there is; soon, as whoever reads from it looks now and then."""
        for link in list(self._links):
            link.over.set()

    def wait_cut(self) -> None:
        """Until they are, after `cut_all`: clients have been told by then."""
        for link in list(self._links):
            assert link.closed.wait(30), "a connection is still there"

    def close(self) -> None:
        self._closing.set()
        self.cut_all()
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def _start(self, work: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=work, args=args, name="cutproxy", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            self.connections += 1
            self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        link: _Link | None = None
        with client, contextlib.suppress(OSError):
            _close_by_reset(client)
            if self.line.refuse:
                return
            with socket.create_connection(self._target, 5) as server:
                link = _Link(client=client, server=server, proxy=self)
                self._links.append(link)
                down = threading.Thread(target=link.pump, args=(False,), name="cutproxy-down", daemon=True)
                down.start()
                link.pump(True)
                down.join()
        if link is not None:
            link.closed.set()


@dataclass(slots=True, kw_only=True)
class _Link:
    """One client's connection and its twin to the server; `over` ends both, `closed` says that they are."""

    client: socket.socket
    server: socket.socket
    proxy: CutProxy
    over: threading.Event = field(default_factory=threading.Event)
    closed: threading.Event = field(default_factory=threading.Event)
    up_bytes: int = 0
    down_bytes: int = 0
    own: Line | None = None

    def pump(self, up: bool) -> None:
        source, target = (self.client, self.server) if up else (self.server, self.client)
        source.settimeout(_POLL_S)
        try:
            while not self.over.is_set():
                try:
                    chunk = source.recv(_CHUNK_BYTES)
                except TimeoutError:
                    continue
                if self.over.is_set():  # cut while this was waiting
                    return
                if not chunk:
                    target.shutdown(socket.SHUT_WR)
                    return
                self._pass(chunk, target, up)
        except OSError:
            self.over.set()

    def _pass(self, chunk: bytes, target: socket.socket, up: bool) -> None:
        line = self._line(chunk, up)
        if line.delay_s:
            self.over.wait(line.delay_s)
        passed = self.up_bytes if up else self.down_bytes
        self.up_bytes += len(chunk) if up else 0
        self.down_bytes += 0 if up else len(chunk)
        limits = (line.cut_up_after,) if up else (line.cut_down_after, line.end_down_after)
        for limit in limits:
            if limit is not None and passed + len(chunk) > limit:
                _send(target, chunk[: max(0, limit - passed)])
                if limit == line.end_down_after and not up:
                    _end_in_order(target)
                self.proxy.count_cut()
                self.over.set()
                return
        if not (line.swallow_up if up else line.swallow_down):
            _send(target, chunk)

    def _line(self, chunk: bytes, up: bool) -> Line:
        """The proxy's, or this link's own once it is to be cut."""
        line = chunk.split(b"\r\n", 1)[0] if up else b""
        if line.startswith(b"PUT ") and (cut := self.proxy.take_cut(line)) is not None:
            up_limit = None if cut.up_after is None else self.up_bytes + cut.up_after
            down_limit = None if cut.down_after is None else self.down_bytes + cut.down_after
            self.own = replace(self.proxy.line, cut_up_after=up_limit, cut_down_after=down_limit)
        return self.own or self.proxy.line


def _send(target: socket.socket, data: bytes) -> None:
    """Whole, however slowly the other side reads; the timeout set for receiving is not for this."""
    view = memoryview(data)
    while view:
        with contextlib.suppress(TimeoutError):
            view = view[target.send(view) :]


def _close_by_reset(sock: socket.socket) -> None:
    """Closing sends RST instead of FIN: the peer is not told in an orderly way (SO_LINGER of 0 s)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _end_in_order(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))
    sock.shutdown(socket.SHUT_WR)
