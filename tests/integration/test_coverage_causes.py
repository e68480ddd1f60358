"""Gaps tell why they are: a silent recorder, garbage, losses, deletions, a clock that jumps, nobody looking.

A real journal, real files, a real scan; the host's clock is one that the test moves on.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from cctv_storaged.clock import to_us
from cctv_storaged.coverage import coverage_of
from cctv_storaged.events import EventHub
from cctv_storaged.ingest import Ingest, IngestContext, Outcome
from cctv_storaged.journal.deletions import Cause
from cctv_storaged.journal.journal import Journal
from cctv_storaged.lookout import Doubt
from cctv_storaged.metrics import Metrics
from cctv_storaged.model import Segment, SourceState, TimeSpan, camera_id_for
from cctv_storaged.recorder.admission import CameraBook, Root
from cctv_storaged.recorder.layout import Layout
from cctv_storaged.recorder.scanner import Scanner
from cctv_storaged.supervision import FolderCensus
from cctv_storaged.watching import RootWatch, WatchContext
from tests.fakes.fakecam import unique
from tests.footage import cached_ts

BEGIN = datetime(2026, 11, 1, 10, tzinfo=UTC)
LENGTH = 2.0
GATE = camera_id_for("host", "gate")


@dataclass(slots=True)
class HandClock:
    """Both clocks of the host, moved by hand."""

    wall: datetime = BEGIN
    grown_s: float = 0.0

    def now(self) -> datetime:
        return self.wall

    def monotonic(self) -> float:
        return self.grown_s

    def goes_on(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.grown_s += seconds


@dataclass(slots=True, kw_only=True)
class Bench:
    """One root with one camera, scanned when the test says so."""

    folder: Path
    journal: Journal
    clock: HandClock = field(default_factory=HandClock)
    registered: list[Segment] = field(default_factory=list)

    @property
    def recordings(self) -> Path:
        return self.folder / "recordings"

    @asynccontextmanager
    async def watching(
        self, doubt: Doubt | None = None, name: str = "recordings"
    ) -> AsyncIterator[RootWatch]:
        """A daemon that looks; the block's end is its end."""
        (self.folder / name).mkdir(exist_ok=True)
        metrics, hub = Metrics(), EventHub()
        ingest = Ingest(
            IngestContext(
                journal=self.journal, backends=("FILESYSTEM",), clock=self.clock, metrics=metrics, hub=hub
            ),
            self.registered.append,
        )
        root = Root(
            path=str(self.folder / name),
            layout=Layout.parse("{camera}/%Y-%m-%d/%H-%M-%S.ts", ZoneInfo("UTC")),
            cameras=CameraBook("host", ()),
            remote=False,
        )
        context = WatchContext(
            ingest=ingest,
            journal=self.journal,
            clock=self.clock,
            metrics=metrics,
            hub=hub,
            census=FolderCensus(),
            scan_interval=timedelta(seconds=30),
            events=False,
            doubt=doubt,
        )
        yield RootWatch(root, context)
        ingest.close()

    def write(self, seconds: float, data: bytes | None = None, name: str = "recordings") -> Path:
        """A file of the moment, last written to when it was over."""
        start = BEGIN + timedelta(seconds=seconds)
        path = self.folder / name / f"gate/{start:%Y-%m-%d/%H-%M-%S}.ts"
        path.parent.mkdir(parents=True, exist_ok=True)
        footage = unique(cached_ts(seconds=LENGTH).read_bytes(), f"{name}{seconds}")
        path.write_bytes(footage if data is None else data)
        os.utime(path, (to_us(start) / 1e6 + LENGTH,) * 2)
        return path

    async def minutes(self, watch: RootWatch, count: int) -> None:
        """Time goes by, and every half minute somebody looks."""
        for _ in range(count * 2):
            self.clock.goes_on(30)
            await watch._scan()

    async def gaps(self, start: float, end: float) -> list[tuple[float, float, str]]:
        span = TimeSpan(BEGIN + timedelta(seconds=start), BEGIN + timedelta(seconds=end))
        found = await coverage_of(self.journal, GATE, span, self.clock.now())
        return [
            ((gap.span.start - BEGIN).total_seconds(), (gap.span.end - BEGIN).total_seconds(), str(gap.cause))
            for gap in found.gaps
        ]

    async def at(self, seconds: float) -> Segment:
        start = BEGIN + timedelta(seconds=seconds)
        return next(each for each in self.registered if each.span.start == start)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with await Journal.open(tmp_path / "data", "host", BEGIN) as journal:
        yield Bench(folder=tmp_path, journal=journal)


async def test_a_recorder_that_wrote_nothing_while_it_was_watched_was_silent(bench: Bench) -> None:
    async with bench.watching() as watch:
        bench.write(0)
        await bench.minutes(watch, 10)
        bench.write(600)
        await bench.minutes(watch, 10)
    assert await bench.gaps(-60, 602) == [
        (-60, 0, "before_first"),
        (2, 30, "unknown"),
        (30, 600, "recorder_silent"),
    ]


async def test_what_is_recorded_now_is_no_gap_of_the_recorder(bench: Bench) -> None:
    async with bench.watching() as watch:
        bench.write(0)
        await bench.minutes(watch, 10)
    undecided = 600 - LENGTH - 90
    assert (await bench.gaps(60, 900))[-1] == (undecided, 900, "not_yet")
    assert (await bench.gaps(60, 900))[0][2] == "recorder_silent"


async def test_while_the_daemon_was_down_nobody_can_tell(bench: Bench) -> None:
    """A kill costs the last minute: what was not written down counts as not watched."""
    async with bench.watching() as watch:
        bench.write(0)
        await bench.minutes(watch, 10)
    bench.clock.goes_on(1200)
    async with bench.watching() as watch:
        await bench.minutes(watch, 20)
    causes = await bench.gaps(60, 2400)
    assert [cause for *_, cause in causes] == ["recorder_silent", "unknown", "recorder_silent"]
    _, down, again = causes
    assert 600 - LENGTH - 90 - 60 <= down[0] <= 600 - LENGTH - 90
    assert down[1] == again[0] == 1830


@pytest.mark.parametrize("trouble", ["the root is away", "a folder refuses", "another disk"])
async def test_a_root_that_could_not_be_looked_at_whole_was_not_watched(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    wrong: list[str] = []
    async with bench.watching(lambda root: wrong[0] if wrong else None) as watch:
        bench.write(0)
        await bench.minutes(watch, 10)
        if trouble == "the root is away":
            bench.recordings.rename(bench.folder / "aside")
        elif trouble == "a folder refuses":
            monkeypatch.setattr(Scanner, "_read", refusing(Scanner._read))
        else:
            wrong.append("the mark is another's")
        await bench.minutes(watch, 10)
        if trouble == "the root is away":
            (bench.folder / "aside").rename(bench.recordings)
        monkeypatch.undo()
        wrong.clear()
        watch.rescan()
        await bench.minutes(watch, 10)
    causes = [cause for *_, cause in await bench.gaps(60, 1600)]
    assert causes == ["recorder_silent", "unknown", "recorder_silent"]


def refusing(read: Callable[[Scanner, str], object]) -> Callable[[Scanner, str], object]:
    def refuse(scanner: Scanner, path: str) -> object:
        if path.endswith("gate"):
            raise PermissionError(13, "Permission denied")
        return read(scanner, path)

    return refuse


@pytest.mark.parametrize("data", [b"", bytes(50_000)], ids=["empty", "garbage"])
async def test_a_file_that_is_no_segment_explains_its_time_and_no_more(bench: Bench, data: bytes) -> None:
    async with bench.watching() as watch:
        bench.write(60)
        bench.write(62, data)
        await bench.minutes(watch, 10)
    assert (await bench.gaps(60, 200))[:2] == [(62, 64, "invalid"), (64, 200, "recorder_silent")]


async def test_the_ledger_says_who_took_footage_away(bench: Bench) -> None:
    async with bench.watching() as watch:
        for number in range(6):
            bench.write(number * 2)
        await bench.minutes(watch, 10)
    lost, *taken = [await bench.at(each) for each in range(0, 12, 2)]
    journal, now = bench.journal, bench.clock.now()
    await journal.copies.source_gone(lost.id, SourceState.MISSING, "source_vanished", now)
    causes = (Cause.REQUEST, Cause.AT_MOST, Cause.EXPIRED, Cause.SHORTENED, Cause.DISK_FULL)
    for segment, cause in zip(taken, causes, strict=True):
        await journal.deletions.begin(segment.id, cause)
    told = [(0, 2, "lost"), (2, 4, "deleted"), (4, 6, "retention"), (6, 10, "capacity"), (10, 12, "lost")]
    assert await bench.gaps(0, 12) == told, "deletions under way"
    for segment in taken:
        await journal.deletions.done(segment, "", now)
    assert await bench.gaps(0, 12) == told, "of which the ledger tells"


async def test_a_deletion_that_waits_for_a_backend_is_one_already(bench: Bench) -> None:
    """Its bytes may be there still, and nobody is given them: no silent recorder, and not unknown."""
    async with bench.watching() as watch:
        for number in range(3):
            bench.write(30 + number * 2)
        await bench.minutes(watch, 10)
    await bench.journal.deletions.begin((await bench.at(32)).id)
    assert await bench.gaps(30, 36) == [(32, 34, "deleted")]


async def test_time_that_the_clock_jumped_over_never_was(bench: Bench) -> None:
    """Noticed 20 seconds late; the times watched do not go on over a jump."""
    async with bench.watching() as watch:
        bench.write(0)
        await bench.minutes(watch, 5)
        bench.clock.wall += timedelta(days=2)
        later = (bench.clock.now() - BEGIN).total_seconds()
        await bench.minutes(watch, 5)
        bench.write(later)
        await bench.minutes(watch, 5)
    await bench.journal._store.write(
        lambda db: db.execute(
            "INSERT INTO clock_step (at_us, by_us) VALUES (?, ?)",
            (to_us(BEGIN + timedelta(seconds=later + 20)), 2 * 86400 * 10**6),
        )
    )
    causes = await bench.gaps(60, later)
    assert [cause for *_, cause in causes] == ["recorder_silent", "unknown", "clock_step"]
    assert causes[2][1] - causes[2][0] == 2 * 86400 - 20
    await bench.journal._store.write(lambda db: db.execute("DELETE FROM clock_step"))
    assert [cause for *_, cause in await bench.gaps(60, later)] == ["recorder_silent", "unknown"]


async def test_footage_from_two_roots_needs_both_to_have_been_watched(bench: Bench) -> None:
    async with bench.watching() as here, bench.watching(name="other") as there:
        bench.write(0)
        bench.write(1200, name="other")
        for _ in range(20):
            bench.clock.goes_on(60)
            await here._scan()
        for _ in range(20):
            bench.clock.goes_on(60)
            await asyncio.gather(here._scan(), there._scan())
        assert {cause for *_, cause in await bench.gaps(60, 1200)} == {"unknown"}
        assert [cause for *_, cause in await bench.gaps(1400, 2200)] == ["recorder_silent"]
    assert await bench.journal.gaps.roots() == sorted([str(bench.recordings), str(bench.folder / "other")])


async def test_footage_from_elsewhere_says_nothing_about_a_watched_root(bench: Bench) -> None:
    """POST /segments from a folder that nobody scans."""
    async with bench.watching() as watch:
        await bench.minutes(watch, 10)
        path = bench.write(0, name="posted")
        root = Root(
            path=str(bench.folder / "posted"),
            layout=watch.root.layout,
            cameras=watch.root.cameras,
            remote=False,
        )
        looked = await watch._context.ingest.consider(root, str(path.relative_to(root.path)), lambda _: True)
        assert looked is Outcome.REGISTERED
        await bench.minutes(watch, 10)
    assert [cause for *_, cause in await bench.gaps(2, 600)] == ["unknown"]
