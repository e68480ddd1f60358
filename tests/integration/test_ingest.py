"""One file, looked at: what becomes of it when it changes meanwhile, resists, or its root hangs.

A real journal and real footage; no watcher and no scan.
"""

import asyncio
import os
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from cctv_storaged import ingest as service
from cctv_storaged.clock import SystemClock
from cctv_storaged.events import EventHub
from cctv_storaged.ingest import FINAL, Ingest, IngestContext, Outcome
from cctv_storaged.journal.journal import Journal
from cctv_storaged.metrics import Metrics
from cctv_storaged.model import NewSegment, Segment, SegmentFlag, SourceFile
from cctv_storaged.mpegts.probe import HEAD_BYTES, TAIL_BYTES
from cctv_storaged.recorder.admission import CameraBook, Found, Root, inspect, whole
from cctv_storaged.recorder.layout import Layout
from tests.fakes.fakecam import unique
from tests.footage import cached_ts

NAME = "gate/2026-11-01/10-00-00.ts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Roots that nobody watches, and who looks at what lies in them."""

    folder: Path
    journal: Journal
    metrics: Metrics
    ingest: Ingest
    registered: list[Segment]

    def root(self, name: str = "recordings", *, remote: bool = False) -> Root:
        layout = Layout.parse("{camera}/%Y-%m-%d/%H-%M-%S.ts", ZoneInfo("UTC"))
        return Root(
            path=str(self.folder / name), layout=layout, cameras=CameraBook("host", ()), remote=remote
        )

    def write(self, data: bytes, path: str = NAME, *, root: str = "recordings") -> Path:
        target = self.folder / root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        return target

    async def look(self, path: str = NAME, *, root: Root | None = None) -> Outcome:
        return await self.ingest.consider(root or self.root(), path, lambda source: True)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    metrics, registered = Metrics(), list[Segment]()
    async with await Journal.open(tmp_path / "data", "host", datetime.now(UTC)) as journal:
        context = IngestContext(
            journal=journal, backends=("FILESYSTEM",), clock=SystemClock(), metrics=metrics, hub=EventHub()
        )
        ingest = Ingest(context, registered.append)
        yield Bench(folder=tmp_path, journal=journal, metrics=metrics, ingest=ingest, registered=registered)
        ingest.close()


def footage(salt: str, seconds: float = 1) -> bytes:
    return unique(cached_ts(seconds=seconds).read_bytes(), salt)


def with_a_clock_that_begins_anew() -> bytes:
    """Its own probe cannot tell how long it is, so ffprobe is asked."""
    late = cached_ts(seconds=1, ts_offset_s=1000).read_bytes()
    return late + cached_ts(seconds=2).read_bytes() + late


@pytest.mark.parametrize("data", [b"", bytes(50_000)], ids=["emptied", "garbage"])
async def test_a_segment_overwritten_by_what_is_none_is_a_loss_that_is_told(
    bench: Bench, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Invariant 8: in the ledger, as a metric and in the log."""
    bench.write(footage("delivered nowhere"))
    assert await bench.look() is Outcome.REGISTERED
    bench.write(data)
    assert await bench.look() is Outcome.SET_ASIDE
    assert await bench.journal.ledger.losses() == {"overwritten_by_recorder": 1}
    value = bench.metrics.registry.get_sample_value
    assert value("storage_segments_lost_total", {"cause": "overwritten_by_recorder"}) == 1
    assert "FOOTAGE LOST" in caplog.text
    assert "was stopped before it wrote any" not in caplog.text


async def test_what_is_set_aside_says_what_is_wrong_with_it(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.write(footage("misnamed"), "gate/notes.ts")
    bench.write(footage("real"))
    (bench.folder / "recordings" / "gate/2026-11-01/10-00-10.ts").symlink_to("10-00-00.ts")
    bench.write(b"", "gate/2026-11-01/10-00-20.ts")
    for path in ("gate/notes.ts", "gate/2026-11-01/10-00-10.ts", "gate/2026-11-01/10-00-20.ts"):
        assert await bench.look(path) is Outcome.SET_ASIDE
    assert "does not fit the root's layout '{camera}/%Y-%m-%d/%H-%M-%S.ts'" in caplog.text
    assert "'gate/2026-11-01/10-00-10.ts' is a symbolic link" in caplog.text
    assert "was stopped before it wrote any" in caplog.text


async def test_footage_from_the_future_is_told_once_a_camera(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    ahead = datetime.now(UTC) + timedelta(days=3)
    for number in range(3):
        for camera in ("gate", "yard"):
            path = f"{camera}/{ahead:%Y-%m-%d}/10-00-0{number}.ts"
            bench.write(footage(path), path)
            assert await bench.look(path) is Outcome.REGISTERED
    assert all(SegmentFlag.TIME_SUSPECT in segment.flags for segment in bench.registered)
    cameras = {str(segment.camera_id) for segment in bench.registered}
    bench.write(footage("today"), today := f"hall/{datetime.now(UTC):%Y-%m-%d/%H-%M-%S}.ts")
    assert await bench.look(today) is Outcome.REGISTERED
    told = [record for record in caplog.records if "footage from the future" in record.message]
    assert sorted(vars(record)["camera_id"] for record in told) == sorted(cameras)


@pytest.mark.parametrize("seconds", [15 * 10**9, 10**12, -(10**12)], ids=["2445", "in thousands", "before"])
async def test_a_file_time_that_no_clock_shows_costs_a_flag_and_not_the_daemon(
    bench: Bench, seconds: int
) -> None:
    path = bench.write(footage("odd"))
    os.utime(path, ns=(0, seconds * 10**9))  # the file system may not go as far
    assert await bench.look() is Outcome.REGISTERED
    assert SegmentFlag.TIME_SUSPECT in bench.registered[0].flags
    assert bench.registered[0].span.start == datetime(2026, 11, 1, 10, tzinfo=UTC)
    assert await bench.look() is Outcome.KNOWN
    later = path.stat().st_mtime_ns + (10**9 if seconds < 0 else -(10**9))
    os.utime(path, ns=(0, later))
    assert await bench.look() is Outcome.REGISTERED, "another time is another file"


async def test_a_file_that_our_own_fault_trips_over_holds_up_no_other(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trips(root: Root, found: Found) -> NewSegment:
        if found.source.path == NAME:
            raise LookupError("a fault in the probe")
        return whole(root, found)

    monkeypatch.setattr(service, "whole", trips)
    bench.write(footage("one"))
    bench.write(footage("two"), "gate/2026-11-01/10-00-10.ts")
    assert await bench.look() is Outcome.POSTPONED
    assert await bench.look("gate/2026-11-01/10-00-10.ts") is Outcome.REGISTERED
    monkeypatch.setattr(service, "whole", whole)
    assert await bench.look() is Outcome.REGISTERED


async def test_a_file_rewritten_while_ffprobe_reads_it_is_not_written_down_as_it_was(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T-07: the earlier version would stand in the journal, and the later one would seem lost."""
    rewritten = footage("later", seconds=3)

    async def slow(descriptor: int) -> timedelta:
        bench.write(rewritten)
        return timedelta(seconds=4)

    monkeypatch.setattr(service, "ffprobe_duration", slow)
    bench.write(with_a_clock_that_begins_anew())
    assert await bench.look() is Outcome.CHANGED
    assert Outcome.CHANGED not in FINAL, "the next scan has to look again"
    assert not bench.registered
    assert await bench.look() is Outcome.REGISTERED
    assert bench.registered[0].size_bytes == len(rewritten)


async def test_looks_at_one_path_follow_each_other(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the one that saw the earlier version may be the last to write it down."""
    at_work, most = Counter[str](), Counter[str]()

    def counted(root: Root, path: str, closed: Callable[[SourceFile], bool]) -> Found:
        at_work[path] += 1
        most[path] = max(most[path], at_work[path])
        try:
            return inspect(root, path, closed)
        finally:
            at_work[path] -= 1

    monkeypatch.setattr(service, "inspect", counted)
    bench.write(footage("one"))
    outcomes = await asyncio.gather(*(bench.look() for _ in range(20)))
    assert Counter(outcomes) == {Outcome.REGISTERED: 1, Outcome.KNOWN: 19}
    assert most == {NAME: 1}


async def test_files_that_need_ffprobe_wait_for_each_other(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Invariant 9: a first scan of a thousand such files must not start them all."""
    at_work, most = 0, 0

    async def counted(descriptor: int) -> timedelta:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await asyncio.sleep(0)
        at_work -= 1
        return timedelta(seconds=4)

    monkeypatch.setattr(service, "ffprobe_duration", counted)
    paths = [f"gate/2026-11-01/10-00-{second:02}.ts" for second in range(8)]
    for path in paths:
        bench.write(with_a_clock_that_begins_anew(), path)
    assert set(await asyncio.gather(*map(bench.look, paths))) == {Outcome.REGISTERED}
    assert most == 1


async def test_a_root_that_hangs_holds_up_no_other(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network mount whose server is away answers nothing, not even an error."""
    server_is_back = threading.Event()

    def hangs(root: Root, path: str, closed: Callable[[SourceFile], bool]) -> Found:
        if root.path.endswith("nas"):
            server_is_back.wait()
        return inspect(root, path, closed)

    monkeypatch.setattr(service, "inspect", hangs)
    paths = [f"gate/2026-11-01/10-00-{second:02}.ts" for second in range(8)]
    for path in paths:
        bench.write(footage(path), path, root="nas")
    nas = bench.root("nas")
    hanging = [asyncio.create_task(bench.look(path, root=nas)) for path in paths]
    try:
        bench.write(footage("local"))
        assert await asyncio.wait_for(bench.look(), 30) is Outcome.REGISTERED
        assert not any(task.done() for task in hanging)
    finally:
        server_is_back.set()
    assert set(await asyncio.gather(*hanging)) == {Outcome.REGISTERED}


async def test_an_open_file_on_a_network_mount_is_not_read_before_it_is_closed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked at many times until it stands still: each reading would cost the recorder's network."""
    monkeypatch.setattr("cctv_storaged.recorder.admission.probe_by", None)
    bench.write(footage("growing"))
    outcome = await bench.ingest.consider(bench.root(remote=True), NAME, lambda source: False)
    assert outcome is Outcome.UNSETTLED


async def test_looking_at_a_file_reads_its_two_ends_and_asks_for_no_more(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Invariant 9: the kernel's reading ahead doubles what a first scan costs a recorder's disk."""
    advice, read = list[int](), list[int]()
    real_advise, real_read = os.posix_fadvise, os.pread

    def advise(descriptor: int, offset: int, length: int, kind: int) -> None:
        advice.append(kind)
        real_advise(descriptor, offset, length, kind)

    def counted(descriptor: int, length: int, offset: int) -> bytes:
        assert advice, "before the first byte is read"
        read.append(length)
        return real_read(descriptor, length, offset)

    monkeypatch.setattr(os, "posix_fadvise", advise)
    monkeypatch.setattr(os, "pread", counted)
    bench.write(cached_ts(seconds=10, bitrate="4M", size="640x360").read_bytes())
    assert await bench.look() is Outcome.REGISTERED
    assert advice == [os.POSIX_FADV_RANDOM]
    assert sum(read) == HEAD_BYTES + TAIL_BYTES
