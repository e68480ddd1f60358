"""The schedule goes on whatever the wall clock does."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from apscheduler.schedulers import base

from cctv_storaged import schedule
from cctv_storaged.clock import SystemClock
from cctv_storaged.schedule import Schedule
from cctv_storaged.upkeep import Job


class Jumping(SystemClock):
    """The host's clock, and how far it was set."""

    def __init__(self) -> None:
        self.by = timedelta(0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.by


@pytest.mark.parametrize("days", [-400, 400])
async def test_a_clock_that_jumps_parks_no_job(monkeypatch: pytest.MonkeyPatch, days: int) -> None:
    monkeypatch.setattr(schedule, "FIRST_S", 0.05)
    monkeypatch.setattr(schedule, "LOOK_S", 0.05)
    clock, runs = Jumping(), 0
    jumped = asyncio.Event()

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs == 2:
            clock.by = timedelta(days=days)
            _let_apscheduler_see(monkeypatch, clock)
        if runs == 4:
            jumped.set()

    running = asyncio.create_task(Schedule([Job(name="work", run=work, every_s=0.1)], clock).run())
    try:
        await asyncio.wait_for(jumped.wait(), 20)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def _let_apscheduler_see(monkeypatch: pytest.MonkeyPatch, clock: Jumping) -> None:
    """APScheduler asks datetime.now by itself."""

    class Set(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return clock.now()

    monkeypatch.setattr(base, "datetime", Set)


async def test_a_job_begins_soon_after_the_start_and_never_beside_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(schedule, "FIRST_S", 0.05)
    at_once, most, done = 0, 0, asyncio.Event()

    async def work() -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.05)
        at_once -= 1
        done.set()

    seldom = Job(name="seldom", run=work, every_s=86_400)
    running = asyncio.create_task(Schedule([seldom], SystemClock()).run())
    try:
        await asyncio.wait_for(done.wait(), 20)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert most == 1
