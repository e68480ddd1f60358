"""A TCP proxy that keeps what clients send, so that a test can read afterwards what a store was asked for."""

import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import unquote

_CHUNK_BYTES = 64 * 1024
_LENGTH = re.compile(rb"^content-length:\s*(\d+)", re.M | re.I)
_CHUNKED = re.compile(rb"^transfer-encoding:", re.M | re.I)
_KEY = re.compile(rb"<Key>([^<]+)</Key>")


@dataclass(slots=True)
class RecordingProxy:
    """Listens on a loopback port of its own; what went up is kept connection by connection."""

    target: tuple[str, int]
    sent: list[bytearray] = field(default_factory=list)
    port: int = 0

    def deleted(self) -> list[str]:
        """Every object that a DELETE or a DeleteObjects named, `/bucket/key`, in no order."""
        return [key for stream in list(self.sent) for key in _deleted_in(bytes(stream))]


@contextmanager
def recording(host: str, port: int) -> Iterator[RecordingProxy]:
    """A proxy to this address while the block lasts."""
    proxy = RecordingProxy((host, port))
    listener = socket.create_server(("127.0.0.1", 0))
    proxy.port = listener.getsockname()[1]
    sockets: list[socket.socket] = []
    accepting = threading.Thread(target=_accept, args=(proxy, listener, sockets), daemon=True)
    accepting.start()
    try:
        yield proxy
    finally:
        for each in (listener, *sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        accepting.join(10)


def _accept(proxy: RecordingProxy, listener: socket.socket, sockets: list[socket.socket]) -> None:
    while True:
        try:
            client, _ = listener.accept()
            server = socket.create_connection(proxy.target, timeout=30)
        except OSError:
            return
        server.settimeout(None)
        sockets += [client, server]
        kept = bytearray()
        proxy.sent.append(kept)
        for source, sink, into in ((client, server, kept), (server, client, None)):
            threading.Thread(target=_carry, args=(source, sink, into), daemon=True).start()


def _carry(source: socket.socket, sink: socket.socket, into: bytearray | None) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(_CHUNK_BYTES):
            if into is not None:
                into += data
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def _deleted_in(stream: bytes) -> Iterator[str]:
    while stream:
        head, found, stream = stream.partition(b"\r\n\r\n")
        if not found:
            return
        assert not _CHUNKED.search(head), "this proxy reads bodies by their length only"
        length = _LENGTH.search(head)
        size = int(length[1]) if length else 0
        body, stream = stream[:size], stream[size:]
        method, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ", 2)
        bare, _, query = path.partition("?")
        if method == "DELETE" and "uploadId=" not in query:
            yield unquote(bare)
        elif method == "POST" and query.startswith("delete"):
            yield from (f"{unquote(bare).rstrip('/')}/{key.decode()}" for key in _KEY.findall(body))
