"""Where pictures are kept, and how much of the host making them may take."""

import asyncio
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from cctv_storaged.clock import SystemClock
from cctv_storaged.errors import BackendUnavailable, NotFound
from cctv_storaged.metrics import Metrics
from cctv_storaged.model import FileIdentity, Segment, SourceFile, SourceState, TimeSpan
from cctv_storaged.picturecache import Name, PictureCache
from cctv_storaged.thumbnailing import MOST_WAITING, SHARE, Thumbnailing
from tests.clockfootage import clock_ts, second_shown
from tests.daemon import Daemon, wait_until
from tests.fakes.fakecam import FakeCam, write_direct
from tests.integration.api.harness import files_below

T0 = datetime(2026, 3, 5, 12, tzinfo=UTC)
IDENTITY = FileIdentity(device=1, inode=1, size_bytes=1, mtime_ns=1)


def some_segment(number: int) -> Segment:
    start = T0 + timedelta(seconds=10 * number)
    return Segment(
        id=UUID(int=number),
        camera_id=UUID(int=0),
        span=TimeSpan(start, start + timedelta(seconds=10)),
        source=SourceFile(root="/r", path=f"{number}.ts", identity=IDENTITY),
        source_state=SourceState.PRESENT,
        flags=frozenset(),
        codec="h264",
        sha256=None,
        created_at=T0,
    )


# -- the cache ------------------------------------------------------------------------------------------


async def cache_in(folder: Path, limit_bytes: int = 10_000) -> PictureCache:
    cache = PictureCache(folder, limit_bytes)
    await cache.open()
    return cache


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_pictures_are_found_again_by_the_next_process_and_only_there(tmp_path: Path) -> None:
    segment = uuid4()
    names = [
        Name(segment, 320, None),
        Name(segment, 320, 17),
        Name(segment, 160, None),
        Name(uuid4(), 320, 17),
    ]
    cache = await cache_in(tmp_path)
    for number, name in enumerate(names):
        await cache.keep(name, b"picture %d" % number)
    again = await cache_in(tmp_path)
    for number, name in enumerate(names):
        found = await again.find(name)
        assert found is not None
        assert found.jpeg == b"picture %d" % number
    assert await again.find(Name(segment, 320, 18)) is None
    await again.drop(segment)
    assert [await again.find(name) is None for name in names] == [True, True, True, False]
    assert len(files_in(tmp_path)) == 1


async def test_the_cache_stays_within_its_bytes_and_keeps_what_is_asked_for(tmp_path: Path) -> None:
    cache = await cache_in(tmp_path, 1000)
    wanted = Name(uuid4(), 320, None)
    await cache.keep(wanted, bytes(100))
    others = [Name(uuid4(), 320, None) for _ in range(40)]
    for name in others:
        await cache.keep(name, os.urandom(100))
        assert await cache.find(wanted) is not None
        assert cache.size_bytes <= 1000
    assert sum(path.stat().st_size for path in files_in(tmp_path)) == cache.size_bytes == 1000
    smaller = await cache_in(tmp_path, 300)
    assert smaller.size_bytes == sum(path.stat().st_size for path in files_in(tmp_path)) == 300


async def test_what_a_kill_left_behind_is_swept_and_what_is_not_ours_stays(tmp_path: Path) -> None:
    cache = await cache_in(tmp_path)
    name = Name(uuid4(), 320, None)
    await cache.keep(name, b"whole")
    (kept,) = files_in(tmp_path)
    kept.with_suffix(".0123abcd.part").write_bytes(b"ha")
    (kept.parent / "nonsense.jpg").write_bytes(b"x")
    (kept.parent / "README").write_text("somebody's")
    (tmp_path / "link.jpg").symlink_to(kept)
    again = await cache_in(tmp_path)
    assert {path.name for path in files_in(tmp_path)} == {kept.name, "README", "link.jpg"}
    assert await again.find(name) is not None


@pytest.mark.parametrize("damage", ["torn", "flipped", "gone"])
async def test_a_damaged_picture_is_none(tmp_path: Path, damage: str) -> None:
    cache = await cache_in(tmp_path)
    name = Name(uuid4(), 320, None)
    await cache.keep(name, b"some picture")
    (kept,) = files_in(tmp_path)
    if damage == "gone":
        kept.unlink()
    else:
        kept.write_bytes(b"some" if damage == "torn" else b"some pictire")
    for each in (cache, await cache_in(tmp_path)):
        assert await each.find(name) is None
        assert await each.find(name) is None
    assert cache.size_bytes == 0
    assert files_in(tmp_path) == []


async def test_other_bytes_under_a_name_take_the_place_of_the_first(tmp_path: Path) -> None:
    cache = await cache_in(tmp_path)
    name = Name(uuid4(), 320, None)
    first, second = await cache.keep(name, b"first"), await cache.keep(name, b"second one")
    assert first.tag != second.tag
    found = await cache.find(name)
    assert found == second
    assert len(files_in(tmp_path)) == 1
    assert cache.size_bytes == 10


async def test_a_disk_that_takes_nothing_costs_the_cache_and_no_picture(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = await cache_in(tmp_path / "file" / "below")
    name = Name(uuid4(), 320, None)
    assert (await cache.keep(name, b"picture")).jpeg == b"picture"
    assert await cache.find(name) is None


# -- on ingest ------------------------------------------------------------------------------------------


class Drawing:
    """Stands for `Thumbnails`: says what it was asked to draw, and may fail at some."""

    def __init__(self, failures: dict[int, Exception] | None = None) -> None:
        self.drawn: list[int] = []
        self.at_once = 0
        self._failures = failures or {}
        self._now = 0

    async def on_ingest(self, segment: Segment) -> None:
        self._now += 1
        self.at_once = max(self.at_once, self._now)
        await asyncio.sleep(0)
        self._now -= 1
        self.drawn.append(segment.id.int)
        if (failure := self._failures.get(segment.id.int)) is not None:
            raise failure


class WorkClock(SystemClock):
    """Every look at it is three seconds after the last."""

    def __init__(self) -> None:
        self._at = 0.0

    def monotonic(self) -> float:
        self._at += 3.0
        return self._at


@pytest.fixture
def rests(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What `Thumbnailing` slept; it passes at once."""
    slept: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        if seconds:
            slept.append(seconds)
        await real(0)

    monkeypatch.setattr("cctv_storaged.thumbnailing.asyncio.sleep", sleep)
    return slept


async def drained(work: Thumbnailing, drawing: Drawing, count: int) -> None:
    task = asyncio.create_task(work.run())
    async with asyncio.timeout(20):
        while len(drawing.drawn) < count:
            await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def waiting(drawing: Any, metrics: Metrics, count: int) -> Thumbnailing:
    work = Thumbnailing(drawing, WorkClock(), metrics)
    for number in range(count):
        work.offer(some_segment(number))
    return work


async def test_a_flood_of_segments_makes_no_more_than_a_short_queue_newest_first(rests: list[float]) -> None:
    metrics, drawing = Metrics(), Drawing()
    flood = 5000
    await drained(waiting(drawing, metrics, flood), drawing, MOST_WAITING)
    assert drawing.drawn == list(range(flood - 1, flood - 1 - MOST_WAITING, -1))
    assert drawing.at_once == 1
    skipped = metrics.registry.get_sample_value("storage_thumbnails_skipped_total")
    assert skipped == flood - MOST_WAITING


async def test_it_works_a_tenth_of_the_time(rests: list[float]) -> None:
    drawing = Drawing()
    await drained(waiting(drawing, Metrics(), 5), drawing, 5)
    worked_s = 3.0  # each, by its clock
    assert rests
    assert [worked_s / (worked_s + rest) for rest in rests] == pytest.approx([SHARE] * len(rests))


async def test_one_odd_segment_does_not_end_it(rests: list[float]) -> None:
    failures = {
        1: NotFound("no picture"),
        2: BackendUnavailable("away"),
        3: OSError("disk"),
        4: ZeroDivisionError("ours"),
    }
    drawing = Drawing(failures)
    await drained(waiting(drawing, Metrics(), 6), drawing, 6)
    assert sorted(drawing.drawn) == [0, 1, 2, 3, 4, 5]


PATIENT = """
import sys
from cctv_storaged import cli, thumbnailshelf
thumbnailshelf.FETCH_TIMEOUT_S = 60.0
del sys.argv[1:4]  # what would have been run
cli.main()
"""
"""On a busy machine a shelf may take its second to answer, and the picture would be made anew."""


def test_the_daemon_draws_as_segments_come_and_a_kill_costs_no_picture(daemon: Daemon) -> None:
    daemon.wrapper = (sys.executable, "-c", PATIENT)
    cam = FakeCam(
        daemon.recordings, "gate", clock_ts(first=3, seconds=2).read_bytes(), daemon.folder / "aside"
    )
    daemon.start()
    for _ in range(3):
        cam.write(write_direct)
    segments = daemon.wait_delivered(3)
    shelf = daemon.store / "thumbnails"
    wait_until(lambda: len(list(shelf.rglob("*.jpg"))) == 3, "every segment has its thumbnail")
    paths = [f"/segments/{each['camera_id']}/{each['id']}/thumbnail.jpg" for each in segments]
    before = [daemon.request("GET", path)[1] for path in paths[:2]]
    assert [second_shown(jpeg) for jpeg in before] == [3, 3]
    daemon.kill()
    daemon.start()
    assert [daemon.request("GET", path)[1] for path in paths[:2]] == before
    assert second_shown(daemon.request("GET", paths[2])[1]) == 3
    assert daemon.metric("storage_thumbnails_served_total", origin="cache") == 2
    assert daemon.metric("storage_thumbnails_served_total", origin="shelf") == 1
    assert daemon.metric("storage_thumbnails_made_total", occasion="request") == 0
    for segment in segments:
        daemon.request("DELETE", f"/segments/{segment['camera_id']}/{segment['id']}")
    wait_until(lambda: not list(files_below(shelf, ".jpg")), "the thumbnails go with their segments")
    assert not list((daemon.data_dir / "cache" / "thumbnails").rglob("*.jpg"))
