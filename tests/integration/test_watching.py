"""T-01, T-03, T-04, T-05: every closed file is registered, whatever becomes of the events.

In one process, with a real journal, real inotify and real footage; the daemon as a process has its turn in
tests/faults.
"""

import asyncio
import contextlib
import hashlib
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from prometheus_client import CollectorRegistry

from cctv_storaged import ingest, supervision, watching
from cctv_storaged.clock import SystemClock
from cctv_storaged.errors import SourceChanged
from cctv_storaged.events import EventHub
from cctv_storaged.guarding.identity import NAME, Mark, identity_in
from cctv_storaged.guarding.roots import UNGUARDED, Roots
from cctv_storaged.ingest import Ingest, IngestContext, Outcome
from cctv_storaged.journal.journal import Journal
from cctv_storaged.journal.segments import KnownFile
from cctv_storaged.metrics import Metrics
from cctv_storaged.model import FileIdentity, Segment, SegmentFlag, SourceFile
from cctv_storaged.recorder.admission import CameraBook, Found, Root, inspect
from cctv_storaged.recorder.layout import Layout
from cctv_storaged.recorder.settling import Settling
from cctv_storaged.recorder.source import OpenSource, Writer
from cctv_storaged.recorder.watcher import Hint, Sign, Watcher, watches_held
from cctv_storaged.supervision import FolderCensus
from cctv_storaged.watching import RootWatch, WatchContext
from tests.fakes.fakecam import STYLES, FakeCam, unique
from tests.footage import cached_ts

LAYOUT = "{camera}/%Y-%m-%d/%H-%M-%S.ts"


@dataclass(slots=True)
class Host:
    """A recorder root being watched, and what was registered from it."""

    folder: Path
    journal: Journal
    registered: list[Segment] = field(default_factory=list)
    metrics: Metrics = field(default_factory=Metrics)
    zone: str = "UTC"
    remote: bool = False
    scan_interval: timedelta = timedelta(hours=1)
    layout: str = LAYOUT
    mounted: bool = True
    roots: Roots = UNGUARDED

    @property
    def recordings(self) -> Path:
        return self.folder / "recordings"

    def cam(self, name: str, **options: object) -> FakeCam:
        footage = cached_ts(seconds=1).read_bytes()
        return FakeCam(self.recordings, name, footage, self.folder / "aside", **options)  # type: ignore[arg-type]

    def paths(self) -> set[str]:
        return {segment.source.path for segment in self.registered}

    @contextlib.asynccontextmanager
    async def watched(self, *, events: bool = True) -> AsyncIterator[RootWatch]:
        if self.mounted:
            self.recordings.mkdir(exist_ok=True)
        clock, hub = SystemClock(), EventHub()
        context = IngestContext(
            journal=self.journal,
            backends=("FILESYSTEM",),
            clock=clock,
            metrics=self.metrics,
            hub=hub,
            roots=self.roots,
        )
        looking = Ingest(context, self.registered.append)
        root = Root(
            path=str(self.recordings),
            layout=Layout.parse(self.layout, ZoneInfo(self.zone)),
            cameras=CameraBook("host", ()),
            remote=self.remote,
        )
        watch = RootWatch(
            root,
            WatchContext(
                ingest=looking,
                journal=self.journal,
                clock=clock,
                metrics=self.metrics,
                hub=hub,
                census=FolderCensus(),
                scan_interval=self.scan_interval,
                events=events,
                roots=self.roots,
            ),
        )
        running = asyncio.create_task(watch.run())
        try:
            await until(lambda: watch.scans > 0, "the first scan is over")
            yield watch
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            looking.close()


PATIENCE_S = 60.0
DUTY = watching.DUTY
"""As it is without the fixture below."""


@pytest.fixture(autouse=True)
def scans_as_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a scan that a busy machine made slow, half a second say, the next would be half a minute away."""
    monkeypatch.setattr(watching, "DUTY", 1.0)


async def until(condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    end = asyncio.get_running_loop().time() + patience_s
    while not condition():
        assert asyncio.get_running_loop().time() < end, f"not within {patience_s:g} s: {what}"
        await asyncio.sleep(0.02)


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    async with await Journal.open(tmp_path / "data", "host", datetime.now(UTC)) as journal:
        yield Host(tmp_path, journal)


async def test_a_root_with_another_places_disk_registers_nothing_until_it_is_right(host: Host) -> None:
    """Two roots swapped: neither a scan nor an event takes the other's files for its own."""
    own, swapped, aside = host.recordings, host.folder / "other", host.folder / "aside"
    for folder in (own, swapped):
        folder.mkdir()
        (folder / NAME).write_bytes(Mark.new(folder.name, datetime.now(UTC)).document())
    known = {str(own): identity_in((own / NAME).read_bytes())}
    host.roots = Roots(known.get)
    for name in ("yard", "hall"):
        await asyncio.to_thread(host.cam(name).write, STYLES[0])

    def swap() -> None:
        for source, target in ((own, aside), (swapped, own), (aside, swapped)):
            source.rename(target)

    swap()
    async with host.watched() as watch:
        await asyncio.to_thread(host.cam("gate").write, STYLES[0])
        await until(lambda: "gate" in {path.split("/")[0] for path in watch._owed}, "the event was followed")
        scans = watch.scans
        watch.rescan()
        await until(lambda: watch.scans > scans, "a scan")
        assert host.registered == []
        swap()
        watch.rescan()
        await until(lambda: {path.split("/")[0] for path in host.paths()} == {"yard", "hall"}, "its own")
        (own / NAME).unlink()
        await asyncio.to_thread(host.cam("door").write, STYLES[0])
        await until(lambda: len(host.registered) == 3, "without an identity new files are registered")


async def test_a_disk_that_is_changed_while_a_file_is_looked_at_registers_nothing(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.recordings.mkdir()
    mark = host.recordings / NAME
    mark.write_bytes(Mark.new("nvr-01", datetime.now(UTC)).document())
    host.roots = Roots({str(host.recordings): identity_in(mark.read_bytes())}.get)

    def changed(root: Root, path: str, closed: Callable[[SourceFile], bool]) -> Found:
        found = inspect(root, path, closed)
        mark.write_bytes(Mark.new("nvr-02", datetime.now(UTC)).document())
        return found

    monkeypatch.setattr(ingest, "inspect", changed)
    await asyncio.to_thread(host.cam("gate").write, STYLES[0])
    async with host.watched() as watch:
        assert (host.registered, await aside_reasons(host), watch.scans) == ([], {}, 1)


async def aside_reasons(host: Host) -> dict[str, int]:
    return await host.journal.segments.set_aside_counts()


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.__name__)
async def test_every_way_of_closing_a_file_is_noticed_without_a_scan(
    host: Host, style: Callable[[Path, bytes, Path], None]
) -> None:
    """scan_interval is an hour: only events (and looks at new folders) can find these."""
    async with host.watched():
        cams = [host.cam(name) for name in ("gate", "yard", "hall")]
        for _ in range(20):
            for cam in cams:
                await asyncio.to_thread(cam.write, style)
        expected = {entry.path for cam in cams for entry in cam.written}
        await until(lambda: host.paths() == expected, f"{len(expected)} segments, {len(host.paths())} so far")


@pytest.mark.parametrize("layout", ["{camera}/%Y%m%d%H%M%S.ts", LAYOUT, "{camera}/%Y/%m/%d/%H/%M-%S.ts"])
async def test_folders_made_and_filled_at_once_are_not_missed(host: Host, layout: str) -> None:
    host.layout = layout
    footage = cached_ts(seconds=1).read_bytes()
    async with host.watched() as watch:
        start = datetime(2026, 11, 1, tzinfo=UTC)
        expected = set()
        for number in range(60):
            moment = start + timedelta(hours=7 * number)
            path = moment.strftime(layout).replace("{camera}", f"cam{number % 7}")
            target = host.recordings / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(unique(footage, path))
            expected.add(path)
        await until(lambda: host.paths() == expected, f"all of {len(expected)} segments")
        assert watch.scans == 1, "a new folder is looked into; it is no reason to scan the whole root"


async def test_files_from_before_the_start_are_found_by_the_first_scan(host: Host) -> None:
    cam = host.cam("gate")
    for _ in range(10):
        cam.write()
    async with host.watched():
        assert host.paths() == {entry.path for entry in cam.written}
    assert host.metrics.scan_found._value.get() == 10


async def test_a_whole_tree_moved_in_is_registered(host: Host, tmp_path: Path) -> None:
    outside = Host(tmp_path / "other", host.journal)
    outside.folder.mkdir()
    cam = outside.cam("yard")
    for _ in range(5):
        cam.write()
    async with host.watched():
        (outside.recordings / "yard").rename(host.recordings / "yard")
        await until(lambda: len(host.registered) == 5, "the tree's five segments")
        late = host.recordings / "yard" / "2026-11-01" / "23-00-00.ts"
        late.write_bytes(unique(cam.footage, "late"))
        await until(lambda: len(host.registered) == 6, "a later file in a folder that was moved in")


async def test_a_file_held_open_is_not_touched_before_it_is_closed(host: Host) -> None:
    """T-05: bursts with silence in between, seen by scans every 100 ms and by no close event."""
    host.scan_interval = timedelta(milliseconds=100)
    data = unique(cached_ts(seconds=1).read_bytes(), "open")
    path = host.recordings / "gate" / "2026-11-01" / "10-00-00.ts"
    async with host.watched() as watch:
        path.parent.mkdir(parents=True)
        with path.open("wb") as writer:
            for burst in range(4):
                part = len(data) // 4 + 1
                writer.write(data[burst * part : (burst + 1) * part])
                writer.flush()
                seen = watch.scans
                watch.rescan()
                await until(lambda seen=seen: watch.scans > seen + 1, "two more scans")  # type: ignore[misc]
                assert not host.registered
        await until(lambda: len(host.registered) == 1, "the closed file")
    assert host.registered[0].size_bytes == len(data)


async def test_a_dead_emitter_is_replaced_and_nothing_is_missed(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T-03: the thread that turns kernel events into ours dies."""
    monkeypatch.setattr(supervision, "SUPERVISION_S", 0.1)
    watchers: list[Watcher] = []
    real_start = Watcher.start

    def remember(self: Watcher) -> None:
        watchers.append(self)
        real_start(self)

    monkeypatch.setattr(Watcher, "start", remember)
    cam = host.cam("gate")
    async with host.watched() as watch:
        cam.write()
        await until(lambda: len(host.registered) == 1, "a segment by event")
        for emitter in list(watchers[0]._observer.emitters):
            emitter.stop()
        cam.write()
        await until(lambda: len(watchers) == 2 and not watch.polling, "another watcher")
        cam.write()
        await until(lambda: len(host.registered) == 3, "what came before and after")


async def test_a_handler_that_raises_does_not_end_watching(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T-03: watchdog ends its dispatch thread for good when a handler raises."""
    failures = 0
    real = watching.RootWatch._take_hint

    def fails_once(self: RootWatch, hint: Hint) -> None:
        nonlocal failures
        failures += 1
        real(self, hint)

    monkeypatch.setattr(watching.RootWatch, "_take_hint", fails_once)
    told = 0
    real_to_loop = supervision._to_loop

    def broken_once(loop: asyncio.AbstractEventLoop, call: Callable[[Hint], None], hint: Hint) -> None:
        nonlocal told
        told += 1
        if told <= 2:
            raise RuntimeError("a fault in the handler")
        real_to_loop(loop, call, hint)

    monkeypatch.setattr(supervision, "_to_loop", broken_once)
    cam = host.cam("gate")
    async with host.watched() as watch:
        for _ in range(5):
            cam.write()
        watch.rescan()
        await until(lambda: len(host.registered) == 5, "all five, by event or by scan")
        await until(lambda: told > 2, "events behind the faults")
        assert not watch.polling, "the watcher lives"


async def test_without_any_watch_left_scans_find_everything(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T-04: the user's inotify watches are used up by somebody else (ENOSPC at the root)."""
    monkeypatch.setattr(watching, "POLL_S", 0.2)

    def no_watch(self: Watcher) -> None:
        raise OSError(28, "inotify watch limit reached")

    monkeypatch.setattr(Watcher, "start", no_watch)
    cam = host.cam("gate")
    async with host.watched() as watch:
        assert watch.polling
        for style in STYLES:
            cam.write(style)
        await until(lambda: len(host.registered) == len(STYLES), "all styles by polling")
    labels = {"root": str(host.recordings)}
    assert host.metrics.registry.get_sample_value("storage_watcher_up", labels) == 0


@pytest.mark.parametrize("footage", [True, False])
async def test_a_backlog_is_not_rested_from_as_if_looking_for_it_had_taken_as_long(
    host: Host, footage: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    consider, pause = Ingest.consider, RootWatch._pause
    scans: list[tuple[float, float]] = []  # how long they took, and how much of it was for what is new

    async def slowly(self: Ingest, root: Root, path: str, closed: Callable[[SourceFile], bool]) -> Outcome:
        await asyncio.sleep(5)
        return await consider(self, root, path, closed)

    async def noted(self: RootWatch, scan_took_s: float, settling_s: float) -> None:
        scans.append((scan_took_s, settling_s))
        await pause(self, scan_took_s, settling_s)

    monkeypatch.setattr(Ingest, "consider", slowly)
    monkeypatch.setattr(RootWatch, "_pause", noted)
    host.recordings.mkdir()
    cam = host.cam("gate")
    if not footage:
        cam.footage = b"nothing that anybody recorded" * 100
    cam.write()
    async with host.watched(events=False):
        await until(lambda: bool(scans), "the first scan is over")
    assert len(host.registered) == footage
    took_s, settling_s = scans[0]
    assert 5 <= settling_s < took_s


async def test_scanning_takes_a_fiftieth_of_the_time_at_most(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "DUTY", DUTY)
    async with host.watched(events=False) as watch:
        assert watch._rest_s(10, 0) >= 49 * 10
        assert watch._rest_s(100, 90) >= 49 * 10
        assert watch._rest_s(100, 100) == watching.POLL_S
        watch._soon = True
        assert watch._rest_s(20, 20) == 20, "one that is wanted at once rests as long as the last one took"


async def test_a_network_mount_is_polled_and_its_files_settle(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This kernel does not see other hosts' writers, so a file has to stand still before it is taken."""
    monkeypatch.setattr(watching, "POLL_S", 0.1)
    monkeypatch.setattr(watching, "Settling", lambda: Settling(0.5))
    host.remote = True
    cam = host.cam("gate")
    async with host.watched(events=False) as watch:
        cam.write()
        seen = watch.scans
        await until(lambda: watch.scans > seen, "a scan")
        assert not host.registered, "not at the first sight"
        await until(lambda: len(host.registered) == 1, "after it stood still")


async def test_empty_foreign_and_misnamed_files_are_set_aside_and_left_alone(host: Host) -> None:
    day = host.recordings / "gate" / "2026-11-01"
    async with host.watched():
        day.mkdir(parents=True)
        (day / "10-00-00.ts").touch()
        (day / "10-00-10.ts").write_bytes(random.Random(1).randbytes(50_000))
        (day / "10-00-20.ts").write_text("#EXTM3U\n../../../etc/passwd\n")
        (day / "whatever.ts").write_bytes(cached_ts(seconds=1).read_bytes())
        (day / "25-00-00.ts").write_bytes(cached_ts(seconds=1).read_bytes())
        (day / "10-00-30.ts").symlink_to("/etc/passwd")
        os.mkfifo(day / "10-00-40.ts")
        await until_async(lambda: _count(host, 7), "seven files set aside")
    reasons = await aside_reasons(host)
    assert reasons == {
        "empty": 1,
        "not_mpegts": 2,
        "unmatched_name": 1,
        "impossible_time": 1,
        "symlink": 1,
        "not_a_file": 1,
    }
    assert not host.registered
    assert len(list(day.iterdir())) == 7, "nothing was removed"


async def _count(host: Host, wanted: int) -> bool:
    return sum((await aside_reasons(host)).values()) >= wanted


async def until_async(
    condition: Callable[[], Awaitable[bool]], what: str, patience_s: float = PATIENCE_S
) -> None:
    end = asyncio.get_running_loop().time() + patience_s
    while not await condition():
        assert asyncio.get_running_loop().time() < end, f"not within {patience_s:g} s: {what}"
        await asyncio.sleep(0.05)


async def test_an_empty_file_that_is_filled_later_becomes_a_segment(host: Host) -> None:
    path = host.recordings / "gate" / "2026-11-01" / "10-00-00.ts"
    async with host.watched():
        path.parent.mkdir(parents=True)
        path.touch()
        await until_async(lambda: _count(host, 1), "set aside as empty")
        path.write_bytes(cached_ts(seconds=1).read_bytes())
        await until(lambda: len(host.registered) == 1, "the filled file")
    assert await aside_reasons(host) == {}


async def test_what_was_set_aside_is_listed_until_it_is_gone(host: Host) -> None:
    """By the next scan that reads its folder, or the next full one where the folder is gone as well."""
    host.scan_interval = timedelta(milliseconds=50)
    for camera in ("gate", "yard", "hall"):
        day = host.recordings / camera / "2026-11-01"
        day.mkdir(parents=True)
        for number in range(2):
            (day / f"10-00-0{number}.ts").touch()
    async with host.watched(events=False) as watch:
        assert await aside_reasons(host) == {"empty": 6}
        (host.recordings / "gate" / "2026-11-01" / "10-00-00.ts").unlink()
        await until_async(lambda: _aside_is(host, 5), "the file is forgotten")
        (host.recordings / "yard").rename(host.folder / "elsewhere")
        watch.rescan()
        await until_async(lambda: _aside_is(host, 3), "those of the folder that is gone")
        seen = watch.scans
        watch.rescan()
        await until(lambda: watch.scans > seen + 1, "another full scan")
    assert await aside_reasons(host) == {"empty": 3}


async def _aside_is(host: Host, wanted: int) -> bool:
    return sum((await aside_reasons(host)).values()) == wanted


async def test_a_truncated_segment_is_partial_and_registered_all_the_same(host: Host) -> None:
    data = cached_ts(seconds=3).read_bytes()
    path = host.recordings / "gate" / "2026-11-01" / "10-00-00.ts"
    async with host.watched():
        path.parent.mkdir(parents=True)
        path.write_bytes(data[: len(data) * 2 // 3 + 57])
        await until(lambda: len(host.registered) == 1, "the partial segment")
    segment = host.registered[0]
    assert SegmentFlag.PARTIAL in segment.flags
    assert timedelta(seconds=1) < segment.span.duration < timedelta(seconds=3)


async def test_a_rewritten_file_is_a_version_of_its_own(host: Host) -> None:
    """T-07: one-second names that repeat; what was not delivered and is overwritten is told as lost."""
    first = unique(cached_ts(seconds=3).read_bytes(), "first")
    second = unique(cached_ts(seconds=1).read_bytes(), "second")
    path = host.recordings / "gate" / "2026-11-01" / "10-00-00.ts"
    async with host.watched():
        path.parent.mkdir(parents=True)
        path.write_bytes(first)
        await until(lambda: len(host.registered) == 1, "the first version")
        path.write_bytes(second)
        await until(lambda: len(host.registered) == 2, "the second version")
    old, new = host.registered
    assert old.id != new.id
    assert SegmentFlag.REWRITTEN in new.flags
    assert new.size_bytes == len(second)
    assert await host.journal.ledger.losses() == {"overwritten_by_recorder": 1}


@pytest.mark.parametrize(
    "name",
    [
        "new\nline",
        'quo"te',
        "it's",
        "-y",
        "\u202etxt.gpj",
        "\N{VIDEO CAMERA}",
        "x" * 240,
        b"inv\xff\xfealid".decode(errors="surrogateescape"),
        "a b\tc",
    ],
    ids=ascii,
)
async def test_any_name_a_file_system_allows_is_registered(host: Host, name: str) -> None:
    """T-08: names are bytes."""
    data = unique(cached_ts(seconds=1).read_bytes(), ascii(name))
    async with host.watched():
        folder = host.recordings / name / "2026-11-01"
        folder.mkdir(parents=True)
        (folder / "10-00-00.ts").write_bytes(data)
        await until(lambda: len(host.registered) == 1, "the oddly named camera's segment")
    assert host.registered[0].source.path == f"{name}/2026-11-01/10-00-00.ts"
    known = await host.journal.segments.by_source(host.registered[0].source)
    assert known is not None
    assert known.id == host.registered[0].id


@pytest.mark.parametrize(("zone", "day"), [("Europe/Berlin", "2026-10-25"), ("Europe/Berlin", "2026-03-29")])
async def test_local_names_over_a_change_of_the_clocks_stay_apart(host: Host, zone: str, day: str) -> None:
    """T-09: two hours of footage around the change, named by the wall clock, each at its own UTC time."""
    host.zone = zone
    footage = cached_ts(seconds=1).read_bytes()
    change = (
        datetime(2026, 10, 25, 1, tzinfo=UTC)
        if day.startswith("2026-10")
        else datetime(2026, 3, 29, 1, tzinfo=UTC)
    )
    starts = [change + timedelta(minutes=10 * step) for step in range(-12, 12)]
    async with host.watched():
        for start in starts:
            local = start.astimezone(ZoneInfo(zone))
            # The repeated hour gets folders of its own: one folder cannot hold the same name twice.
            camera = f"gate{local.fold}"
            path = host.recordings / camera / f"{local:%Y-%m-%d}" / f"{local:%H-%M-%S}.ts"
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_suffix(".tmp")
            draft.write_bytes(unique(footage, str(start)))
            closed = (start + timedelta(seconds=1)).timestamp()
            os.utime(draft, (closed, closed))
            draft.rename(path)
        await until(lambda: len(host.registered) == len(starts), "every segment of both hours")
    assert sorted(segment.span.start for segment in host.registered) == starts
    ambiguous = [s for s in host.registered if SegmentFlag.TIME_AMBIGUOUS in s.flags]
    assert len(ambiguous) == (12 if day.startswith("2026-10") else 0)


async def test_the_second_start_registers_nothing_twice(host: Host) -> None:
    cam = host.cam("gate")
    for _ in range(5):
        cam.write()
    async with host.watched():
        pass
    async with host.watched():
        pass
    assert len(host.registered) == 5
    checksums = {hashlib.sha256((host.recordings / path).read_bytes()).hexdigest() for path in host.paths()}
    assert len(checksums) == 5
    assert isinstance(host.metrics.registry, CollectorRegistry)


# What goes wrong with watching


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Supervision and polling at the pace of a test."""
    monkeypatch.setattr(supervision, "SUPERVISION_S", 0.05)
    monkeypatch.setattr(watching, "POLL_S", 0.05)


@pytest.mark.usefixtures("hasty")
async def test_another_folder_under_the_roots_name_is_watched_too(host: Host) -> None:
    """A disk mounted over the root, or a root made anew: the old watches lie where nobody writes any more."""
    cam = host.cam("gate")
    async with host.watched() as watch:
        first = watch.scans
        host.recordings.rename(host.folder / "elsewhere")
        host.recordings.mkdir()
        cam.write()
        await until(lambda: len(host.registered) == 1, "what was written before the new watches")
        # Between the old watches and the new there may be a scan already: it is not the last.
        await until(lambda: watch.scans > first and watch.pause_s > 60, "the new watches' scan is over")
        scans = watch.scans
        cam.write()
        await until(lambda: len(host.registered) == 2, "what was written after")
        assert watch.scans == scans, "by an event"


@pytest.mark.usefixtures("hasty")
async def test_a_shortage_of_watches_lasts_until_there_are_enough(
    host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """T-04: watchdog swallows that a folder below the root could not be watched."""
    monkeypatch.setattr(supervision, "watches_held", lambda: 1)
    cam = host.cam("gate")
    cam.write()
    async with host.watched() as watch:
        await until(lambda: watch.polling, "the shortage is noticed")
        scans = watch.scans
        await until(lambda: watch.scans > scans + 10, "scans come often")
        assert watch.polling, "and it is still there"
        assert "is watched again" not in caplog.text
        monkeypatch.setattr(supervision, "RENEWAL_S", 0.3)
        monkeypatch.setattr(supervision, "watches_held", watches_held)
        await until(lambda: not watch.polling, "with enough watches events are relied upon again")
    assert caplog.text.count("not every folder") == 1
    assert caplog.text.count("is watched again") == 1


@pytest.mark.usefixtures("hasty")
async def test_a_new_folder_that_could_not_be_watched_is_missed_before_the_next_scan(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scan interval is an hour; the folder's later segments would be found by nobody for so long."""
    monkeypatch.setattr(supervision, "watches_held", lambda: 1)
    async with host.watched() as watch:
        assert not watch.polling, "the root has its watch"
        host.cam("gate").write()
        await until(lambda: watch.polling, "the shortage is noticed")


@pytest.mark.usefixtures("hasty")
async def test_a_file_written_to_while_a_scan_looks_is_looked_at_again(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder stands still meanwhile, and no event tells of another host's writer."""
    looks = 0

    def written_to_at_first(root: Root, path: str, closed: Callable[[SourceFile], bool]) -> Found:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise SourceChanged("changed while it was probed")
        return inspect(root, path, closed)

    monkeypatch.setattr(ingest, "inspect", written_to_at_first)
    host.cam("gate").write()
    for folder in [host.recordings, *host.recordings.rglob("*")]:
        os.utime(folder, (1e9, 1e9))
    async with host.watched(events=False):
        await until(lambda: len(host.registered) == 1, "the file, at the second look")


async def test_files_that_may_not_be_read_start_no_scan_after_scan(
    host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A recorder with umask 077: each of its files is a hint that comes to nothing."""

    def refuses(root: Root, path: str, closed: Callable[[SourceFile], bool]) -> Found:
        if path.startswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return inspect(root, path, closed)

    monkeypatch.setattr(ingest, "inspect", refuses)
    monkeypatch.setattr(watching, "POLL_S", 3600)
    locked, gate = host.cam("locked"), host.cam("gate")
    async with host.watched() as watch:
        for _ in range(40):
            locked.write()
        gate.write()
        await until(lambda: len(host.registered) == 1, "the other camera's segment")
        await until(lambda: caplog.text.count("not registered yet") == 40, "each is told")
        assert watch.scans == 1


@pytest.mark.parametrize("seen_by", ["a hint", "a scan"])
async def test_a_file_that_may_not_be_read_is_told_until_it_may(
    host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, seen_by: str
) -> None:
    """As for a daemon that is neither root nor the files' owner: the kernel tells it of no writer, and how
    long the file stood still before it could be read has to count (the test's clock jumps an hour).
    """

    def as_another_user(root: Root, path: str, closed: Callable[[SourceFile], bool]) -> Found:
        if not os.stat(os.path.join(root.path, path)).st_mode & 0o004:
            raise PermissionError(13, "Permission denied", path)
        return inspect(root, path, closed)

    class Later(Settling):
        def quiet(self, path: str, identity: FileIdentity, now: float) -> bool:
            return super().quiet(path, identity, now + 3600)

    monkeypatch.setattr(ingest, "inspect", as_another_user)
    monkeypatch.setattr(OpenSource, "writer", lambda self: Writer.UNKNOWN)
    monkeypatch.setattr(watching, "Settling", Later)
    host.scan_interval = timedelta(milliseconds=50)
    labels = {"root": str(host.recordings)}

    def unreadable() -> float | None:
        return host.metrics.registry.get_sample_value("storage_files_unreadable", labels)

    async with host.watched(events=seen_by == "a hint") as watch:
        assert (watch.trouble, unreadable()) == (None, 0)
        draft = host.folder / "10-00-00.ts"
        draft.write_bytes(unique(cached_ts(seconds=1).read_bytes(), "locked"))
        draft.chmod(0o600)
        path = host.recordings / "gate" / "2026-11-01" / draft.name
        path.parent.mkdir(parents=True)
        draft.rename(path)
        await until(lambda: unreadable() == 1, "the file is counted")
        assert "1 of its files cannot be read" in (watch.trouble or "")
        seen = watch.scans
        await until(lambda: watch.scans > seen + 2, "more scans")
        assert unreadable() == 1 and not host.registered
        path.chmod(0o644)
        await until(lambda: len(host.registered) == 1, "the file, by a scan")
        await until(lambda: unreadable() == 0 and watch.trouble is None, "the trouble is over")
    assert caplog.text.count("are NOT registered") == 1
    assert caplog.text.count("refuses to be read any more") == 1
    assert "the recorder's group, or an ACL" in caplog.text


async def test_a_file_that_refused_and_is_gone_is_no_trouble_any_more(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(root: Root, path: str, closed: Callable[[SourceFile], bool]) -> Found:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(ingest, "inspect", refuses)
    host.scan_interval = timedelta(milliseconds=50)
    gate, yard = host.cam("gate"), host.cam("yard")
    gone = host.recordings / gate.write().path
    yard.write()
    async with host.watched(events=False) as watch:
        assert "2 of its files" in (watch.trouble or "")
        gone.unlink()
        await until(lambda: "1 of its files" in (watch.trouble or ""), "one is gone")
        (host.recordings / "yard").rename(host.folder / "elsewhere")
        await until(lambda: watch.trouble is None, "the other with its folders")


async def test_a_refusal_met_while_a_scan_goes_on_is_not_taken_back_by_its_end(
    host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The scan was past the folder's place before that was made: it tells nothing of it."""

    def refuses(root: Root, path: str, closed: Callable[[SourceFile], bool]) -> Found:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(ingest, "inspect", refuses)
    begun, go_on = asyncio.Event(), asyncio.Event()
    known_in = host.journal.segments.known_in

    async def slow(root: str, folder: str) -> dict[str, KnownFile]:
        if not folder:
            begun.set()
            await go_on.wait()
        return await known_in(root, folder)

    async with host.watched() as watch:
        monkeypatch.setattr(host.journal.segments, "known_in", slow)
        scans = watch.scans
        watch.rescan()
        await begun.wait()
        host.cam("gate").write()
        await until(lambda: "1 of its files" in (watch.trouble or ""), "the file is met, by its event")
        go_on.set()
        await until(lambda: watch.scans > scans, "the scan is over")
        assert "1 of its files" in (watch.trouble or "")
    assert "refuses to be read any more" not in caplog.text


@pytest.mark.usefixtures("hasty")
async def test_a_root_that_is_not_there_says_so_and_what_to_do(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    host.mounted = False
    async with host.watched() as watch:
        assert watch.away and watch.polling
        assert watch.trouble == "is not there: mount it, or correct its `path` in the settings"
        assert "mount it, or correct its `path`" in caplog.text
        assert "is watched as soon as it is there" in caplog.text
        assert "cannot be read" not in caplog.text and "cannot be watched" not in caplog.text
        host.recordings.mkdir()
        await until(lambda: watch.trouble is None and not watch.polling, "it is there, and watched")


async def test_a_flood_of_hints_ends_in_a_scan_and_not_in_memory(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "MOST_HINTS", 5)
    async with host.watched() as watch:
        cam = host.cam("gate")
        for _ in range(30):
            cam.write()
        for entry in cam.written:  # before the loop turns: nobody can follow
            watch._take_hint(Hint(str(host.recordings), entry.path, Sign.CLOSED))
        assert len(watch._hints) <= 5
        await until(lambda: len(host.registered) == 30, "all of them")
        await until(lambda: watch.scans > 1, "the scan for those that were dropped")


@pytest.mark.usefixtures("hasty")
async def test_what_was_rewritten_while_the_root_was_away_is_found(host: Host) -> None:
    """No folder changes when a file is rewritten in place, and nobody saw the events."""
    cam = host.cam("gate")
    path = host.recordings / cam.write().path
    for folder in [host.recordings, *host.recordings.rglob("*")]:
        os.utime(folder, (1e9, 1e9))
    async with host.watched(events=False) as watch:
        away = host.recordings.rename(host.folder / "away")
        await until(lambda: watch.away, "the root is missed")
        (away / path.relative_to(host.recordings)).write_bytes(unique(cam.footage, "another"))
        away.rename(host.recordings)
        await until(lambda: len(host.registered) == 2, "the other version")


@pytest.mark.usefixtures("hasty")
async def test_a_disk_that_appears_below_the_root_is_watched(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watches below it lie on what it covers now. Mounting needs rights: a device number is changed."""
    watchers = 0
    real_start = Watcher.start

    def counted(self: Watcher) -> None:
        nonlocal watchers
        watchers += 1
        real_start(self)

    monkeypatch.setattr(Watcher, "start", counted)
    host.cam("disk").write()
    async with host.watched() as watch:
        known = watch._scanner._folders["disk"]
        known.device += 1
        watch.rescan()
        await until(lambda: watchers == 2, "another watcher")
