"""T-37 and kin: paths that lead elsewhere, bodies that are none, requests that are no HTTP.

Never a 500, and never a byte from outside the permitted folders.
"""

import asyncio
import ctypes
import gzip
import json
import os
import shutil
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from cctv_storaged.api.app import ROUTES
from cctv_storaged.api.routing import Route
from tests.footage import cached_ts
from tests.integration.api.harness import API, Host, description, path_of, until

RENAME_EXCHANGE = 2
AT_FDCWD = -100
POST = b"POST /api/v1/storage/segments HTTP/1.1\r\nContent-Type: application/json\r\n"


def outside(host: Host) -> Path:
    """Footage that nobody may register."""
    return host.file("secret.ts", below=host.folder / "outside")


async def refused(host: Host, file_path: str, size: int | None = None) -> dict[str, Any]:
    """The problem of a POST that names this path and is right otherwise."""
    body = description(outside(host)) | {"file_path": file_path}
    if size is not None:
        body["size_bytes"] = size
    reply = await host.post("/segments", body)
    assert reply.status == 422, reply
    assert reply.fields == {"file_path"}, reply
    return dict(reply.json)


async def nothing_is_registered(host: Host) -> bool:
    return bool((await host.get("/cameras")).json == {"cameras": []})


# Paths


@pytest.mark.parametrize(
    "path",
    [
        "{outside}",
        "{root}/../outside/secret.ts",
        "{root}/gate/../../outside/secret.ts",
        "{root}/./a.ts",
        "{root}//a.ts",
        "{root}/",
        "{root}",
        "{root}2/a.ts",
        "//etc/passwd",
        "/etc/passwd",
        "/proc/self/environ",
        "/proc/self/fd/0",
        "/dev/zero",
        "/",
        "a.ts",
        "../a.ts",
        "",
        "file:///etc/passwd",
        "{root}/a\0.ts",
        "{root}/a\n.ts",
        "{root}/\x1b[31m.ts",
        "{root}/\x85.ts",
        "{root}/" + "a" * 300 + ".ts",
        "{root}/" + "a/" * 2000 + "a.ts",
        "/" + "a" * 5000,
        "{root}/nothing.ts",
        "{root}/gate",
        "{root}/gate/fifo.ts",
        "{root}/gate/socket.ts",
        "{root}/gate/link.ts",
        "{root}/gate/linked/secret.ts",
        "{root}/gate/proc.ts",
        "{root}/gate/real.ts/a.ts",
        "{root}/gate/..%2f..%2foutside%2fsecret.ts",
        "{root}/gate/text.ts",
        "{root}/gate/playlist.ts",
        "{root}/gate/empty.ts",
    ],
)  # fmt: skip
async def test_no_path_leads_out_or_to_what_is_no_segment(host: Host, path: str) -> None:
    secret, gate = outside(host), host.recordings / "gate"
    size = secret.stat().st_size
    host.file("gate/real.ts")
    os.mkfifo(gate / "fifo.ts")
    (gate / "link.ts").symlink_to(secret)
    (gate / "linked").symlink_to(secret.parent)
    (gate / "proc.ts").symlink_to("/proc/self/environ")
    (gate / "text.ts").write_bytes(b"a" * size)
    (gate / "playlist.ts").write_bytes(f"#EXTM3U\nfile://{secret}\n".encode().ljust(size, b"\n"))
    (gate / "empty.ts").touch()
    # The node itself: bind(2) takes no path longer than 107 bytes, and the temporary folder's may be.
    os.mknod(gate / "socket.ts", stat.S_IFSOCK | 0o600)
    named = path.format(outside=secret, root=host.recordings)
    if path.endswith("empty.ts"):
        reply = await host.post("/segments", description(secret) | {"file_path": named})
        assert (reply.status, reply.fields) == (422, {"size_bytes"})
    else:
        problem = await refused(host, named)
        assert "passwd" not in json.dumps(problem)
    assert await nothing_is_registered(host)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make device nodes")
async def test_a_device_is_not_read(host: Host) -> None:
    node = host.recordings / "gate" / "zero.ts"
    node.parent.mkdir()
    os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    await refused(host, str(node))


@contextmanager
def swapping(one: Path, other: Path) -> Iterator[list[int]]:
    """The two names exchange what they stand for, over and over (renameat2(2), RENAME_EXCHANGE); one entry
    for each time they did.
    """
    renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    stop = threading.Event()
    rounds: list[int] = []

    def swap() -> None:
        while not stop.is_set():
            assert renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0
            rounds.append(1)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield rounds
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("swapped", ["file", "folder"])
async def test_a_name_that_is_swapped_for_a_link_never_gives_the_links_target(
    host: Host, swapped: str
) -> None:
    """Whatever is registered is the real file, and is served as such, however the race went."""
    real = host.file("gate/now/a.ts")
    secret = host.folder / "outside" / "a.ts"
    secret.parent.mkdir()
    secret.write_bytes(real.read_bytes()[:-188] + b"\x47\x1f\xff\x10" + b"SECRET".ljust(184, b"!"))
    os.utime(secret, ns=(real.stat().st_atime_ns, real.stat().st_mtime_ns))
    one = real if swapped == "file" else real.parent
    other = host.recordings / "gate" / "other"
    other.symlink_to(secret if swapped == "file" else secret.parent)
    body = description(real)
    outcomes: list[int] = []
    with swapping(one, other) as rounds:

        async def each_has_won() -> bool:
            reply = await host.post("/segments", body)
            outcomes.append(reply.status)
            assert reply.status in (200, 201, 409, 422), reply
            won = {200, 201} & set(outcomes) and 422 in outcomes
            return bool(won) and len(outcomes) >= 150 and len(rounds) > 100

        await until(each_has_won)
    made = (await host.get(f"/segments/{body['camera_id']}", start="2000-01-01T00:00:00Z")).json["segments"]
    assert len(made) == 1
    asked = 0
    with swapping(one, other) as rounds:
        while asked < 50 or len(rounds) <= 100:
            reply = await host.request("GET", f"{path_of(made[0])}/content")
            assert b"SECRET" not in reply.body
            asked += 1


async def test_what_may_not_be_read_is_told_without_more(host: Host) -> None:
    path = host.file()
    root_ino = path.stat().st_ino
    problem = await refused(host, str(path.parent), path.stat().st_size)
    assert str(root_ino) not in json.dumps(problem)


async def test_a_file_of_many_names_is_registered_under_the_one_given(host: Host) -> None:
    """Hard links are how some recorders close files: not refused."""
    first = host.file("gate/a.ts")
    os.link(first, host.recordings / "gate/b.ts")
    replies = [
        await host.post("/segments", description(host.recordings / f"gate/{name}.ts")) for name in "ab"
    ]
    assert [reply.status for reply in replies] == [201, 201]


# Bodies


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"nonsense",
        b"\xff\xfe",
        b"\xef\xbb\xbf{}",
        b"{}{}",
        b"{'a': 1}",
        b'{"a": "\\ud800"}',
        b'{"a": "\xed\xa0\x80"}',
        b"[" * 30_000,
        b'{"size_bytes": ' + b"9" * 10_000 + b"}",
        b"\0" * 100,
    ],
)
@pytest.mark.parametrize("path", ["/segments", "/queue/retry", "/tokens"])
async def test_a_body_that_is_no_json_is_a_bad_request(host: Host, path: str, body: bytes) -> None:
    reply = await host.request("POST", path, data=body)
    assert (reply.status, reply.json["type"]) == (400, "urn:cctv-storaged:problem:bad-request")


@pytest.mark.parametrize("path", ["/segments", "/tokens"])
async def test_no_body_where_one_is_needed_is_a_bad_request(host: Host, path: str) -> None:
    reply = await host.request("POST", path, data=b"")
    assert (reply.status, reply.json["type"]) == (400, "urn:cctv-storaged:problem:bad-request")


@pytest.mark.parametrize(
    "body", [b"[]", b"null", b"1", b'"text"', b"true", b'{"a": NaN}', b'{"": {}}', b'{"\\u0000": 1}']
)
@pytest.mark.parametrize("path", ["/segments", "/queue/retry", "/tokens"])
async def test_json_that_is_no_such_thing_is_told_field_by_field(host: Host, path: str, body: bytes) -> None:
    reply = await host.request("POST", path, data=body)
    assert reply.status == 422
    assert reply.json["errors"]


async def test_large_numbers_of_faults_make_no_large_answer(host: Host) -> None:
    body = json.dumps({f"{number}": number for number in range(5000)}).encode()[: 64 * 1024 - 1]
    body = body[: body.rindex(b",")] + b"}"
    reply = await host.request("POST", "/segments", data=body)
    assert reply.status == 422
    assert len(reply.body) < 16 * 1024


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_64_kib_is_refused(host: Host, chunked: bool) -> None:
    body = b'{"a": "' + b"x" * (64 * 1024) + b'"}'
    if chunked:
        reader, writer = await asyncio.open_connection("127.0.0.1", host.parts.api.port)
        writer.write(
            f"POST {API}/segments HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            "Transfer-Encoding: chunked\r\n\r\n".encode()
        )
        for start in range(0, len(body), 1000):
            part = body[start : start + 1000]
            writer.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        writer.write(b"0\r\n\r\n")
        status = await asyncio.wait_for(reader.readline(), 10)
        writer.close()
        assert b" 413 " in status
    else:
        reply = await host.request("POST", "/segments", data=body)
        assert (reply.status, reply.json["type"]) == (413, "urn:cctv-storaged:problem:too-large")


async def test_a_compressed_body_is_not_unpacked(host: Host) -> None:
    bomb = gzip.compress(b" " * 10_000_000 + b"{}")
    reply = await host.request("POST", "/queue/retry", data=bomb, headers={"Content-Encoding": "gzip"})
    assert reply.status == 415


async def test_the_later_of_two_equal_keys_stands(host: Host) -> None:
    path = host.file()
    body = json.dumps(description(path))
    doubled = '{"camera_id": "gate", ' + body[1:]
    assert (await host.request("POST", "/segments", data=doubled.encode())).status == 201


# Requests


async def raw(host: Host, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", host.parts.api.port)
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(), 15)
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET / HTTP/1.1", 404),
        (b"GET /nowhere HTTP/1.1", 404),
        (b"GET //health HTTP/1.1", 404),
        (b"GET /health/ HTTP/1.1", 404),
        (b"GET /%2e%2e/etc/passwd HTTP/1.1", 404),
        (b"GET /../../etc/passwd HTTP/1.1", 404),
        (b"GET /%00 HTTP/1.1", 404),
        (b"GET /%ff%fe HTTP/1.1", 404),
        (b"GET /caf\xc3\xa9 HTTP/1.1", 400),
        (b"GET /\xff\xfe HTTP/1.1", 400),
        (b"GET /api/v1/storage/segments/gate HTTP/1.1", 404),
        (b"GET /api/v1/storage/segments/123e4567-e89b-12d3-a456-426614174000/clip.avi HTTP/1.1", 404),
        (b"GET /api/v1/storage/segments/123e4567-e89b-12d3-a456-426614174000%0a HTTP/1.1", 404),
        (b"GET /api/v1/storage/exports/1 HTTP/1.1", 404),
        (b"GET " + b"/a" * 2000 + b" HTTP/1.1", 404),
        (b"GET " + b"/a" * 10000 + b" HTTP/1.1", 400),
        (b"GET http://localhost/health HTTP/1.1", 200),
        (b"GET http://[::1/health HTTP/1.1", 400),
        (b"GET http://localhost:99999/health HTTP/1.1", 400),
        (b"OPTIONS * HTTP/1.1", 404),
        (b"TRACE /health HTTP/1.1", 405),
        (b"PROPFIND /health HTTP/1.1", 405),
        (b"DELETE /health HTTP/1.1", 405),
        (b"PATCH /api/v1/storage/segments HTTP/1.1", 405),
        (b"FOO /health HTTP/1.1", None),
        (b"GET /health HTTP/9.9", 400),
        (b"GET /health", 200),
        (b"GET", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET /health HTTP/1.1\r\nX: a\x00b", 400),
        (b"GET /health HTTP/1.1\r\n folded", None),
        (b"GET /health HTTP/1.1\r\nExpect: a-miracle", 417),
        (b"GET /nowhere HTTP/1.1\r\nExpect: a-miracle", 417),
        (b"GET /health HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade", 200),
        (b"GET /health HTTP/1.1\r\nRange: bytes=0-1\r\nIf-Match: x\r\nAccept: x/y\r\nCookie: \xff", 200),
        (POST + b"Content-Length: -1", 400),
        (POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked", 400),
        (POST + b"Content-Length: 99999999999", 413),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nzz", 400),
        (b"GET /health HTTP/1.1\r\n" + b"\r\n".join(b"X-%d: y" % n for n in range(500)), 400),
        (b"GET /health HTTP/1.1\r\nX: " + b"y" * 20_000, 400),
    ],
)  # fmt: skip
async def test_odd_requests_are_answered_with_problems(
    host: Host, request_line: bytes, status: int | None
) -> None:
    ending = b"" if b"\r\n\r\n" in request_line else b"\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    if b"\r\n\r\n" in request_line:
        request_line = (
            request_line.replace(b"\r\n\r\n", b"\r\nHost: localhost\r\nConnection: close\r\n\r\n") + b"\r\n"
        )
    answer = await raw(host, request_line + ending)
    head, _, body = answer.partition(b"\r\n\r\n")
    got = int(head.split()[1])
    assert got == status if status is not None else got < 500, answer
    assert b"nosniff" in head
    assert b"aiohttp" not in head and b"Python" not in head
    if got >= 400 and not request_line.startswith(b"HEAD"):
        assert b"application/problem+json" in head, answer
        assert json.loads(body)["status"] == got
    if got == 405:
        assert b"\nAllow: " in head.replace(b"\r", b"")


async def test_the_allowed_methods_are_told(host: Host) -> None:
    reply = await host.request("PUT", f"/segments/{uuid4()}/{uuid4()}")
    assert reply.status == 405
    assert reply.headers["Allow"] == "DELETE, GET, HEAD"
    content = await host.request("POST", f"/segments/{uuid4()}/{uuid4()}/content")
    assert content.headers["Allow"] == "GET, HEAD"


OF_ITS_OWN = {"date", "x-request-id", "content-length"}
STREAMED = {"events", "exportLedger"}
"""Answers whose length nobody knows beforehand."""
READ = [route for route in ROUTES if route.method == "GET" and route.name not in STREAMED]


@pytest.mark.parametrize("route", READ, ids=lambda route: route.name)
async def test_head_says_what_get_would(host: Host, route: Route) -> None:
    segment = await host.registered()
    path = route.path.removeprefix(API).replace("{camera_id}", segment["camera_id"])
    path = path.replace("{segment_id}", segment["id"])
    get, head = await host.request("GET", path), await host.request("HEAD", path)
    told = [
        {name.lower(): reply.headers[name] for name in reply.headers if name.lower() not in OF_ITS_OWN}
        for reply in (get, head)
    ]
    assert (head.status, told[1]) == (get.status, told[0])
    assert int(head.headers["Content-Length"]) > 0
    assert head.body == b""


async def test_a_smuggled_second_request_is_not_answered(host: Host) -> None:
    answer = await raw(
        host,
        b"POST /api/v1/storage/queue/retry HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    )
    assert b"alive" not in answer


async def test_no_method_and_no_path_makes_new_series(host: Host) -> None:
    for number in range(30):
        await raw(
            host, f"M{number} /p{number} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        )
        await host.get(f"/segments/{uuid4()}")
        await host.request("GET", f"/nowhere/{number}")
    told = (await host.get("/metrics")).body.decode()
    series = [line for line in told.splitlines() if line.startswith("storage_http_request_seconds_count")]
    assert 1 < len(series) < 10
    assert 'route="/api/v1/storage/segments/{camera_id}"' in told
    assert "/p1" not in told and "/nowhere" not in told and "M1" not in told


@pytest.mark.parametrize(
    ("given", "kept"),
    [("abc-1._Z", True), ("x" * 64, True), ("x" * 65, False), ("a b", False), ("ä", False), ("", False)],
)
async def test_a_request_id_is_kept_if_it_can_be_one(host: Host, given: str, kept: bool) -> None:
    for path in ("/health", "/cameras", "/nowhere"):
        reply = await host.request("GET", path, headers={"X-Request-Id": given})
        told = reply.headers["X-Request-Id"]
        assert (told == given) == kept
        assert told and len(told) <= 64


async def test_a_slow_body_is_given_up(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cctv_storaged.api.parsing.BODY_TIMEOUT_S", 0.2)
    answer = await raw(
        host,
        f"POST {API}/segments HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        "Connection: close\r\nContent-Length: 100\r\n\r\n{".encode(),
    )
    assert answer.startswith(b"HTTP/1.1 408 ")


async def test_the_file_of_a_registered_segment_is_served_from_its_folder_only(host: Host) -> None:
    """The recorder's folder is exchanged for a link to elsewhere after the registration."""
    segment = await host.registered("gate/a.ts")
    elsewhere = host.folder / "outside"
    shutil.move(host.recordings / "gate", elsewhere)
    (host.recordings / "gate").symlink_to(elsewhere)
    reply = await host.request("GET", f"{path_of(segment)}/content")
    assert reply.status == 404
    assert cached_ts().read_bytes()[:188] not in reply.body
    assert UUID(segment["id"])
