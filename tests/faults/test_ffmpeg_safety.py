"""T-36: whatever a segment holds, ffmpeg opens nothing of it and speaks to nobody."""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cctv_storaged.errors import MediaBroken
from cctv_storaged.media.ffmpeg import TRANSPORT_STREAM, Limits, run
from cctv_storaged.media.join import Container, JoinPlan, join
from cctv_storaged.media.pieces import Piece
from cctv_storaged.model import TimeSpan
from tests.footage import cached_ts

T0 = datetime(2026, 11, 26, tzinfo=UTC)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Footage that nobody asked for."""
    folder = tmp_path / "outside"
    folder.mkdir()
    shutil.copyfile(cached_ts(seconds=2), folder / "secret.ts")
    return folder / "secret.ts"


@pytest.fixture
def traced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The log of every file that any ffmpeg opens from now on, and of every socket it makes."""
    log, real = tmp_path / "trace.log", shutil.which("ffmpeg")
    folder = tmp_path / "bin"
    folder.mkdir()
    wrapper = folder / "ffmpeg"
    calls = "trace=open,openat,openat2,socket,connect"
    wrapper.write_text(f'#!/bin/sh\nexec strace -f -qq -A -o {log} -e {calls} {real} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return log


def evil_contents(secret: Path, port: int) -> dict[str, bytes]:
    head = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n"
    names = {
        "beside": f"../outside/{secret.name}",
        "absolute": str(secret),
        "file": f"file://{secret}",
        "http": f"http://127.0.0.1:{port}/o.ts",
    }
    playlists = {kind: f"{head}{name}\n#EXT-X-ENDLIST\n".encode() for kind, name in names.items()}
    concat = f"ffconcat version 1.0\nfile '{secret}'\n".encode()
    return {**playlists, "concat": concat, "padded": playlists["absolute"] + b"\n" * 40_000}


def require_nothing_opened(log: Path, secret: Path) -> None:
    told = log.read_text()
    assert "openat(" in told  # it was watched at all
    assert secret.name not in told
    assert not re.search(r"\b(socket|connect)\(", told)


@pytest.mark.parametrize("kind", ["beside", "absolute", "file", "http", "concat", "padded"])
async def test_a_playlist_in_a_segments_clothes_is_not_followed(
    tmp_path: Path, outside: Path, traced: Path, kind: str
) -> None:
    """Straight into ffmpeg, past our own look at it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        content = evil_contents(outside, server.getsockname()[1])[kind]

        async def blocks() -> AsyncIterator[bytes]:
            yield content

        arguments = (*TRANSPORT_STREAM, "-i", "pipe:0", "-c", "copy", "-f", "mpegts", "pipe:1")
        with pytest.raises(MediaBroken):
            await run(arguments, blocks(), Limits(), folder=str(tmp_path / "bin"))
        with pytest.raises(BlockingIOError):
            server.accept()
    require_nothing_opened(traced, outside)


@pytest.mark.parametrize("kind", ["beside", "absolute", "file", "http", "concat"])
async def test_one_behind_real_footage_is_left_out_of_an_export(
    tmp_path: Path, outside: Path, traced: Path, kind: str
) -> None:
    footage = cached_ts(seconds=2).read_bytes()
    content = footage + evil_contents(outside, 9)[kind] + footage

    @asynccontextmanager
    async def opened(start: int, length: int | None) -> AsyncIterator[AsyncIterator[bytes]]:
        async def blocks() -> AsyncIterator[bytes]:
            yield content[start:] if length is None else content[start : start + length]

        yield blocks()

    span = TimeSpan(T0, T0 + timedelta(seconds=4))
    piece = Piece(name="evil", span=span, size_bytes=len(content), open=opened)
    work = tmp_path / "work"
    work.mkdir()
    done = await join([piece], span, JoinPlan(container=Container.MP4, folder=work, stem="gate"))
    (part,) = done.parts
    assert part.lost_bytes > 0
    assert part.span == span
    require_nothing_opened(traced, outside)


def test_an_ffmpeg_that_is_let_would_have_followed_it(tmp_path: Path, outside: Path, traced: Path) -> None:
    """Else the trace would prove nothing."""
    evil = tmp_path / "bin" / "evil.ts"
    evil.write_bytes(evil_contents(outside, 9)["beside"])
    argv = ["ffmpeg", "-nostdin", "-v", "quiet", "-i", str(evil), "-c", "copy", "-f", "null", "-"]
    subprocess.run(argv, check=False, timeout=60)
    assert outside.name in traced.read_text()
