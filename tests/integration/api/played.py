"""Recordings on a host, to be played: what real recorders leave, registered as it is."""

import asyncio
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Unpack
from uuid import UUID

from cctv_storaged.clock import rfc3339
from cctv_storaged.mpegts.probe import StreamFacts, probe_by
from tests.footage import Recorder, segment_stream
from tests.integration.api.harness import API, Host, description

CAMERA = UUID("123e4567-e89b-12d3-a456-426614174000")
T0 = datetime(2026, 1, 1, 10, tzinfo=UTC)


def facts_of(path: Path) -> StreamFacts:
    data = path.read_bytes()
    return probe_by(lambda offset, length: data[offset : offset + length], len(data))


async def recorded(
    host: Host,
    folder: str,
    start: datetime = T0,
    *,
    without: Sequence[int] = (),
    **recorder: Unpack[Recorder],
) -> list[dict[str, Any]]:
    """The segments a recorder left below `folder`, end to end from `start` on, but those of some numbers."""
    segments = []
    for number, path in enumerate(segment_stream(host.recordings / folder, **recorder)):
        duration = facts_of(path).duration
        assert duration is not None
        if number in without:
            path.unlink()
        else:
            body = description(path, camera=CAMERA, start=start, seconds=duration.total_seconds())
            reply = await host.post("/segments", body)
            assert reply.status == 201, reply
            segments.append(dict(reply.json))
        start += duration
    return segments


async def delivered(host: Host, segments: Sequence[Mapping[str, Any]]) -> None:
    """Brings verified copies of these about, and then delivers nothing any more."""
    host.deliver()
    for segment in segments:
        await host.delivered(segment)
    for task in host.tasks:
        task.cancel()
    await asyncio.gather(*host.tasks, return_exceptions=True)


async def player_token(host: Host) -> str:
    """A token that may read; from now on nobody comes in without one."""
    for scope in ("admin", "read"):
        made = await host.post("/tokens", {"name": scope, "scopes": [scope]})
        assert made.status == 201, made
        host.token = made.json["secret"] if scope == "admin" else None
    return str(made.json["secret"])


def address(host: Host, start: datetime = T0, end: datetime = T0 + timedelta(hours=1)) -> str:
    """Of the camera's playlist."""
    return f"{host.url}{API}{path(start, end)}"


def path(start: datetime = T0, end: datetime = T0 + timedelta(hours=1), camera: UUID = CAMERA) -> str:
    return f"/segments/{camera}/playlist.m3u8?start={rfc3339(start)}&end={rfc3339(end)}"


def frames_played(url: str, *, token: str | None = None) -> int:
    """How many pictures ffmpeg decodes of a playlist, without an error of its own."""
    given = ["-headers", f"Authorization: Bearer {token}\r\n"] if token else []
    argv = ["ffmpeg", "-nostdin", "-v", "fatal", *given, "-i", url, "-map", "0:v:0"]
    argv += ["-fps_mode", "passthrough", "-copyts", "-f", "framecrc", "-"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return sum(not line.startswith("#") for line in done.stdout.splitlines())


def packets_played(url: str) -> int:
    """How many video packets ffprobe reads of a playlist, each in its turn."""
    argv = [
        "ffprobe",
        "-v",
        "fatal",
        "-select_streams",
        "v",
        "-show_entries",
        "packet=pts_time",
        "-of",
        "csv=p=0",
    ]
    done = subprocess.run([*argv, url], capture_output=True, text=True, timeout=60, check=True)
    return len(done.stdout.split())
