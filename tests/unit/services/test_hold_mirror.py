"""The mirror of holds before a store that is away, forbids, lost an object, or has no object lock at all."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from cctv_storaged.alarms import AlarmName, Alarms
from cctv_storaged.backends.base import Backend
from cctv_storaged.errors import BackendError, BackendUnavailable, ObjectMissing
from cctv_storaged.events import EventHub
from cctv_storaged.holding.mirror import LATER_S, Mirror
from cctv_storaged.journal.holds import Hold, NewHold
from cctv_storaged.journal.journal import Journal
from cctv_storaged.metrics import Metrics
from cctv_storaged.model import Segment
from tests.fakes.scripted_backend import ScriptedBackend
from tests.unit.journal.samples import GATE, NOW, deliver, new, open_journal, proof, record, span


class HandClock:
    """Stands still until somebody moves it."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return datetime(2026, 1, 23, 12, tzinfo=UTC)

    def monotonic(self) -> float:
        return self.seconds


class LockingStore(ScriptedBackend):
    """A bucket with object lock, or without; `error` befalls every change, `lost` those of one path."""

    def __init__(self, *, lock: bool = True) -> None:
        super().__init__("S3")
        self.lock = lock
        self.held: set[str] = set()
        self.error: BackendError | None = None
        self.only_on = False  # the key may set legal holds, and not take them off
        self.lost: str | None = None
        self.asked_in_vain: BackendError | None = None
        self.changes = 0

    async def object_lock(self) -> bool | None:
        if self.asked_in_vain is not None:
            raise self.asked_in_vain
        return self.lock

    async def set_legal_hold(self, path: str, on: bool) -> None:
        self.changes += 1
        if self.error is not None:
            raise self.error
        if self.only_on and not on:
            raise BackendUnavailable("AccessDenied", reason="auth")
        if path == self.lost:
            raise ObjectMissing(f"{path} is not there")
        (self.held.add if on else self.held.discard)(path)

    async def legal_hold(self, path: str) -> bool | None:
        return path in self.held


class SlowLockingStore(LockingStore):
    """Sets legal holds when it may, and takes them off at once."""

    def __init__(self) -> None:
        super().__init__()
        self.setting = asyncio.Event()
        self.may_set = asyncio.Event()

    async def set_legal_hold(self, path: str, on: bool) -> None:
        if on:
            self.setting.set()
            await self.may_set.wait()
        await super().set_legal_hold(path, on)


@dataclass
class Bench:
    """A journal with three delivered segments, a store and the mirror between them."""

    journal: Journal
    clock: HandClock
    alarms: Alarms
    segments: list[Segment]

    def mirror(self, backend: Backend) -> Mirror:
        marks, holds = self.journal.hold_marks, self.journal.holds
        return Mirror(marks, holds, [backend], self.clock, self.alarms)

    async def hold(self, first: int = 0) -> Hold:
        asked = NewHold(
            id=uuid4(),
            camera_ids=(GATE.id,),
            start=span(first).start,
            end=span(first + 1).end,
            reason="burglary",
            case_id=None,
            created_by=None,
            expires_at=None,
            review_at=None,
        )
        made = await self.journal.holds.add(asked, None, NOW)
        await self.settle()
        return made

    async def release(self, hold: Hold) -> None:
        await self.journal.holds.release(hold.id, "closed", None, NOW)
        await self.settle()

    async def settle(self) -> None:
        walk = await self.journal.hold_marks.settle(None)
        while walk is not None:
            walk = await self.journal.hold_marks.settle(walk)

    def paths(self, *numbers: int) -> set[str]:
        return {proof(self.segments[number]).path for number in numbers}

    @property
    def alarming(self) -> list[str]:
        return [each.text for each in self.alarms.standing if each.name is AlarmName.HOLD_LOCAL]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    clock = HandClock()
    async with await open_journal(tmp_path) as journal:
        segments = [await record(journal, new(number)) for number in range(3)]
        for segment in segments:
            await deliver(journal, segment)
        yield Bench(journal, clock, Alarms(Metrics(), EventHub(), clock), segments)


async def test_held_copies_get_a_legal_hold_and_lose_it_with_the_release(bench: Bench) -> None:
    store = LockingStore()
    mirror = bench.mirror(store)
    hold = await bench.hold()
    await mirror.run_once()
    assert store.held == bench.paths(0, 1) and not await mirror.waiting("S3")
    done = store.changes
    await mirror.run_once()
    assert store.changes == done  # what was shown is not asked for again
    await bench.release(hold)
    await mirror.run_once()
    assert store.held == set() and bench.alarming == []


async def test_a_round_that_is_slow_to_set_a_legal_hold_does_not_set_it_behind_one_that_took_it_off(
    bench: Bench,
) -> None:
    store = SlowLockingStore()
    mirror = bench.mirror(store)
    hold = await bench.hold()
    async with asyncio.TaskGroup() as rounds:
        rounds.create_task(mirror.run_once())
        await store.setting.wait()
        await bench.release(hold)
        second = rounds.create_task(mirror.run_once())
        await asyncio.wait([second], timeout=0.5)  # all it has to do, if it does not wait for the first
        store.may_set.set()
    assert store.held == set() and store.changes > 0


async def test_no_legal_hold_is_taken_off_while_the_journal_may_have_forgotten_the_hold(bench: Bench) -> None:
    store = LockingStore()
    mirror = bench.mirror(store)
    hold = await bench.hold()
    await mirror.run_once()
    await bench.release(hold)
    mirror.holds_unknown = lambda: "the store could not be asked"
    await bench.hold(1)
    await mirror.run_once()
    assert store.held == bench.paths(0, 1, 2), "what is held is told all the same"
    mirror.holds_unknown = lambda: None
    await mirror.run_once()
    assert store.held == bench.paths(1, 2)


async def test_a_store_that_is_away_is_asked_again_without_an_alarm(bench: Bench) -> None:
    store = LockingStore()
    mirror = bench.mirror(store)
    await bench.hold()
    store.error = BackendUnavailable("nobody answers", reason="network")
    await mirror.run_once()
    assert mirror.standing["S3"].away == "nobody answers" and bench.alarming == []
    store.error = None
    await mirror.run_once()
    assert store.held == bench.paths(0, 1) and mirror.standing["S3"].away is None


async def test_a_key_that_may_not_leaves_the_hold_local_with_an_alarm_until_it_may(bench: Bench) -> None:
    store = LockingStore()
    mirror = bench.mirror(store)
    await bench.hold()
    store.error = BackendUnavailable("AccessDenied", reason="auth")
    await mirror.run_once()
    assert mirror.standing["S3"].local_only == "AccessDenied"
    assert len(bench.alarming) == 1 and "AccessDenied" in bench.alarming[0]
    done = store.changes
    await mirror.run_once()
    assert store.changes == done  # not with every round
    store.error = None
    bench.clock.seconds = LATER_S
    await mirror.run_once()
    assert store.held == bench.paths(0, 1) and bench.alarming == []


async def test_a_key_that_may_only_set_legal_holds_goes_on_setting_them(bench: Bench) -> None:
    store = LockingStore()
    mirror = bench.mirror(store)
    first = await bench.hold()
    await mirror.run_once()
    store.only_on = True
    await bench.release(first)
    await mirror.run_once()
    await record(bench.journal, new(9))
    again = await bench.hold(9)
    await deliver(bench.journal, await record(bench.journal, new(9)))
    await mirror.run_once()
    assert len(store.held) == 3 and bench.alarming == []
    store.only_on, bench.clock.seconds = False, LATER_S
    await mirror.run_once()
    assert len(store.held) == 1 and again.in_force


async def test_one_lost_object_holds_up_no_other(bench: Bench) -> None:
    store = LockingStore()
    mirror = bench.mirror(store)
    await bench.hold()
    [store.lost] = bench.paths(0)
    await mirror.run_once()
    assert store.held == bench.paths(1) and await mirror.waiting("S3")
    done = store.changes
    await mirror.run_once()
    assert store.changes == done
    store.lost, bench.clock.seconds = None, LATER_S
    await mirror.run_once()
    assert store.held == bench.paths(0, 1)


async def test_a_bucket_without_object_lock_alarms_only_while_something_is_held(bench: Bench) -> None:
    store = LockingStore(lock=False)
    mirror = bench.mirror(store)
    await mirror.run_once()
    assert bench.alarming == []
    hold = await bench.hold()
    await mirror.run_once()
    assert len(bench.alarming) == 1 and "without object lock" in bench.alarming[0]
    [sounding] = bench.alarms.standing
    store.asked_in_vain = BackendUnavailable("it is not the right bucket", reason="wrong_disk")
    await mirror.run_once()
    assert bench.alarms.standing == (sounding,), "nobody can say now that it is over"
    store.asked_in_vain = None
    await bench.release(hold)
    await mirror.run_once()
    assert bench.alarming == [] and store.changes == 0
    waiting = await bench.journal.hold_marks.to_unlock("S3", 0, 10)
    assert waiting != [], "a key that may not ask is told the same, and may have set some before"


async def test_a_folder_is_local_as_a_matter_of_course(bench: Bench) -> None:
    mirror = bench.mirror(ScriptedBackend("S3"))
    await bench.hold()
    await mirror.run_once()
    assert mirror.standing["S3"].local_only is not None and bench.alarming == []
