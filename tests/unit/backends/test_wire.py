"""HTTP/1.1 as servers and proxies really speak it: in any pieces, with any framing, cut anywhere."""

import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from cctv_storaged.backends.body import Body, Deadline, Stretch
from cctv_storaged.backends.wire import Answer, Timeouts, Wire
from cctv_storaged.errors import BackendUnavailable, SegmentError, SourceChanged
from cctv_storaged.pacing import ByteBudget

PATIENT = Timeouts(connect_s=60.0, read_s=60.0, object_base_s=60.0)
PLAIN = b'HTTP/1.1 200 OK\r\nETag: "x"\r\nContent-Length: 5\r\n\r\nhello'
CHUNKED = (
    b"HTTP/1.1 500 Oh\r\nTransfer-Encoding: chunked\r\nX-A: 1\r\nx-a: 2\r\n\r\n"
    b"3;ext=1\r\nhel\r\nA\r\nlo, world!\r\n0\r\nTrailer: t\r\n\r\n"
)


class Scripted:
    """A server that reads whole requests and answers each with the next script, in pieces as told."""

    def __init__(self, *scripts: bytes, piece_bytes: int = 65536, close_after: bool = False) -> None:
        self._scripts = list(scripts)
        self._piece_bytes = piece_bytes
        self._close_after = close_after
        self._over = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.connections = 0
        self.requests: list[bytes] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def origin(self) -> str:
        return "http://{}:{}".format(*self._listener.getsockname()[:2])

    def close(self) -> None:
        self._over = True
        with socket.socket() as knock:  # wakes the accept
            knock.connect(self._listener.getsockname())
        self._thread.join(60)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            peer, _ = self._listener.accept()
            with peer, suppress(OSError):  # a client may hang up in the middle of nonsense
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.connections += 1
                if self._over or not self._scripts:
                    return
                while self._scripts and self._answer(peer):
                    pass

    def _answer(self, peer: socket.socket) -> bool:
        request = b""
        while b"\r\n\r\n" not in request:
            if not (data := peer.recv(65536)):
                return False
            request += data
        head, _, body = request.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        while len(body) < length:
            if not (data := peer.recv(65536)):
                return False
            body += data
        self.requests.append(head + b"\r\n\r\n" + body)
        script = self._scripts.pop(0)
        for start in range(0, len(script), self._piece_bytes):
            peer.sendall(script[start : start + self._piece_bytes])
        return not self._close_after


@contextmanager
def talking(
    *scripts: bytes, piece_bytes: int = 65536, close_after: bool = False
) -> Iterator[tuple[Wire, Scripted]]:
    server = Scripted(*scripts, piece_bytes=piece_bytes, close_after=close_after)
    wire = Wire(server.origin, timeouts=PATIENT, keep=2)
    try:
        yield wire, server
    finally:
        wire.close()
        server.close()


def ask(wire: Wire, method: str = "GET", body: bytes | None = None) -> Answer:
    return wire.exchange(method, "/b/k", {"host": "h"}, body)


@pytest.mark.parametrize("piece_bytes", [1, 2, 3, 7, 65536])
def test_an_answer_may_come_in_any_pieces(piece_bytes: int) -> None:
    with talking(PLAIN, CHUNKED, PLAIN, piece_bytes=piece_bytes) as (wire, server):
        assert ask(wire) == Answer(status=200, headers={"etag": '"x"', "content-length": "5"}, data=b"hello")
        chunked = ask(wire)
        assert (chunked.status, chunked.data, chunked.headers["x-a"]) == (500, b"hello, world!", "1, 2")
        assert ask(wire).data == b"hello"
        assert server.connections == 1


def test_a_body_is_announced_and_sent_whole() -> None:
    with talking(PLAIN, PLAIN) as (wire, server):
        ask(wire, "PUT", b"12345")
        ask(wire, "PUT", b"")
        assert server.requests[0].endswith(b"content-length: 5\r\n\r\n12345")
        assert server.requests[1].endswith(b"content-length: 0\r\n\r\n")


def test_a_head_answer_has_no_body_whatever_its_length_says() -> None:
    with talking(b"HTTP/1.1 404 No\r\nContent-Length: 252\r\n\r\n", PLAIN) as (wire, server):
        assert ask(wire, "HEAD").status == 404
        assert ask(wire).status == 200
        assert server.connections == 1


@pytest.mark.parametrize("status", [b"100 Continue", b"103 Early Hints"])
def test_an_interim_answer_is_waited_out(status: bytes) -> None:
    with talking(b"HTTP/1.1 " + status + b"\r\nLink: x\r\n\r\n" + PLAIN) as (wire, _):
        assert ask(wire).status == 200


@pytest.mark.parametrize(
    "answer",
    [
        PLAIN.replace(b"ETag", b"Connection: close\r\nETag"),
        PLAIN.replace(b"HTTP/1.1", b"HTTP/1.0"),
        PLAIN + b"left over",
    ],
)
def test_a_connection_that_may_not_be_used_again_is_not(answer: bytes) -> None:
    with talking(answer, PLAIN, close_after=True) as (wire, server):
        assert ask(wire).data == b"hello"
        assert ask(wire).data == b"hello"
        assert server.connections == 2


def test_an_answer_without_a_length_ends_with_the_connection() -> None:
    with talking(b"HTTP/1.1 502 Bad\r\n\r\n<html>a proxy's page", close_after=True) as (wire, _):
        assert ask(wire).data == b"<html>a proxy's page"


@pytest.mark.parametrize("whole", [PLAIN, CHUNKED])
def test_an_answer_cut_anywhere_is_no_answer(whole: bytes) -> None:
    for end in range(0, len(whole), 3):
        with talking(whole[:end], close_after=True) as (wire, _):
            with pytest.raises(BackendUnavailable) as caught:
                ask(wire)
            assert caught.value.reason == "network"


@pytest.mark.parametrize(
    "nonsense",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFF\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
    ],
)
def test_what_is_not_http_is_the_networks_fault(nonsense: bytes) -> None:
    with talking(nonsense, close_after=True) as (wire, _):
        with pytest.raises(BackendUnavailable) as caught:
            ask(wire)
        assert caught.value.reason == "network"
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("target", "headers"),
    [("/a\r\nX: y", {}), ("/a", {"x-amz-meta-a": "1\r\nEvil: 2"}), ("/a", {"a\nb": "c"})],
)
def test_nothing_can_be_smuggled_into_a_request(target: str, headers: dict[str, str]) -> None:
    with talking(PLAIN) as (wire, server):
        with pytest.raises(ValueError, match="line break"):
            wire.exchange("PUT", target, headers)
        assert server.requests == []
        ask(wire)


def test_a_line_that_trickles_is_ended_by_the_deadline() -> None:
    """Every byte comes in time for a read timeout, the whole never does."""
    with talking(PLAIN + b" " * 5) as (wire, _):
        assert ask(wire).status == 200
    listener = socket.create_server(("127.0.0.1", 0))
    wire = Wire("http://{}:{}".format(*listener.getsockname()[:2]), timeouts=PATIENT, keep=1)
    over = threading.Event()
    trickle = threading.Thread(target=_trickle, args=(listener, over))
    trickle.start()
    try:
        begun = time.monotonic()
        with pytest.raises(BackendUnavailable, match=r"too slow|does not answer"):
            wire.exchange("GET", "/", {}, None, Deadline(1.0))
        assert time.monotonic() - begun < PATIENT.read_s / 2
    finally:
        over.set()
        trickle.join()
        wire.close()
        listener.close()


def _trickle(listener: socket.socket, over: threading.Event) -> None:
    peer, _ = listener.accept()
    with peer, suppress(OSError):  # the client hangs up when its deadline comes
        while not over.wait(0.1):
            peer.sendall(b"H")


def test_closing_wakes_whoever_waits_in_a_socket() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    wire = Wire("http://{}:{}".format(*listener.getsockname()[:2]), timeouts=Timeouts(), keep=1)
    failures: list[BaseException] = []

    def wait() -> None:
        try:
            wire.exchange("GET", "/", {})
        except BackendUnavailable as exc:
            failures.append(exc)

    waiting = threading.Thread(target=wait)
    waiting.start()
    peer, _ = listener.accept()
    with peer:
        peer.recv(1000)
        wire.close()
        waiting.join(60)
        assert not waiting.is_alive()
    assert len(failures) == 1
    with pytest.raises(BackendUnavailable, match="closed"):
        wire.exchange("GET", "/", {})
    listener.close()


def test_a_server_that_refuses_early_is_heard_before_all_was_sent() -> None:
    """A 403 to a large put, after which the server reads no more."""
    listener = socket.create_server(("127.0.0.1", 0))
    wire = Wire("http://{}:{}".format(*listener.getsockname()[:2]), timeouts=PATIENT, keep=1)
    refused, over = threading.Event(), threading.Event()

    def refuse() -> None:
        peer, _ = listener.accept()
        with peer:
            peer.recv(100)
            peer.sendall(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
            refused.set()
            over.wait(60)

    server = threading.Thread(target=refuse)
    server.start()
    try:
        answer = wire.exchange("PUT", "/", {}, _slow_body(refused))
        assert (answer.status, answer.data) == (403, b"no")
    finally:
        over.set()
        server.join()
        wire.close()
        listener.close()


def _slow_body(refused: threading.Event) -> Body:
    """So many bytes that no socket takes them all; most of them wait until the answer is on its way."""
    data = bytes(64 * 1024 * 1024)
    stretch = Stretch(descriptor=-1, data=data, start=0, size_bytes=len(data), sha256=bytes(32))

    def wait(_: float) -> None:
        refused.wait(60)
        time.sleep(0.01)

    budget = ByteBudget(128 * 1024, monotonic=lambda: 0.0, sleep=wait)  # small blocks: it looks often
    return Body(stretch, budget=budget, deadline=Deadline(60), prove=False)


FOOTAGE = hashlib.shake_128(b"footage").digest(3 * 1024 * 1024 + 11)


@contextmanager
def file_body(
    path: Path, *, start: int = 0, size: int = len(FOOTAGE), rate: float | None = None
) -> Iterator[Body]:
    """A body whose bytes the kernel sends from the file."""
    descriptor = os.open(path, os.O_RDONLY)
    stretch = Stretch(descriptor=descriptor, data=None, start=start, size_bytes=size, sha256=bytes(32))
    try:
        yield Body(stretch, budget=ByteBudget(rate), deadline=Deadline(60), prove=False)
    finally:
        os.close(descriptor)


@pytest.fixture
def footage(tmp_path: Path) -> Path:
    path = tmp_path / "a.ts"
    path.write_bytes(FOOTAGE)
    return path


@pytest.mark.parametrize("rate", [None, 1e9])
def test_a_file_goes_out_by_the_kernel_as_it_is(footage: Path, rate: float | None) -> None:
    with talking(PLAIN, PLAIN) as (wire, server):
        for start, size in ((0, len(FOOTAGE)), (1024 * 1024 - 3, 1024 * 1024 + 8)):
            with file_body(footage, start=start, size=size, rate=rate) as body:
                assert body.in_file
                assert wire.exchange("PUT", "/", {}, body).status == 200
            sent = server.requests[-1].partition(b"\r\n\r\n")[2]
            assert sent == FOOTAGE[start : start + size]


def test_a_file_that_got_shorter_is_the_sources_fault_and_ends_the_connection(footage: Path) -> None:
    with talking(PLAIN, PLAIN) as (wire, server):
        ask(wire)
        with file_body(footage) as body:
            os.truncate(footage, 2 * 1024 * 1024)
            with pytest.raises(SourceChanged):
                wire.exchange("PUT", "/", {}, body)
        assert not wire._idle, "half a request was sent on it"
        assert len(server.requests) == 1


def test_what_the_kernel_cannot_send_is_read_and_a_source_that_cannot_be_read_is_named(
    tmp_path: Path,
) -> None:
    """A folder gives EINVAL to sendfile(2) and EISDIR to read(2), as a failing disk gives EIO."""
    with (
        talking(PLAIN) as (wire, _),
        file_body(tmp_path) as body,
        pytest.raises(SegmentError, match="cannot be read"),
    ):
        wire.exchange("PUT", "/", {}, body)


def test_a_file_to_a_peer_that_reads_nothing_is_ended_by_the_timeout(tmp_path: Path) -> None:
    path = tmp_path / "large.ts"
    with path.open("wb") as file:
        file.truncate(64 * 1024 * 1024)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        origin = "http://{}:{}".format(*listener.getsockname()[:2])
        wire = Wire(origin, timeouts=Timeouts(connect_s=2.0, read_s=0.5), keep=1)
        with (
            file_body(path, size=64 * 1024 * 1024) as body,
            pytest.raises(BackendUnavailable, match="does not answer"),
        ):
            wire.exchange("PUT", "/", {}, body)
        wire.close()
