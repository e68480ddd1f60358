"""The retention report: kept up to date by the schedule, told to the API, metrics and alarms.

Days that are over are summed up once and kept in the journal; a line of the ledger takes back the days it
changes. So a round looks at new time only, and at some of what was never looked at.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from cctv_storaged.alarms import AlarmName, Alarms
from cctv_storaged.clock import MICROSECOND, Clock
from cctv_storaged.clockguard import ClockGuard
from cctv_storaged.coverage import coverage_of, undecided_since
from cctv_storaged.journal.journal import Journal
from cctv_storaged.journal.reports import DayRow, PastDay
from cctv_storaged.metrics import Metrics
from cctv_storaged.model import Camera, TimeSpan
from cctv_storaged.reporting.figures import (
    Figures,
    Kept,
    State,
    day_of,
    figures_of,
    first_day,
    held_from,
    in_words,
    parts_to_look_at,
    required_of,
)
from cctv_storaged.reporting.stretches import Stretch, joined, read, stretch_of, written
from cctv_storaged.retention.rules import Policy

log = logging.getLogger(__name__)

EVERY_S = 300.0
LAG = timedelta(minutes=30)
"""Time so young is not summed up: that its root was watched may not be written down yet."""
LEAST = timedelta(minutes=10)
"""A day under way is looked at again for so much of it."""
BACKFILL_S = 60.0
"""Time of one round that goes into days never looked at."""
PAUSES = 3
"""Looking takes a quarter of that time at most: the recorder comes first."""
NOTED = 200
"""Cameras in one commit of the history."""
HISTORY = timedelta(days=5 * 366)
WATCHED_KEPT, WATCHED_SHORT, SHORT_US = timedelta(days=5 * 366), timedelta(days=90), 600_000_000
"""Times watched are forgotten after so long; those of less than ten minutes after less."""


class Reporting:
    """What each camera keeps."""

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        clock_guard: ClockGuard,
        alarms: Alarms,
        metrics: Metrics,
        policy: Policy,
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._clock_guard = clock_guard
        self._alarms = alarms
        self._metrics = metrics
        self.policy = policy
        """Which rule a camera has; a reload changes it."""

    def distrust(self) -> str | None:
        """Why ages mean nothing now; None: they do."""
        return self._clock_guard.distrust()

    async def report(
        self, known: Iterable[Camera] = (), days: tuple[int, int] | None = None
    ) -> list[Figures]:
        """Every camera by name, those `known` besides the journal's too; gaps of some days only."""
        now = self._clock.now()
        cameras = {camera.id: camera for camera in known}
        cameras |= {camera.id: camera for camera in await self._journal.reports.cameras()}
        listed = sorted(cameras.values(), key=lambda camera: (camera.name, camera.id))
        return [await self._line(camera, now, days) for camera in listed]

    async def of_day(self, day: str) -> list[PastDay]:
        """What was noted on a day (YYYY-MM-DD)."""
        return await self._journal.reports.of_day(day)

    def since(self, camera_id: UUID) -> datetime | None:
        """Since when it is told that the camera keeps less than is required."""
        for alarm in self._alarms.standing:
            if alarm.name is AlarmName.AT_LEAST and alarm.subject == str(camera_id):
                return alarm.since
        return None

    # By the schedule

    async def refresh(self) -> None:
        """One round: sums up new time, tells metrics and alarms, notes the day."""
        if self.distrust() is not None:
            return
        now = self._clock.now()
        cameras = await self._journal.reports.cameras()
        await self._look_at_new_time(cameras, now)
        lines = [await self._line(camera, now) for camera in cameras]
        self._tell(lines)
        if not await self._journal.reports.noted(now.date().isoformat()):
            await self._note(lines, now)

    async def _look_at_new_time(self, cameras: Sequence[Camera], now: datetime) -> None:
        """Each camera's newest time first; then one older day of each, as long as there is time for it."""
        end_s = self._clock.monotonic() + BACKFILL_S
        waiting = {camera: parts for camera in cameras if (parts := await self._unseen(camera, now))}
        turn = 0
        while waiting and (turn == 0 or self._clock.monotonic() < end_s):
            for camera in list(waiting):
                if turn and self._clock.monotonic() >= end_s:
                    return
                begun_s = self._clock.monotonic()
                await self._look(camera.id, waiting[camera].pop(0), now)
                if not waiting[camera]:
                    del waiting[camera]
                await asyncio.sleep(PAUSES * (self._clock.monotonic() - begun_s))
            turn += 1

    async def _unseen(self, camera: Camera, now: datetime) -> list[TimeSpan]:
        times = await self._journal.gaps.times(camera.id, now)
        oldest = await self._oldest(camera.id, held_from(self.policy.rule_for(camera), now))
        if oldest is None:
            return []
        first, until = first_day(times.installed, oldest), undecided_since(times, now) - LAG
        rows = await self._journal.reports.days(camera.id, first, day_of(until))
        return parts_to_look_at({row.day: row.until for row in rows}, first, until, LEAST)

    async def _look(self, camera_id: UUID, part: TimeSpan, now: datetime) -> None:
        """Adds a part of a day to what was seen of that day."""
        reports, day = self._journal.reports, day_of(part.start)
        seen = await reports.last_line()
        coverage = await coverage_of(self._journal, camera_id, part, now)
        rows = await reports.days(camera_id, day, day)
        before = [read(row.summary) for row in rows if row.until == part.start]
        whole = joined([*before, stretch_of(coverage, part)])
        if whole is not None and (before or _begins_a_day(part.start)):
            await reports.put_day(camera_id, DayRow(day, part.end, written(whole)), seen)

    def _tell(self, lines: Sequence[Figures]) -> None:
        short = set()
        for line in lines:
            camera = line.kept.camera
            if line.kept.first is not None:
                days = line.achieved / timedelta(days=1)
                self._metrics.retention_achieved.labels(str(camera.id)).set(days)
            if line.state is State.SHORT and line.required is not None:
                short.add(str(camera.id))
                text = (
                    f"camera {camera.name!r} keeps {in_words(line.achieved)} and its rule promises "
                    f"{in_words(line.required)}: {line.why}; GET /retention/report says more"
                )
                self._alarms.sound(AlarmName.AT_LEAST, str(camera.id), text)
        self._alarms.keep_only(AlarmName.AT_LEAST, frozenset(short))

    async def _note(self, lines: Sequence[Figures], now: datetime) -> None:
        """The day's figures, once a day; and what is too old is forgotten."""
        day = now.date().isoformat()
        rows = [_past(line) for line in lines]
        for first in range(0, len(rows), NOTED):
            await self._journal.reports.note(day, rows[first : first + NOTED])
        await self._journal.reports.forget_history((now - HISTORY).date().isoformat())
        await self._journal.watched.forget(now - WATCHED_KEPT, SHORT_US, now - WATCHED_SHORT)
        for line in lines:
            if line.kept.oldest is not None:
                await self._journal.reports.forget_days(line.kept.camera.id, day_of(line.kept.oldest))

    # Looking

    async def _line(self, camera: Camera, now: datetime, days: tuple[int, int] | None = None) -> Figures:
        return await asyncio.to_thread(figures_of, await self._kept(camera, now, days), now)

    async def _kept(self, camera: Camera, now: datetime, days: tuple[int, int] | None = None) -> Kept:
        times = await self._journal.gaps.times(camera.id, now)
        rule = self.policy.rule_for(camera)
        oldest = await self._oldest(camera.id, held_from(rule, now))
        oldest_any = await self._oldest(camera.id, None)
        return Kept(
            camera=camera,
            rule=rule,
            first=times.first,
            usual=times.usual,
            oldest=oldest,
            oldest_held=oldest_any if oldest_any != oldest else None,
            taken=await self._taken(camera.id, required_of(rule, times.first, now), oldest, now),
            days=[]
            if oldest is None
            else await self._days(camera.id, first_day(times.installed, oldest), now),
            asked=days,
            forgotten=times.forgotten,
        )

    async def _oldest(self, camera_id: UUID, held_from: datetime | None) -> datetime | None:
        page = await self._journal.reports.oldest(camera_id, held_from)
        while page.start is None and page.next is not None:
            page = await self._journal.reports.oldest(camera_id, held_from, page.next)
        return page.start

    async def _taken(
        self, camera_id: UUID, required: timedelta | None, oldest: datetime | None, now: datetime
    ) -> str | None:
        """What took footage that is required and older than all that is left."""
        until = now if oldest is None else oldest
        if required is None or until <= now - required:
            return None
        return await self._journal.reports.taken_within(camera_id, TimeSpan(now - required, until))

    async def _days(self, camera_id: UUID, first: int, now: datetime) -> list[Stretch]:
        rows = await self._journal.reports.days(camera_id, first, day_of(now))
        return await asyncio.to_thread(lambda: [read(row.summary) for row in rows])  # a tenth of a second


def _begins_a_day(moment: datetime) -> bool:
    return moment.astimezone(UTC).time() == datetime.min.time()


def _past(line: Figures) -> PastDay:
    """What is not short is noted as no less than required: a later reader knows of no tolerance."""
    longest = line.longest
    achieved = (
        line.achieved if line.state is State.SHORT else max(line.achieved, line.required or line.achieved)
    )
    return PastDay(
        camera_id=line.kept.camera.id,
        required_us=None if line.required is None else line.required // MICROSECOND,
        achieved_us=achieved // MICROSECOND,
        longest_gap_us=0 if longest is None else longest.span.duration // MICROSECOND,
    )
