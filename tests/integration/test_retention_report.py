"""The retention report over a real journal: what is gone shows, what was never there does not, and only new
time is looked at. The host's clock is one that the test moves on.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from cctv_storaged.alarms import AlarmName, Alarms
from cctv_storaged.api.report import past_json
from cctv_storaged.clockguard import ClockGuard
from cctv_storaged.coverage import NEWS, Coverage, coverage_of
from cctv_storaged.events import EventHub
from cctv_storaged.journal.deletions import Cause
from cctv_storaged.journal.holds import NewHold
from cctv_storaged.journal.journal import Journal
from cctv_storaged.journal.reports import DayRow
from cctv_storaged.metrics import Metrics
from cctv_storaged.model import Camera, GapCause, Segment, SourceState, TimeSpan
from cctv_storaged.reporting import report
from cctv_storaged.reporting.figures import Figures, State, day_of
from cctv_storaged.reporting.report import LAG, Reporting
from cctv_storaged.retention.rules import Policy, Rule
from tests.unit.journal.samples import GATE, ROOT, YARD, deliver, new, open_journal, record

MIDNIGHT = datetime(2026, 11, 26, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
SEGMENT = timedelta(hours=3)
TODAY = "2026-11-26"


@dataclass(slots=True)
class HandClock:
    wall: datetime = MIDNIGHT + 12 * HOUR
    grown_s: float = 0.0

    def now(self) -> datetime:
        return self.wall

    def monotonic(self) -> float:
        return self.grown_s


@dataclass(slots=True, kw_only=True)
class Bench:
    """A journal, and who reports on it."""

    journal: Journal
    clock: HandClock = field(default_factory=HandClock)
    metrics: Metrics = field(default_factory=Metrics)
    alarms: Alarms = field(init=False)
    reporting: Reporting = field(init=False)
    count: int = 0

    def __post_init__(self) -> None:
        self.alarms = Alarms(self.metrics, EventHub(), self.clock)
        guard = _Trusting(self.clock, self.alarms)
        policy = Policy(default=Rule(at_least=5 * DAY), per_camera={})
        self.reporting = Reporting(self.journal, self.clock, guard, self.alarms, self.metrics, policy)

    async def footage(
        self, first: float, last: float, camera: Camera = GATE, *, delivered: bool = True
    ) -> list[Segment]:
        """Segments of three hours, one after the other, from so many days before midnight to so many."""
        start, made = MIDNIGHT - first * DAY, []
        while start < MIDNIGHT - last * DAY:
            self.count += 1
            segment = await record(
                self.journal, new(self.count, camera, at=TimeSpan(start, start + SEGMENT)), "S3"
            )
            if delivered:
                await deliver(self.journal, segment)
            made.append(segment)
            start += SEGMENT
        return made

    async def watched(self, first: float) -> None:
        """The root, since so many days before midnight."""
        await self.journal.watched.extend(ROOT, TimeSpan(MIDNIGHT - first * DAY, self.clock.now()))

    async def delete(self, segments: list[Segment], cause: Cause) -> None:
        for segment in segments:
            await self.journal.deletions.begin(segment.id, cause)
            await self.journal.deletions.done(segment, cause, self.clock.now())

    async def line(self, camera: Camera = GATE) -> Figures:
        return next(line for line in await self.reporting.report() if line.kept.camera.id == camera.id)

    def alarmed(self) -> set[str]:
        return {alarm.subject for alarm in self.alarms.standing if alarm.name is AlarmName.AT_LEAST}

    def metric(self, camera: Camera = GATE) -> float | None:
        labels = {"camera_id": str(camera.id)}
        return self.metrics.registry.get_sample_value("storage_retention_achieved_days", labels)


class _Trusting(ClockGuard):
    """The clock is moved by the test, which is no reason to doubt it."""

    doubted: str | None = None

    def distrust(self) -> str | None:
        return self.doubted


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with await open_journal(tmp_path / "data") as journal:
        yield Bench(journal=journal)


async def test_a_camera_that_keeps_what_its_rule_promises_is_well(bench: Bench) -> None:
    await bench.footage(9, 0)
    await bench.reporting.refresh()
    line = await bench.line()
    assert (line.state, line.required, line.achieved) == (State.OK, 5 * DAY, 9 * DAY + 12 * HOUR)
    assert (bench.alarmed(), bench.metric()) == (set(), 9.5)
    assert line.examined is not None
    assert line.examined.span == TimeSpan(MIDNIGHT - 9 * DAY, bench.clock.now() - SEGMENT - NEWS - LAG)


async def test_footage_that_gave_way_sounds_the_alarm_until_the_rule_is_kept_again(bench: Bench) -> None:
    segments = await bench.footage(9, 0)
    await bench.delete([each for each in segments if each.span.start < MIDNIGHT - 2 * DAY], Cause.SHORTENED)
    await bench.reporting.refresh()
    line = await bench.line()
    assert (line.state, line.achieved) == (State.SHORT, 2 * DAY + 12 * HOUR)
    assert line.why is not None and "capacity_shortened" in line.why
    assert (bench.alarmed(), bench.metric()) == ({str(GATE.id)}, 2.5)
    assert bench.reporting.since(GATE.id) == bench.clock.now()

    bench.reporting.policy = Policy(default=Rule(at_least=2 * DAY), per_camera={})
    await bench.reporting.refresh()
    assert (bench.alarmed(), (await bench.line()).state) == (set(), State.OK)
    assert bench.reporting.since(GATE.id) is None


async def test_each_cause_is_counted_and_the_longest_gap_told_over_midnight(bench: Bench) -> None:
    """A loss, a request, then silence: one hole, and what of it is anybody's fault."""
    await bench.footage(9, 4)
    await bench.footage(4 - 1, 0)
    await bench.watched(9)
    lost, asked = await bench.footage(4, 3.75, delivered=False)
    await bench.journal.copies.source_gone(lost.id, SourceState.MISSING, "source_vanished", bench.clock.now())
    await bench.delete([asked], Cause.REQUEST)
    await bench.reporting.refresh()
    line = await bench.line()
    assert line.causes[GapCause.LOST] == line.causes[GapCause.DELETED] == SEGMENT
    today = 12 * HOUR - SEGMENT - NEWS - LAG
    assert line.causes[GapCause.RECORDER_SILENT] == DAY - 2 * SEGMENT + today
    assert (line.gone, line.missing, line.state) == (2 * SEGMENT, 2 * SEGMENT, State.SHORT)
    assert line.longest is not None and line.examined is not None
    assert line.longest.span == TimeSpan(MIDNIGHT - 4 * DAY, MIDNIGHT - 3 * DAY)
    assert (line.longest.cause, line.examined.holes) == ("recorder_silent", 2)


async def test_footage_that_only_a_hold_keeps_does_not_count(bench: Bench) -> None:
    segments = await bench.footage(9, 0)
    held = TimeSpan(MIDNIGHT - 9 * DAY, MIDNIGHT - 8 * DAY)
    await hold(bench.journal, held)
    await bench.delete([each for each in segments if not each.span.overlaps(held)][:40], Cause.SHORTENED)
    line = await bench.line()
    assert (line.age, line.kept.oldest_held) == (3 * DAY + 12 * HOUR, held.start)
    assert line.state is State.SHORT

    await hold(bench.journal, TimeSpan(MIDNIGHT - 9 * DAY, MIDNIGHT + 900 * DAY))
    line = await bench.line()
    assert line.age == 3 * DAY + 12 * HOUR, "the rule alone would keep that"


async def hold(journal: Journal, span: TimeSpan) -> None:
    new_hold = NewHold(
        id=uuid4(),
        camera_ids=(GATE.id,),
        start=span.start,
        end=span.end,
        reason="a case",
        case_id=None,
        created_by=None,
        expires_at=None,
        review_at=None,
    )
    await journal.holds.add(new_hold, None, MIDNIGHT)


async def test_a_new_camera_does_not_fail_and_one_without_footage_neither(bench: Bench) -> None:
    await bench.footage(2, 0)
    await bench.journal.cameras.ensure(YARD)
    await bench.reporting.refresh()
    gate, yard = await bench.line(), await bench.line(YARD)
    assert (gate.state, gate.required) == (State.NEW, 2 * DAY + 12 * HOUR)
    assert (yard.state, yard.achieved) == (State.NEW, timedelta(0))
    assert (bench.alarmed(), bench.metric(YARD)) == (set(), None)


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[TimeSpan]:
    """Spans that coverage was asked of."""
    spans: list[TimeSpan] = []

    async def noting(journal: Journal, camera_id: UUID, span: TimeSpan, now: datetime) -> Coverage:
        spans.append(span)
        return await coverage_of(journal, camera_id, span, now)

    monkeypatch.setattr(report, "coverage_of", noting)
    return spans


async def test_only_new_time_and_days_that_changed_are_looked_at_again(
    bench: Bench, looked_at: list[TimeSpan]
) -> None:
    segments = await bench.footage(9, 0)
    await bench.reporting.refresh()
    assert len(looked_at) == 10, "nine days and today"
    looked_at.clear()
    await bench.reporting.refresh()
    assert looked_at == []
    bench.clock.wall += HOUR
    await bench.reporting.refresh()
    until = bench.clock.now() - SEGMENT - NEWS - LAG
    assert looked_at == [TimeSpan(until - HOUR, until)]
    looked_at.clear()
    third = next(each for each in segments if each.span.start == MIDNIGHT - 3 * DAY + 6 * HOUR)
    await bench.delete([third], Cause.REQUEST)
    await bench.reporting.refresh()
    assert looked_at == [TimeSpan(MIDNIGHT - 3 * DAY, MIDNIGHT - 2 * DAY)]
    assert (await bench.line()).gone == SEGMENT


async def test_a_report_over_days_reads_no_segment_of_them(bench: Bench, looked_at: list[TimeSpan]) -> None:
    await bench.footage(9, 0)
    await bench.reporting.refresh()
    looked_at.clear()
    days = (day_of(MIDNIGHT - 3 * DAY), day_of(MIDNIGHT - 2 * DAY))
    line = next(iter(await bench.reporting.report(days=days)))
    assert line.examined is not None
    assert line.examined.span == TimeSpan(MIDNIGHT - 3 * DAY, MIDNIGHT - DAY)
    assert (line.footage, line.age, looked_at) == (2 * DAY, 9 * DAY + 12 * HOUR, [])


async def test_a_day_that_changes_while_it_is_looked_at_is_not_kept_as_it_was(bench: Bench) -> None:
    segments = await bench.footage(3, 0)
    reports, day = bench.journal.reports, day_of(MIDNIGHT - 2 * DAY)
    row = DayRow(day, MIDNIGHT - DAY, "[]")
    seen = await reports.last_line()
    assert await reports.put_day(GATE.id, row, seen)
    await bench.delete([next(each for each in segments if day_of(each.span.start) == day)], Cause.REQUEST)
    assert await reports.days(GATE.id, day, day) == [], "the line took it back"
    assert not await reports.put_day(GATE.id, row, seen)
    assert await reports.put_day(GATE.id, row, await reports.last_line())


async def test_what_was_kept_is_noted_once_a_day(bench: Bench) -> None:
    segments = await bench.footage(9, 0)
    await bench.reporting.refresh()
    await bench.delete(segments[:16], Cause.AT_MOST)
    await bench.reporting.refresh()
    (past,) = await bench.reporting.of_day("2026-11-26")
    assert (past.camera_id, past.achieved_us, past.required_us) == (
        GATE.id, to_us_of(9 * DAY + 12 * HOUR), to_us_of(5 * DAY),
    )  # fmt: skip
    bench.clock.wall += DAY
    await bench.reporting.refresh()
    (later,) = await bench.reporting.of_day("2026-11-27")
    assert later.achieved_us == to_us_of(8 * DAY + 12 * HOUR)
    assert await bench.reporting.of_day("2026-11-25") == []


async def test_what_was_noted_says_of_a_camera_what_was_said_then(bench: Bench) -> None:
    segments = await bench.footage(9, 0)
    others = await bench.footage(5, 0, YARD)  # of a loss so small nothing is said
    await bench.delete([*segments[-9:-7], others[-8]], Cause.REQUEST)
    await bench.reporting.refresh()
    lines = {line.kept.camera.id: line for line in await bench.reporting.report()}
    assert (lines[GATE.id].state, lines[YARD.id].state) == (State.SHORT, State.OK)
    noted = {each.camera_id: past_json(each, None)["state"] for each in await bench.reporting.of_day(TODAY)}
    assert noted == {GATE.id: State.SHORT, YARD.id: State.OK}


async def test_footage_named_by_a_clock_that_nobody_had_set_is_no_age(bench: Bench) -> None:
    await bench.footage(2, 0)
    await bench.watched(300)
    before = await bench.line()
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    await record(bench.journal, new(5000, at=TimeSpan(epoch, epoch + SEGMENT)))
    await bench.reporting.refresh()
    line = await bench.line()
    assert (line.state, line.required, line.achieved) == (State.NEW, before.required, before.achieved)
    assert line.kept.first == before.kept.first == MIDNIGHT - 2 * DAY
    asked = TimeSpan(MIDNIGHT - 9 * DAY, MIDNIGHT)
    found = await coverage_of(bench.journal, GATE.id, asked, bench.clock.now())
    assert [gap.cause for gap in found.gaps] == [GapCause.BEFORE_FIRST]


def to_us_of(length: timedelta) -> int:
    return length // timedelta(microseconds=1)


async def test_nothing_is_told_while_the_clock_cannot_be_trusted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    segments = await bench.footage(9, 0)
    await bench.delete(segments[:60], Cause.SHORTENED)
    monkeypatch.setattr(_Trusting, "doubted", "it jumped")
    await bench.reporting.refresh()
    assert (bench.alarmed(), bench.metric()) == (set(), None)
    assert await bench.reporting.of_day("2026-11-26") == []
