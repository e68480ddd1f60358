"""One HTTP/1.1 request and its answer over kept connections: the part of a put that is paid per object.

What flows through: a method, a target, headers, a body in blocks; back come status, headers and a small
body. It does not know S3, and never tries anything twice. Written because the clients' own way costs four
times the CPU per request (docs/reference/s3-stores.md has the figures); it serves only their many small
requests, whose answers are short. Sources: RFC 9112 (framing), RFC 9110 (meaning).
"""

import contextlib
import os
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from cctv_storaged.backends.body import Body, Deadline, Extent
from cctv_storaged.errors import BackendUnavailable, SourceChanged

_HEAD_MAX_BYTES = 64 * 1024
_BODY_MAX_BYTES = 4 * 1024 * 1024
_RECEIVE_BYTES = 16 * 1024
_TIMEOUT_SLACK_S = 0.25  # a timeout is not set anew for less
_IDLE_MAX_S = 15.0  # servers close idle connections after 20 s and more; an older one is not trusted


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Status, headers (lower-case names; repeated ones joined by a comma), body."""

    status: int
    headers: Mapping[str, str]
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Limits of one request; `object_base_s` is what an object is granted on top of its bytes at 256 kB/s."""

    connect_s: float = 5.0
    read_s: float = 30.0
    object_base_s: float = 30.0


class Wire:
    """Kept connections to one origin. Safe to use from many threads; each request has its own connection."""

    def __init__(
        self, origin: str, *, timeouts: Timeouts, keep: int, tls: ssl.SSLContext | None = None
    ) -> None:
        """`origin` is `http[s]://host:port`; at most `keep` connections wait for reuse."""
        parts = urlsplit(origin)
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = tls if parts.scheme == "https" else None
        self._timeouts = timeouts
        self._keep = keep
        self._lock = threading.Lock()
        self._idle: list[_Connection] = []
        self._busy: set[_Connection] = set()
        self._closed = False

    def exchange(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: Body | bytes | None = None,
        deadline: Deadline | None = None,
    ) -> Answer:
        """Send the request and read the answer whole. BackendUnavailable(network) where that fails."""
        deadline = deadline or Deadline(self._timeouts.object_base_s)
        connection = self._take(deadline)
        reusable = False
        try:
            answer, reusable = connection.exchange(
                _head(method, target, headers, body), body, method=method, deadline=deadline
            )
        except TimeoutError as exc:
            raise BackendUnavailable(f"{self._where()} does not answer: {exc}", reason="network") from exc
        except (OSError, _Garbled) as exc:
            raise BackendUnavailable(f"connection to {self._where()} broke: {exc}", reason="network") from exc
        finally:
            self._give_back(connection, reusable)
        return answer

    def close(self) -> None:
        """Close what is idle and cut what is under way, so that no thread stays behind in a slow socket."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            busy = list(self._busy)
        for connection in idle:
            connection.cut()
        for connection in busy:
            connection.interrupt()  # its own thread closes it: a closed descriptor's number may come back

    def _where(self) -> str:
        return f"{self._host}:{self._port}"

    def _take(self, deadline: Deadline) -> "_Connection":
        while (connection := self._pop_idle()) is not None:
            if connection.is_fresh():
                return connection
            self._give_back(connection, False)
        connection = self._connect(deadline)
        with self._lock:
            if not self._closed:
                self._busy.add(connection)
                return connection
        connection.cut()
        raise BackendUnavailable(f"the connections to {self._where()} are closed", reason="network")

    def _pop_idle(self) -> "_Connection | None":
        with self._lock:
            if not self._idle:
                return None
            connection = self._idle.pop()
            self._busy.add(connection)
            return connection

    def _give_back(self, connection: "_Connection", reusable: bool) -> None:
        with self._lock:
            self._busy.discard(connection)
            if reusable and not self._closed and len(self._idle) < self._keep:
                self._idle.append(connection)
                return
        connection.cut()

    def _connect(self, deadline: Deadline) -> "_Connection":
        timeout_s = min(self._timeouts.connect_s, deadline.remaining_s())
        try:
            plain = socket.create_connection((self._host, self._port), timeout_s)
        except OSError as exc:
            raise BackendUnavailable(f"cannot reach {self._where()}: {exc}", reason="network") from exc
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return _Connection(self._wrapped(plain), self._timeouts.read_s)

    def _wrapped(self, plain: socket.socket) -> socket.socket:
        if self._tls is None:
            return plain
        try:
            return self._tls.wrap_socket(plain, server_hostname=self._host)
        except OSError as exc:  # ssl.SSLError is one
            plain.close()
            raise BackendUnavailable(
                f"no TLS with {self._where()}: {exc} (is the certificate's CA configured?)", reason="network"
            ) from exc


class _Garbled(Exception):
    """The peer does not speak HTTP/1.x, or stopped in the middle of it."""


class _Connection:
    """One socket and what is read ahead from it.

    A plain socket blocks, and the kernel keeps its timeouts (SO_SNDTIMEO, SO_RCVTIMEO): Python's own cost two
    more system calls for each that matters, and with each of them the interpreter's lock changes hands.
    """

    def __init__(self, sock: socket.socket, read_timeout_s: float) -> None:
        self._socket = sock
        self._encrypts = isinstance(sock, ssl.SSLSocket)
        if not self._encrypts:
            sock.settimeout(None)
        self._read_timeout_s = read_timeout_s
        self._timeout_s = 0.0
        self._ahead = b""
        self._used_at = time.monotonic()

    def is_fresh(self) -> bool:
        """Whether it may carry another request: not idle for long, nothing (such as an end) to read."""
        if time.monotonic() - self._used_at > _IDLE_MAX_S:
            return False
        return not self._has_input()

    def interrupt(self) -> None:
        """Wake the thread that is waiting in this socket, with an error."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        self.interrupt()
        self._socket.close()

    def exchange(
        self, head: bytes, body: Body | bytes | None, *, method: str, deadline: Deadline
    ) -> tuple[Answer, bool]:
        """The answer, and whether the connection may be used again."""
        whole = self._send(head, body, deadline)
        version, status, headers = self._receive_head(deadline)
        data, framed = self._receive_body(method, status, headers, deadline)
        self._used_at = time.monotonic()
        asks_close = "close" in headers.get("connection", "").lower() or version == b"HTTP/1.0"
        reusable = whole and framed and not asks_close and not self._ahead
        return Answer(status=status, headers=headers, data=data), reusable

    def _send(self, head: bytes, body: Body | bytes | None, deadline: Deadline) -> bool:
        """False where the peer answered, or hung up, before it had everything: then its word is read."""
        pieces = self._pieces(body)
        try:
            first = next(pieces, b"")
            if isinstance(first, Extent):
                self._send_bytes(deadline, head)
                self._send_extent(deadline, first)
            else:
                self._send_bytes(deadline, head, first)
            for piece in pieces:
                if self._answers_early():
                    return False
                if isinstance(piece, Extent):
                    self._send_extent(deadline, piece)
                else:
                    self._send_bytes(deadline, piece)
        except (BrokenPipeError, ConnectionResetError):
            if not self._has_input():
                raise
            return False
        return True

    def _pieces(self, body: Body | bytes | None) -> Iterator[bytes | memoryview | Extent]:
        if isinstance(body, Body):
            return body.extents() if body.in_file and not self._encrypts else iter(body)
        return iter(() if body is None else (body,))

    def _send_bytes(self, deadline: Deadline, *buffers: bytes | memoryview) -> None:
        self._set_timeout(deadline)
        if self._encrypts:
            for buffer in buffers:
                self._socket.sendall(buffer)
            return
        left = [memoryview(buffer) for buffer in buffers if len(buffer)]
        while left:
            try:
                left = _behind(left, self._socket.sendmsg(left))
            except BlockingIOError as exc:
                raise TimeoutError("timed out") from exc
            if left:
                self._set_timeout(deadline)

    def _send_extent(self, deadline: Deadline, extent: Extent) -> None:
        """From the page cache into the socket, without a copy in this process (sendfile(2))."""
        position, end = extent.start, extent.start + extent.size_bytes
        while position < end:
            self._set_timeout(deadline)
            try:
                sent = os.sendfile(self._socket.fileno(), extent.descriptor, position, end - position)
            except BlockingIOError as exc:
                raise TimeoutError("timed out") from exc
            except (BrokenPipeError, ConnectionResetError):
                raise
            except OSError:  # not a file system for this, or a disk's error: reading tells them apart
                for block in Extent(extent.descriptor, position, end - position).blocks():
                    self._send_bytes(deadline, block)
                return
            if sent == 0:
                raise SourceChanged(f"the file ends at byte {position}, {end} were expected")
            position += sent

    def _receive_head(self, deadline: Deadline) -> tuple[bytes, int, dict[str, str]]:
        while True:
            while (end := self._ahead.find(b"\r\n\r\n")) < 0:
                if len(self._ahead) > _HEAD_MAX_BYTES:
                    raise _Garbled("the answer's head does not end")
                self._ahead += self._receive(deadline)
            head, self._ahead = self._ahead[:end], self._ahead[end + 4 :]
            version, status, headers = parse_head(head)
            if status >= 200:  # 1xx only says that the answer is still to come
                return version, status, headers

    def _receive_body(
        self, method: str, status: int, headers: Mapping[str, str], deadline: Deadline
    ) -> tuple[bytes, bool]:
        """The answer's body, and whether its end was marked by anything but the connection's end."""
        if method == "HEAD" or status in (204, 304):
            return b"", True
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return self._receive_chunks(deadline), True
        if (length := headers.get("content-length")) is None:
            return self._receive_rest(deadline), False
        if not length.isascii() or not length.isdigit():
            raise _Garbled(f"content-length {length[:40]!r}")
        return self._receive_exactly(int(length), deadline), True

    def _receive_exactly(self, size_bytes: int, deadline: Deadline) -> bytes:
        if size_bytes > _BODY_MAX_BYTES:
            raise _Garbled(f"an answer of {size_bytes} bytes")
        while len(self._ahead) < size_bytes:
            self._ahead += self._receive(deadline)
        data, self._ahead = self._ahead[:size_bytes], self._ahead[size_bytes:]
        return data

    def _receive_line(self, deadline: Deadline) -> bytes:
        while (end := self._ahead.find(b"\r\n")) < 0:
            if len(self._ahead) > _HEAD_MAX_BYTES:
                raise _Garbled("a line does not end")
            self._ahead += self._receive(deadline)
        line, self._ahead = self._ahead[:end], self._ahead[end + 2 :]
        return line

    def _receive_chunks(self, deadline: Deadline) -> bytes:
        chunks = b""
        while size := _chunk_size(self._receive_line(deadline)):
            if len(chunks) + size > _BODY_MAX_BYTES:
                raise _Garbled("the answer is too long")
            chunks += self._receive_exactly(size, deadline)
            if self._receive_line(deadline):
                raise _Garbled("a chunk is longer than it says")
        while self._receive_line(deadline):  # trailers
            pass
        return chunks

    def _receive_rest(self, deadline: Deadline) -> bytes:
        with contextlib.suppress(_Ended):
            while len(self._ahead) <= _BODY_MAX_BYTES:
                self._ahead += self._receive(deadline)
            raise _Garbled("the answer is too long")
        data, self._ahead = self._ahead, b""
        return data

    def _receive(self, deadline: Deadline) -> bytes:
        self._set_timeout(deadline)
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
        except BlockingIOError as exc:
            raise TimeoutError("timed out") from exc
        if not data:
            raise _Ended("closed before the answer was whole")
        return data

    def _set_timeout(self, deadline: Deadline) -> None:
        timeout_s = min(self._read_timeout_s, deadline.remaining_s())
        if timeout_s <= self._timeout_s <= timeout_s + _TIMEOUT_SLACK_S:
            return
        self._timeout_s = timeout_s
        if self._encrypts:
            self._socket.settimeout(timeout_s)
            return
        timeval = struct.pack("@ll", int(timeout_s), max(1, int(timeout_s % 1 * 1e6)))  # 0 would be for ever
        for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            self._socket.setsockopt(socket.SOL_SOCKET, option, timeval)

    def _answers_early(self) -> bool:
        # TLS 1.3 sends session tickets of its own accord: there, input need not be an answer.
        return not self._encrypts and self._has_input()

    def _has_input(self) -> bool:
        poll = select.poll()  # select(2) would fail above descriptor 1023
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(0))


def _behind(buffers: list[memoryview], size_bytes: int) -> list[memoryview]:
    """What is left of buffers of which so many bytes are gone."""
    for number, buffer in enumerate(buffers):
        if size_bytes < len(buffer):
            return [buffer[size_bytes:], *buffers[number + 1 :]]
        size_bytes -= len(buffer)
    return []


class _Ended(_Garbled):
    """The peer closed the connection."""


def parse_head(head: bytes) -> tuple[bytes, int, dict[str, str]]:
    """Version, status and headers of an answer's head, without the empty line."""
    status_line, *lines = head.split(b"\r\n")
    words = status_line.split(b" ", 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or len(words[1]) != 3 or not words[1].isdigit():
        raise _Garbled(f"not an HTTP answer: {status_line[:60]!r}")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.decode("latin-1").partition(":")
        if not colon:
            raise _Garbled(f"not a header: {line[:60]!r}")
        name, value = name.lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return words[0], int(words[1]), headers


def _chunk_size(line: bytes) -> int:
    digits = line.partition(b";")[0].strip()
    try:
        return int(digits, 16) if digits.isalnum() else _no_size(line)
    except ValueError:
        return _no_size(line)


def _no_size(line: bytes) -> int:
    raise _Garbled(f"not a chunk size: {line[:40]!r}")


def _head(method: str, target: str, headers: Mapping[str, str], body: Body | bytes | None) -> bytes:
    lines = [f"{method} {target} HTTP/1.1\r\n", *[f"{name}: {value}\r\n" for name, value in headers.items()]]
    if body is not None:
        lines.append(f"content-length: {len(body)}\r\n")
    head = "".join(lines).encode("latin-1")
    if head.count(b"\n") != len(lines) or head.count(b"\r") != len(lines):
        raise ValueError("a line break inside a request's target or header")
    return head + b"\r\n"
