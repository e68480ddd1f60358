"""A segment's bytes: whole, in part, conditionally, from whichever copy is good, and never quietly short."""

import asyncio
import contextlib
import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote
from uuid import UUID

import aiohttp
import pytest

from cctv_storaged.api.problems import Refusal
from cctv_storaged.api.sending import Part, requested_part
from cctv_storaged.model import CopyState
from tests.footage import cached_ts
from tests.integration.api.harness import API, Host, description, path_of, running, until

BYTES = cached_ts(seconds=2).read_bytes
CAMERA = UUID("123e4567-e89b-12d3-a456-426614174000")


async def content_of(host: Host, segment: dict[str, object], method: str = "GET", **headers: str):  # type: ignore[no-untyped-def]
    return await host.request(method, f"{path_of(segment)}/content", headers=headers)


async def test_the_bytes_are_those_of_the_file(host: Host) -> None:
    segment = await host.registered(camera=CAMERA)
    reply = await content_of(host, segment)
    assert (reply.status, reply.body) == (200, BYTES())
    assert reply.headers["Content-Type"] == "video/mp2t"
    assert reply.headers["Content-Length"] == str(len(BYTES()))
    assert reply.headers["Accept-Ranges"] == "bytes"
    assert reply.headers["Cache-Control"].startswith("private, max-age=")
    assert "ETag" not in reply.headers  # nobody has hashed it yet


async def test_the_etag_is_the_sha256(host: Host) -> None:
    host.deliver()
    segment = await host.delivered(await host.registered())
    tag = f'"{hashlib.sha256(BYTES()).hexdigest()}"'
    assert (await content_of(host, segment)).headers["ETag"] == tag
    for condition in (tag, f"W/{tag}", "*", f'"x", {tag}'):
        reply = await content_of(host, segment, **{"If-None-Match": condition})
        assert (reply.status, reply.body, reply.headers["ETag"]) == (304, b"", tag), condition
    assert (await content_of(host, segment, **{"If-None-Match": '"x"'})).status == 200
    assert (await content_of(host, segment, **{"If-Match": tag})).status == 200
    for condition in ('"x"', f"W/{tag}"):
        assert (await content_of(host, segment, **{"If-Match": condition})).status == 412


async def test_head_tells_what_get_would_send(host: Host) -> None:
    segment = await host.registered()
    reply = await content_of(host, segment, "HEAD", Range="bytes=0-9")
    assert (reply.status, reply.body) == (200, b"")
    assert reply.headers["Content-Length"] == str(len(BYTES()))
    assert reply.headers["Content-Type"] == "video/mp2t"


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=0-187", 0, 187),
        ("bytes=188-", 188, -1),
        ("bytes=-188", -188, -1),
        ("bytes=5-99999999999999999999999999", 5, -1),
        ("bytes=-99999999999", 0, -1),
        ("BYTES=1-2", 1, 2),
        (" bytes = 1-2 ", 1, 2),
    ],
)
async def test_a_range_gives_just_these_bytes(host: Host, asked: str, first: int, last: int) -> None:
    size = len(BYTES())
    first, last = first % size, last % size
    segment = await host.registered()
    reply = await content_of(host, segment, Range=asked)
    assert reply.status == 206
    assert reply.body == BYTES()[first : last + 1]
    assert reply.headers["Content-Range"] == f"bytes {first}-{last}/{size}"
    assert reply.headers["Content-Length"] == str(last - first + 1)


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=0-1,5-6",
        "bytes=5-2",
        "bytes=-",
        "bytes=",
        "bytes",
        "lines=1-2",
        "bytes=a-b",
        "bytes=1-2-3",
        "bytes=--1",
    ],
)
async def test_what_is_no_single_range_is_answered_with_everything(host: Host, asked: str) -> None:
    reply = await content_of(host, await host.registered(), Range=asked)
    assert (reply.status, len(reply.body)) == (200, len(BYTES()))


@pytest.mark.parametrize(
    "asked", [f"bytes={len(cached_ts(seconds=2).read_bytes())}-", "bytes=-0", "bytes=99999999999-"]
)
async def test_a_range_behind_the_end_is_refused_with_the_size(host: Host, asked: str) -> None:
    reply = await content_of(host, await host.registered(), Range=asked)
    assert reply.status == 416
    assert reply.headers["Content-Range"] == f"bytes */{len(BYTES())}"
    assert reply.json["type"].endswith("range-not-satisfiable")


async def test_if_range_holds_a_part_of_other_content_back(host: Host) -> None:
    host.deliver()
    segment = await host.delivered(await host.registered())
    tag = f'"{segment["checksum"]}"'
    same = await content_of(host, segment, Range="bytes=0-9", **{"If-Range": tag})
    other = await content_of(host, segment, Range="bytes=0-9", **{"If-Range": '"other"'})
    weak = await content_of(host, segment, Range="bytes=0-9", **{"If-Range": f"W/{tag}"})
    dated = await content_of(
        host, segment, Range="bytes=0-9", **{"If-Range": "Thu, 23 Jan 2025 10:00:00 GMT"}
    )
    assert (same.status, other.status, weak.status, dated.status) == (206, 200, 200, 200)


async def test_parts_put_together_are_the_whole(host: Host) -> None:
    segment = await host.registered()
    step = 100_001
    parts = [
        (await content_of(host, segment, Range=f"bytes={start}-{start + step - 1}")).body
        for start in range(0, len(BYTES()), step)
    ]
    assert b"".join(parts) == BYTES()


# Which copy


async def test_a_copy_serves_when_the_source_is_gone(host: Host) -> None:
    host.deliver()
    segment = await host.delivered(await host.registered())
    (host.recordings / "gate/a.ts").unlink()
    whole, part = await content_of(host, segment), await content_of(host, segment, Range="bytes=188-375")
    assert (whole.status, whole.body) == (200, BYTES())
    assert (part.status, part.body) == (206, BYTES()[188:376])


async def test_a_source_with_other_bytes_is_not_served(host: Host) -> None:
    host.deliver()
    segment = await host.delivered(await host.registered())
    source = host.recordings / "gate/a.ts"
    source.unlink()
    source.write_bytes(b"other bytes")
    assert (await content_of(host, segment)).body == BYTES()


async def test_with_no_bytes_left_the_answer_is_a_problem(host: Host) -> None:
    segment = await host.registered()
    (host.recordings / "gate/a.ts").unlink()
    reply = await content_of(host, segment)
    assert reply.status == 404
    assert "no bytes left" in reply.json["detail"]


async def test_a_lost_copy_is_a_problem_and_not_an_empty_body(host: Host) -> None:
    host.deliver()
    segment = await host.delivered(await host.registered())
    (host.recordings / "gate/a.ts").unlink()
    (host.settings.filesystem.path / segment["storage_path"]).unlink()
    reply = await content_of(host, segment)
    assert (reply.status, reply.json["type"]) == (502, "urn:cctv-storaged:problem:bad-copy")


def cut_short(stored: Path) -> None:
    os.truncate(stored, 188 * 10)


def spoiled(stored: Path) -> None:
    with stored.open("r+b") as file:
        file.seek(5000)
        file.write(b"other")


@pytest.mark.parametrize("harm", [cut_short, spoiled])
async def test_a_copy_with_other_bytes_is_never_a_whole_answer_and_is_proven_anew(
    tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    """Its ETag would say that these are the bytes of the journal."""
    async with running(tmp_path, {"filesystem": {"path": str(tmp_path / "store"), "link": False}}) as host:
        host.deliver()
        segment = await host.delivered(await host.registered())
        (host.recordings / "gate/a.ts").unlink()
        stored = host.settings.filesystem.path / segment["storage_path"]
        stored.chmod(0o644)
        harm(stored)
        with contextlib.suppress(aiohttp.ClientError):
            assert (await content_of(host, segment)).status >= 500

        async def found_out() -> bool:
            known = await host.parts.foundation.journal.segments.by_id(UUID(str(segment["id"])))
            assert known is not None
            return known.copies[0].state in (CopyState.PENDING, CopyState.FAILED)

        async with asyncio.timeout(30):
            while not await found_out():
                await asyncio.sleep(0.05)


async def test_a_source_cut_short_while_it_is_read_breaks_the_connection_off(host: Host) -> None:
    path = host.file("gate/big.ts")
    with path.open("ab") as file:  # too large for what the sockets hold, so that it is cut while being sent
        for _ in range(200):
            file.write(BYTES())
    segment = (await host.post("/segments", description(path))).json
    async with host.session.get(f"{host.url}{API}{path_of(segment)}/content") as response:
        assert response.status == 200
        await response.content.readexactly(188)
        os.truncate(path, 188)
        with pytest.raises(aiohttp.ClientError):
            await response.read()


async def test_a_source_that_is_read_is_pinned_until_the_reader_leaves(host: Host) -> None:
    path = host.file("gate/big.ts")
    with path.open("ab") as file:
        for _ in range(200):
            file.write(BYTES())
    segment = (await host.post("/segments", description(path))).json
    pins = host.parts.pruner.pins
    response = await host.session.get(f"{host.url}{API}{path_of(segment)}/content")
    await response.content.readexactly(188)
    assert pins.pinned(UUID(segment["id"])) == 1
    response.close()

    async def released() -> bool:
        return not pins

    await until(released)


# The name it is saved under


@pytest.mark.parametrize(
    ("name", "safe", "full"),
    [
        ("gate", "gate", False),
        ("Tür Süd", "Tur_Sud", True),
        ("門", "", True),
        ('a"b\\c;d', "a_b_c_d", True),
        ("../../etc/passwd", ".._.._etc_passwd", False),
        ("x\u202egnp.exe", "x_gnp.exe", False),
        ("per%cent", "per_cent", True),
    ],
)
async def test_the_file_name_is_safe_and_the_full_one_is_told_beside_it(
    tmp_path: Path, name: str, safe: str, full: bool
) -> None:
    cameras = [{"id": str(CAMERA), "name": name, "folder": "gate"}]
    async with running(tmp_path, {"cameras": cameras}) as host:
        segment = await host.registered(camera=CAMERA)
        header = (await content_of(host, segment)).headers["Content-Disposition"]
    stamp = re.sub("[-:]", "", segment["start_time"])
    assert f'filename="{safe}_{stamp}.ts"' in header
    extended = re.search(r"filename\*=UTF-8''(\S+)", header)
    assert (extended is not None) == full
    if extended is not None:
        told = unquote(extended[1])
        assert told.endswith(f"_{stamp}.ts")
        assert not {"/", "\\"} & set(told)
        assert told.isprintable()


# The decision alone


@pytest.mark.parametrize("size", [1, 2, 188])
def test_every_small_range_is_what_slicing_gives(size: int) -> None:
    data = os.urandom(size)
    for first in range(size + 2):
        for last in range(size + 2):
            expected = data[first : last + 1]
            try:
                part = requested_part(f"bytes={first}-{last}", size)
            except Refusal:
                assert not expected and first <= last
                continue
            if part is None:
                assert last < first
            else:
                assert data[part.start : part.start + part.length] == expected
    assert requested_part("bytes=-1", size) == Part(size - 1, 1)


async def test_a_client_that_leaves_leaves_nothing_behind(host: Host) -> None:
    segment = await host.registered()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        response = await host.session.get(f"{host.url}{API}{path_of(segment)}/content")
        response.close()

    async def closed() -> bool:
        with contextlib.suppress(OSError):
            return len(os.listdir("/proc/self/fd")) <= before + 2
        return False

    await until(closed)
    await asyncio.sleep(0)
