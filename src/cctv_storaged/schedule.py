"""Work done again and again, by APScheduler, whatever the wall clock does.

APScheduler reckons in wall time: set back by a year, it would do nothing for a year, and set forward it would
make a list of all turns left out. The wall clock is held against the one that only grows, and after a step
every job's next time is told anew.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime, timedelta

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger

from cctv_storaged.clock import Clock
from cctv_storaged.errors import BackendError, JournalFull
from cctv_storaged.upkeep import Job

log = logging.getLogger(__name__)

FIRST_S = 10.0
"""Nothing is done before the start has calmed down, nor much later only because it is done seldom."""
LOOK_S = 5.0
STEP = timedelta(seconds=5)


class _Every(BaseTrigger):  # type: ignore[misc] # APScheduler 3 has no types
    """An interval from now on. APScheduler's own would count every turn that a jump of the clock left out."""

    def __init__(self, interval: timedelta) -> None:
        self._interval = interval

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        return now + self._interval


class Schedule:
    """Runs jobs, each one after the other with itself, until cancelled."""

    def __init__(self, jobs: Iterable[Job], clock: Clock) -> None:
        self._jobs = tuple(jobs)
        self._clock = clock
        self._scheduler = AsyncIOScheduler(timezone="UTC")

    async def run(self) -> None:
        """Begins each job FIRST_S after the start, or after its own interval if that is shorter."""
        for number, job in enumerate(self._jobs):
            self._scheduler.add_job(
                passing,
                _Every(timedelta(seconds=job.every_s)),
                args=(job.name, job.run),
                id=str(number),
                max_instances=1,
                coalesce=True,
                misfire_grace_time=None,  # late is better than not at all
            )
        self._scheduler.start()
        try:
            self._begin_anew()
            await self._follow_the_clock()
        finally:
            self._scheduler.shutdown(wait=False)

    async def _follow_the_clock(self) -> None:
        ahead = self._ahead()
        while True:
            await asyncio.sleep(LOOK_S)
            now_ahead = self._ahead()
            if abs(now_ahead - ahead) > STEP:
                ahead = now_ahead
                self._begin_anew()

    def _begin_anew(self) -> None:
        """Every job's next time, by the clock as it is now."""
        now = self._clock.now()
        for number, job in enumerate(self._jobs):
            first = timedelta(seconds=min(job.every_s, FIRST_S))
            self._scheduler.modify_job(str(number), next_run_time=now + first)

    def _ahead(self) -> timedelta:
        """By how much the wall clock is ahead of the one that only grows."""
        return timedelta(seconds=self._clock.now().timestamp() - self._clock.monotonic())


async def passing(name: str, job: Callable[[], Awaitable[object]]) -> None:
    """A job of the schedule: what is away now is there another time. The journal's end is told elsewhere."""
    try:
        await job()
    except (BackendError, JournalFull, OSError) as exc:
        log.info("%s put off: %s", name, exc)
