"""The fallback: right where the probe cannot tell, and gone when it is done, late or unwanted."""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import psutil
import pytest

from cctv_storaged.mpegts.probe import probe_by
from cctv_storaged.recorder.ffprobe import ffprobe_duration
from tests.footage import Recipe, cached_ts

FRAME = timedelta(seconds=1 / 25)


@contextmanager
def opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def file_of(folder: Path, data: bytes) -> Path:
    path = folder / "a.ts"
    path.write_bytes(data)
    return path


def program(folder: Path, script: str) -> str:
    """A stand-in for ffprobe that behaves as badly as `script` says."""
    path = folder / "ffprobe"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.01)


measured = partial(ffprobe_duration, timeout_s=60)  # ffprobe may be slow to begin on a busy machine


def near(duration: timedelta | None, seconds: float) -> bool:
    return duration is not None and abs(duration - timedelta(seconds=seconds)) <= FRAME


RECIPES: dict[str, tuple[Recipe, float]] = {
    "H.264": ({"audio": True, "bframes": 2}, 2),
    "H.265": ({"codec": "hevc", "bframes": 2}, 2),
    "ten seconds": ({"seconds": 10}, 10),
    "clock wraps": ({"ts_offset_s": 95441, "seconds": 4}, 4),
    "sound alone": ({"codec": None, "audio": True}, 2),
}


@pytest.mark.parametrize(("recipe", "seconds"), RECIPES.values(), ids=RECIPES.keys())
async def test_a_whole_file_is_measured(recipe: Recipe, seconds: float) -> None:
    with opened(cached_ts(**recipe)) as descriptor:
        assert near(await measured(descriptor), seconds)


async def test_a_clock_that_begins_anew_is_measured_where_the_probe_cannot_tell(tmp_path: Path) -> None:
    late = cached_ts(seconds=1, ts_offset_s=1000).read_bytes()
    data = late + cached_ts(seconds=2).read_bytes() + late
    assert probe_by(lambda offset, length: data[offset : offset + length], len(data)).duration is None
    with opened(file_of(tmp_path, data)) as descriptor:
        assert near(await measured(descriptor), 4)


async def test_the_open_file_is_measured_whatever_its_name_and_position(tmp_path: Path) -> None:
    path = file_of(tmp_path, cached_ts().read_bytes())
    with opened(path) as descriptor:
        path.unlink()
        os.lseek(descriptor, 100_000, os.SEEK_SET)
        assert near(await measured(descriptor), 2)
        assert near(await measured(descriptor), 2)


@pytest.mark.parametrize(
    "playlist",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nfile:{}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile file:{}\n",
    ],
)
async def test_a_playlist_is_not_followed(playlist: str, tmp_path: Path) -> None:
    (tmp_path / "other.ts").write_bytes(cached_ts().read_bytes())
    with opened(file_of(tmp_path, playlist.format(tmp_path / "other.ts").encode())) as descriptor:
        assert await measured(descriptor) is None


async def test_the_child_gets_no_name_and_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIO_SECRET_KEY", "hunter2")
    monkeypatch.setenv("FFREPORT", f"file={tmp_path}/report")
    told = tmp_path / "told"
    script = f'printf "%s\\n" "$@" > {told}; env >> {told}'
    with opened(file_of(tmp_path, b"x")) as descriptor:
        await measured(descriptor, program=program(tmp_path, script))
    words = told.read_text()
    assert "-protocol_whitelist\npipe\n-f\nmpegts\n-i\npipe:0\n" in words
    assert "a.ts" not in words
    assert "hunter2" not in words
    assert "FFREPORT" not in words


async def test_garbage_has_no_duration_and_the_log_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(file_of(tmp_path, b"no stream at all" * 1000)) as descriptor:
        assert await measured(descriptor) is None
    [record] = caplog.records
    assert "End of file" in vars(record)["stderr"]


async def test_a_file_of_one_packet_has_no_duration(tmp_path: Path) -> None:
    with opened(file_of(tmp_path, cached_ts().read_bytes()[:188])) as descriptor:
        assert await measured(descriptor) is None


async def test_endless_complaints_neither_block_nor_pile_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    script = "head -c 5000000 /dev/zero | tr '\\0' 'x' >&2; echo the end >&2"
    with opened(file_of(tmp_path, b"x")) as descriptor:
        assert await measured(descriptor, program=program(tmp_path, script)) is None
    [record] = caplog.records
    assert vars(record)["stderr"].endswith("the end")
    assert len(vars(record)["stderr"]) <= 2048


async def test_without_ffprobe_there_is_no_duration_and_one_log_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    missing = str(tmp_path / "nowhere" / "ffprobe")
    with opened(cached_ts()) as descriptor:
        for _ in range(3):
            assert await measured(descriptor, program=missing) is None
    assert len(caplog.records) == 1


HANG = """
sleep 1000 &
echo $! > "{folder}/grandchild"
echo $$ > "{folder}/child.part"
mv "{folder}/child.part" "{folder}/child"
wait
"""


def hanging(folder: Path) -> str:
    """A program that starts another one and never ends."""
    return program(folder, HANG.format(folder=folder))


def lives(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != "zombie")
    except psutil.NoSuchProcess:  # perhaps just now
        return False


def gone(folder: Path) -> bool:
    return not any(lives(int((folder / name).read_text())) for name in ("child", "grandchild"))


async def test_one_that_hangs_is_ended_with_all_it_started(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    timeout_s = 1.0
    with opened(cached_ts()) as descriptor:
        while not (tmp_path / "child").exists():  # on a busy machine it may be ended before it has begun
            assert await ffprobe_duration(descriptor, timeout_s=timeout_s, program=hanging(tmp_path)) is None
            timeout_s *= 2
    await until(lambda: gone(tmp_path))
    assert "too long" in caplog.text


async def test_a_cancelled_question_ends_the_child_and_is_cancelled(tmp_path: Path) -> None:
    with opened(cached_ts()) as descriptor:
        asking = asyncio.create_task(ffprobe_duration(descriptor, timeout_s=60, program=hanging(tmp_path)))
        await until((tmp_path / "child").exists)
        child = psutil.Process(int((tmp_path / "child").read_text()))
        await until(lambda: child.nice() >= 10)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    await until(lambda: gone(tmp_path))


async def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    hang = hanging(tmp_path)
    with opened(cached_ts()) as descriptor:
        await measured(descriptor)
        before = len(os.listdir("/proc/self/fd"))
        await measured(descriptor)
        await ffprobe_duration(descriptor, timeout_s=0.2, program=hang)
        await measured(descriptor, program=str(tmp_path / "missing"))
        await until(lambda: len(os.listdir("/proc/self/fd")) <= before)
