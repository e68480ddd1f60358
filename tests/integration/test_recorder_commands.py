"""The recorders' commands of docs/guide/recorders.md, run as they stand: what they write is registered."""

import asyncio
import os
import re
import shlex
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.footage import cached_ts
from tests.integration.api.harness import Host, running, until

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "recorders.md"
STREAM = "rtsp://camera/stream"
SECONDS = 6
SEGMENT_S = 2
"""As short as the guide allows: of two that begin in one second the later takes the other's name."""


def section(heading: str) -> str:
    return PAGE.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]


def blocks(heading: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", section(heading), re.S)


def settings(heading: str, number: int, root: Path) -> dict[str, Any]:
    told = [yaml.safe_load(each) for each in blocks(heading, "yaml") if each.startswith("recorders:")]
    (recorder,) = told[number]["recorders"]
    return {"recorders": [{**recorder, "path": str(root)}]}


@asynccontextmanager
async def recording(argv: Sequence[str], environ: Mapping[str, str]) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        *argv, env={**os.environ, **environ}, stderr=subprocess.PIPE
    )
    try:
        _, told = await process.communicate()
        assert process.returncode == 0, told.decode()
        yield
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def footage() -> Path:
    return cached_ts(seconds=SECONDS, gop=25)


def ffmpeg_command(text: str, root: Path, scratch: Path) -> tuple[list[str], dict[str, str]]:
    """As it stands, but for the camera, which is a file read at its pace, and the lengths."""
    words = shlex.split(text.replace("\\\n", " ").removeprefix("mkdir -p /recordings/gate\n"))
    environ = dict(word.split("=", 1) for word in words if re.match(r"^[A-Z]+=", word))
    words = [word for word in words if not re.match(r"^[A-Z]+=", word)]
    camera = words.index("-rtsp_transport")
    words[camera : camera + 4] = ["-re", "-i", str(footage())]
    for option in ("-segment_time", "-hls_time"):
        if option in words:
            words[words.index(option) + 1] = str(SEGMENT_S)
    return [word.replace("/recordings", str(root)).replace("/run/", f"{scratch}/") for word in words], environ


async def registered(host: Host, least: int) -> list[dict[str, Any]]:
    async def all_there() -> list[dict[str, Any]] | None:
        cameras = (await host.get("/cameras")).json["cameras"]
        if not cameras:
            return None
        (camera,) = cameras
        assert camera["name"] == "gate"
        found = (await host.get(f"/segments/{camera['id']}")).json["segments"]
        return found if len(found) >= least else None

    return await until(all_there)


def files_below(root: Path) -> list[Path]:
    return sorted(root.rglob("*.ts"))


@pytest.mark.parametrize("number", [0, 1], ids=["segment", "hls"])
async def test_what_ffmpeg_records_as_the_guide_says_is_registered(tmp_path: Path, number: int) -> None:
    root = tmp_path / "recordings"
    (root / "gate").mkdir(parents=True)
    argv, environ = ffmpeg_command(blocks("ffmpeg", "sh")[number], root, tmp_path)
    async with running(tmp_path, settings("ffmpeg", number, root)) as host:
        host.watch()
        async with recording(argv, environ):
            files = files_below(root)
            assert len(files) >= SECONDS // SEGMENT_S - 1
            segments = await registered(host, len(files))
            assert len(segments) == len(files)
            assert [each["flags"] for each in segments if "time_suspect" in each["flags"]] == []


async def test_what_gstreamer_records_as_the_guide_says_is_registered(tmp_path: Path) -> None:
    root, program = tmp_path / "recordings", tmp_path / "record.py"
    program.write_text(blocks("GStreamer", "python")[0])
    command = shlex.split(blocks("GStreamer", "sh")[0])
    parser = command.index("h264parse")
    source = [
        "filesrc",
        f"location={footage()}",
        "!",
        "tsdemux",
        "!",
        "queue",
        "!",
        *command[parser:],
        "!",
        "identity",
        "sync=true",
    ]
    argv = ["/usr/bin/python3", str(program), str(root / "gate"), str(SEGMENT_S), *source]
    async with running(tmp_path, settings("GStreamer", 0, root)) as host:
        host.watch()
        async with recording(argv, {}):
            files = files_below(root)
            assert len(files) >= SECONDS // SEGMENT_S - 1
            segments = await registered(host, len(files))
            assert len(segments) == len(files)
