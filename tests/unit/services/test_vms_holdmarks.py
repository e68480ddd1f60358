"""Holds as marks in XProtect: each known to the journal, whatever dies when, and all gone with the hold."""

import asyncio
import functools
import itertools
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from cctv_storaged.alarms import AlarmName, Alarms
from cctv_storaged.backends.milestone.base import Mark, Vms
from cctv_storaged.config import Milestone
from cctv_storaged.errors import BackendError, BackendUnavailable, ObjectRejected, Unsupported
from cctv_storaged.events import EventHub
from cctv_storaged.journal.holds import Hold, NewHold
from cctv_storaged.journal.journal import Journal
from cctv_storaged.journal.swapping import carry_over
from cctv_storaged.journal.vmsmarks import MarkCounts, VmsMarks
from cctv_storaged.metrics import Metrics
from cctv_storaged.model import TimeSpan
from cctv_storaged.recorder.admission import CameraBook
from cctv_storaged.vms.holdmarks import HoldMarking, HoldMarkingParts, MarkRules
from cctv_storaged.vms.mapping import CameraMapping, map_rules
from tests.fakes.scripted_vms import FindingVms, ScriptedVms, channel
from tests.unit.journal.samples import GATE, HOST, LENGTH, NOW, START, YARD, new, open_journal, record

BOTH = MarkRules(bookmark=True, evidence_lock="auto")


class HandClock:
    """Both clocks stand still until somebody moves them."""

    def __init__(self) -> None:
        self.passed = timedelta(0)

    def now(self) -> datetime:
        return NOW + self.passed

    def monotonic(self) -> float:
        return 1000.0 + self.passed.total_seconds()


class Bench:
    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.clock = HandClock()
        self.alarms = Alarms(Metrics(), EventHub(), self.clock)

    def marking(
        self,
        vms: Vms,
        rules: MarkRules = BOTH,
        *,
        seen: Vms | None = None,
        marks: VmsMarks | None = None,
        camera_map: Mapping[str, str] | None = None,
    ) -> HoldMarking:
        mapped = camera_map or {"gate": str(channel(1).id)}
        settings = Milestone(url="https://mgmt.example", camera_map=mapped)
        book = CameraBook(HOST, ())
        mapping_rules = map_rules(settings, required=True)
        parts = HoldMarkingParts(
            vms=seen or vms,
            mapping=CameraMapping(vms, self.journal.cameras, book, mapping_rules, self.alarms),
            marks=marks or self.journal.vms_marks,
            holds=self.journal.holds,
            copies=self.journal.hold_marks,
            rules=rules,
            host_id=HOST,
            clock=self.clock,
            alarms=self.alarms,
        )
        return HoldMarking(parts)

    async def hold(self, start: datetime = START, end: datetime | None = None) -> Hold:
        wish = NewHold(
            id=uuid4(),
            camera_ids=(GATE.id, YARD.id),
            start=start,
            end=end,
            reason="burglary",
            case_id="INC-42",
            created_by="ops",
            expires_at=None,
            review_at=None,
        )
        return await self.journal.holds.add(wish, None, self.clock.now())

    async def release(self, hold: Hold, *awake: HoldMarking) -> None:
        """And tells those who mark, as holding does."""
        await self.journal.holds.release(hold.id, "closed", None, self.clock.now())
        for each in awake:
            each.wake()

    async def counts(self, hold: Hold) -> MarkCounts:
        return await self.journal.vms_marks.counts(hold.id)

    async def noted(self) -> list[str]:
        lines = (await self.journal.ledger_lines.page(0)).lines
        return [each.line.detail for each in lines if each.line.kind == "noted"]

    @property
    def alarming(self) -> dict[str, str]:
        return {each.subject: each.text for each in self.alarms.standing if each.name is AlarmName.VMS_MARK}


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """Footage of two cameras, of which XProtect has the one."""
    async with await open_journal(tmp_path) as journal:
        for camera in (GATE, YARD):
            await record(journal, new(0, camera), "MILESTONE")
        yield Bench(journal)


def spans(marks: dict[UUID, Any]) -> list[TimeSpan]:
    return sorted(mark.span for mark in marks.values())


async def test_a_hold_is_one_bookmark_and_one_lock_a_mapped_camera_until_its_release(bench: Bench) -> None:
    vms = ScriptedVms()
    marking = bench.marking(vms)
    hold = await bench.hold(end=START + LENGTH)
    await marking.run_once()
    [mark] = vms.locks.values()
    assert mark.camera_id == channel(1).id and mark.span == TimeSpan(START, START + LENGTH)
    assert "INC-42" in mark.header and "burglary" in mark.description and str(hold.id) in mark.description
    assert spans(vms.bookmarks) == [mark.span]
    assert await bench.counts(hold) == MarkCounts(bookmarks=1, locks=1)
    assert vms.called.index("lock") < vms.called.index("bookmark")
    bench.clock.passed = timedelta(days=3)
    await marking.run_once()
    assert len(vms.locks) == len(vms.bookmarks) == 1  # it is over: nothing is added

    await bench.release(hold, marking)
    await marking.run_once()
    assert not vms.locks and not vms.bookmarks and not (await bench.counts(hold)).any
    noted = await bench.noted()
    assert sum("placed as" in each for each in noted) == sum("removed" in each for each in noted) == 2


async def test_an_open_hold_is_marked_up_to_now_and_extended_daily(bench: Bench) -> None:
    vms = ScriptedVms()
    marking = bench.marking(vms)
    await bench.hold(start=START - timedelta(days=900))  # from its first footage on: nothing was before it
    await marking.run_once()
    for hours in (1, 23, 24, 30, 60):
        bench.clock.passed = timedelta(hours=hours)
        await marking.run_once()
    day = timedelta(days=1)
    ends = [START, NOW, NOW + day, NOW + timedelta(hours=60)]
    assert spans(vms.locks) == [TimeSpan(*each) for each in itertools.pairwise(ends)]
    assert spans(vms.bookmarks) == spans(vms.locks)


async def test_footage_that_is_found_before_what_is_marked_is_marked_too(bench: Bench) -> None:
    vms = ScriptedVms()
    marking = bench.marking(vms)
    await bench.hold(start=START - timedelta(hours=1), end=START + LENGTH)
    await marking.run_once()
    earlier = TimeSpan(START - timedelta(minutes=9), START - timedelta(minutes=8))
    await record(bench.journal, new(50, at=earlier), "MILESTONE")
    marking.wake()
    await marking.run_once()
    assert spans(vms.locks) == [TimeSpan(earlier.start, START), TimeSpan(START, START + LENGTH)]


async def test_what_the_edition_lacks_is_asked_for_after_each_start_and_daily(bench: Bench) -> None:
    vms = ScriptedVms()
    vms.errors["lock"] = Unsupported("evidence locks need XProtect Corporate")
    marking = bench.marking(vms)
    first, second = await bench.hold(), await bench.hold(start=START + timedelta(seconds=1))
    await marking.run_once()
    bench.clock.passed = timedelta(hours=20)
    await marking.run_once()
    assert vms.count("lock") == 1 and bench.alarming == {}
    assert (await bench.counts(first)).unsupported == 1
    assert "Corporate" in (marking.reason(first) or "") and (await bench.counts(second)).waiting == 0
    bench.clock.passed = timedelta(days=2)
    await marking.run_once()
    assert vms.count("lock") == 2, "once a day"
    del vms.errors["lock"]
    again = bench.marking(vms)
    await again.run_once()
    assert (await bench.counts(first)).unsupported == 0 and vms.locks


async def test_a_camera_that_is_corrected_in_the_settings_is_marked_there_and_stays_marked_where_it_was(
    bench: Bench,
) -> None:
    """Which of the two has the footage nobody can tell: the hold's end removes all of them."""
    one, other = channel(1).id, channel(2).id
    vms = ScriptedVms(channels=[channel(1), channel(2, "Other")])
    hold = await bench.hold(end=START + LENGTH)
    for device in (other, one, other, one):
        marking = bench.marking(vms, camera_map={"gate": str(device)})
        await marking.run_once()
        assert device in {mark.camera_id for mark in vms.locks.values()}
    assert await bench.counts(hold) == MarkCounts(bookmarks=2, locks=2)
    assert {mark.span for mark in vms.locks.values()} == {TimeSpan(START, START + LENGTH)}
    await bench.release(hold, marking)
    await marking.run_once()
    assert not vms.locks and not vms.bookmarks and not (await bench.counts(hold)).any


async def test_what_waited_for_a_camera_that_was_corrected_is_not_placed_there_any_more(bench: Bench) -> None:
    """Nor left behind where an answer was lost."""
    vms = FindingVms(channels=[channel(1), channel(2, "Other")])
    vms.errors["bookmark"] = ObjectRejected("busy")
    vms.lost_answers["lock"] = BackendUnavailable("connection reset")
    hold = await bench.hold(end=START + LENGTH)
    await bench.marking(vms, camera_map={"gate": str(channel(2).id)}).run_once()
    assert {mark.camera_id for mark in vms.locks.values()} == {channel(2).id}
    vms.errors.clear()
    vms.lost_answers.clear()
    bench.clock.passed = timedelta(hours=1)
    marking = bench.marking(vms, camera_map={"gate": str(channel(1).id)})
    for _ in range(2):
        await marking.run_once()
    assert {mark.camera_id for mark in (*vms.locks.values(), *vms.bookmarks.values())} == {channel(1).id}
    assert await bench.counts(hold) == MarkCounts(bookmarks=1, locks=1)


class OneCameraFails(ScriptedVms):
    """It fails for one camera, whatever it does for others."""

    def __init__(self, error: BackendError) -> None:
        super().__init__(channels=[channel(1), channel(2)])
        self.error = error

    async def lock(self, mark: Mark) -> UUID:
        if mark.camera_id == channel(1).id:
            raise self.error
        return await super().lock(mark)


@pytest.mark.parametrize("error", [BackendUnavailable("503"), Unsupported("400: no")])
async def test_one_camera_that_fails_leaves_no_hold_of_another_unmarked(
    bench: Bench, error: BackendError
) -> None:
    vms = OneCameraFails(error)
    marking = bench.marking(vms, camera_map={"gate": str(channel(1).id), "yard": str(channel(2).id)})
    hold = await bench.hold()
    for hours in range(1, 5):
        await marking.run_once()
        bench.clock.passed = timedelta(hours=hours)
    assert {mark.camera_id for mark in vms.locks.values()} == {channel(2).id}
    assert (await bench.counts(hold)).bookmarks >= 2
    assert bench.alarming, "somebody should know of the one that fails"


@pytest.mark.parametrize(
    ("call", "rules"),
    [
        ("lock", MarkRules(bookmark=False, evidence_lock="always")),
        ("bookmark", MarkRules(bookmark=True, evidence_lock="never")),
    ],
)
async def test_what_the_settings_ask_for_and_the_edition_lacks_is_an_alarm(
    bench: Bench, call: str, rules: MarkRules
) -> None:
    vms = ScriptedVms()
    vms.errors[call] = Unsupported("not in this edition")
    hold = await bench.hold()
    await bench.marking(vms, rules).run_once()
    assert ["not in this edition" in text for text in bench.alarming.values()] == [True]
    assert await bench.counts(hold) == MarkCounts(unsupported=1)


async def test_a_release_while_the_site_is_away_is_carried_out_when_it_is_back(bench: Bench) -> None:
    vms = ScriptedVms()
    marking = bench.marking(vms)
    hold = await bench.hold()
    await marking.run_once()
    vms.errors["site"] = BackendUnavailable("no route")
    await bench.release(hold, marking)
    with pytest.raises(BackendUnavailable):
        await marking.run_once()
    assert marking.trouble == "no route" and (await bench.counts(hold)).waiting == 2
    vms.errors.clear()
    await marking.run_once()
    assert marking.trouble is None and not vms.locks and not vms.bookmarks


async def test_days_without_the_site_leave_no_doubt_about_marks(bench: Bench) -> None:
    """What was never sent was not asked for: no release tells of marks that may be left."""
    vms = ScriptedVms()
    vms.errors["site"] = BackendUnavailable("no route")
    marking = bench.marking(vms)
    hold = await bench.hold()
    for _ in range(3):
        with pytest.raises(BackendUnavailable):
            await marking.run_once()
    assert all(mark.asked == 0 for mark in await bench.journal.vms_marks.due(NOW, 10))
    await bench.release(hold, marking)
    await bench.marking(vms).run_once()  # there is nothing to ask the site for
    assert not (await bench.counts(hold)).any


async def test_one_refused_mark_is_an_alarm_and_holds_up_no_other(bench: Bench) -> None:
    vms = ScriptedVms()
    vms.errors["lock"] = ObjectRejected("retention is not allowed by the role")
    marking = bench.marking(vms)
    hold = await bench.hold()
    await marking.run_once()
    assert "not allowed by the role" in bench.alarming[str(hold.id)]
    refusal = "retention is not allowed by the role"
    assert await bench.counts(hold) == MarkCounts(bookmarks=1, waiting=1, refusal=refusal)
    assert "refuses" in (marking.reason(hold) or "")
    await marking.run_once()
    assert vms.count("lock") == 1  # not before its time
    vms.errors.clear()
    bench.clock.passed = timedelta(hours=1)
    await marking.run_once()
    assert bench.alarming == {} and len(vms.locks) == 1


async def test_a_mark_that_was_put_off_while_the_clock_ran_ahead_is_placed_once_it_is_right(
    bench: Bench,
) -> None:
    vms = ScriptedVms()
    vms.errors = {"lock": ObjectRejected("busy"), "bookmark": ObjectRejected("busy")}
    hold = await bench.hold(end=START + LENGTH)
    bench.clock.passed = timedelta(days=400)
    await bench.marking(vms).run_once()
    vms.errors.clear()
    bench.clock.passed = timedelta(minutes=1)
    await bench.marking(vms).run_once()
    assert await bench.counts(hold) == MarkCounts(bookmarks=1, locks=1)


async def test_the_alarm_of_a_refused_mark_ends_with_its_hold(bench: Bench) -> None:
    vms = ScriptedVms()
    vms.errors["lock"] = ObjectRejected("no")
    marking = bench.marking(vms)
    hold = await bench.hold()
    await marking.run_once()
    await bench.release(hold, marking)
    await marking.run_once()
    assert bench.alarming == {} and not vms.bookmarks


async def test_a_lock_whose_answer_was_lost_is_found_by_its_reference(bench: Bench) -> None:
    vms = FindingVms()
    vms.lost_answers["lock"] = BackendUnavailable("connection reset")
    marking = bench.marking(vms)
    hold = await bench.hold()
    await marking.run_once()
    vms.lost_answers.clear()
    bench.clock.passed = timedelta(hours=1)
    await marking.run_once()
    assert len(vms.locks) == 1 and await bench.counts(hold) == MarkCounts(bookmarks=1, locks=1)


async def test_a_lock_whose_answer_was_lost_goes_with_a_hold_that_was_released_meanwhile(
    bench: Bench,
) -> None:
    vms = FindingVms()
    vms.lost_answers["lock"] = BackendUnavailable("connection reset")
    marking = bench.marking(vms)
    hold = await bench.hold()
    await marking.run_once()
    await bench.release(hold, marking)
    await marking.run_once()
    assert not vms.locks and not (await bench.counts(hold)).any


async def test_where_marks_cannot_be_looked_for_a_second_one_is_told(bench: Bench) -> None:
    vms = ScriptedVms()
    vms.lost_answers["lock"] = BackendUnavailable("connection reset")
    marking = bench.marking(vms)
    hold = await bench.hold()
    await marking.run_once()
    vms.lost_answers.clear()
    bench.clock.passed = timedelta(hours=1)
    await marking.run_once()
    await bench.release(hold, marking)
    await marking.run_once()
    [left] = vms.locks.values()
    assert any(left.reference in each and "may be left" in each for each in await bench.noted())


async def test_a_journal_that_is_rebuilt_takes_over_the_marks(bench: Bench, tmp_path: Path) -> None:
    """Else locks of holds in force would be placed again, and the first ones be nobody's."""
    vms = ScriptedVms()
    hold = await bench.hold()
    await bench.marking(vms).run_once()
    earlier = tmp_path / "earlier.db"
    await bench.journal._store.read(lambda db: db.execute("VACUUM INTO ?", (str(earlier),)))
    async with await open_journal(tmp_path / "new"):
        pass
    carried = await asyncio.to_thread(carry_over, earlier, tmp_path / "new" / "journal.db")
    assert carried["vms_mark"] == 2
    async with await open_journal(tmp_path / "new") as rebuilt:
        assert await rebuilt.vms_marks.counts(hold.id) == MarkCounts(bookmarks=1, locks=1)


@pytest.mark.parametrize("comes_back", [True, False])
async def test_marks_of_a_hold_that_the_journal_may_have_forgotten_stay_until_the_store_was_asked(
    bench: Bench, comes_back: bool
) -> None:
    """A salvage lost its row, and the store that knows of it is away. Others are released as ever."""
    vms = ScriptedVms()
    forgotten, released = await bench.hold(end=START + LENGTH), await bench.hold(end=START + LENGTH)
    await bench.marking(vms).run_once()
    kept = dict(vms.locks)
    known = [each for each in await bench.journal.held_back.all() if each.id == forgotten.id]

    def forget(db: sqlite3.Connection) -> None:
        db.execute("DELETE FROM hold_camera WHERE hold_no = ?", (forgotten.no,))
        db.execute("DELETE FROM hold WHERE no = ?", (forgotten.no,))

    await bench.journal._store.write(forget)
    marking, doubt = bench.marking(vms), ["the store could not be asked"]
    marking.holds_unknown = lambda: doubt[0] if doubt else None
    await bench.release(released, marking)
    for _ in range(2):
        await marking.run_once()
        assert [str(forgotten.id) in each.description for each in vms.locks.values()] == [True]
        assert len(vms.bookmarks) == 1

    if comes_back:
        await bench.journal.held_back.recover(known, NOW)
    doubt.clear()
    await marking.run_once()
    assert len(vms.locks) == len(vms.bookmarks) == int(comes_back)
    assert vms.locks.items() <= kept.items(), "not placed a second time"


class Killed(BaseException):
    """kill -9: nothing after it is done."""


class Mortal:
    """What it stands for, until the process dies at one of its calls: before it, or when it is done."""

    def __init__(self, inner: object, life: list[float]) -> None:
        self._inner = inner
        self._life = life

    def __getattr__(self, name: str) -> object:
        found = getattr(self._inner, name)
        return functools.partial(self._step, found) if callable(found) else found

    async def _step(self, call: Callable[..., Awaitable[object]], *args: object, **named: object) -> object:
        self._spend()
        done = await call(*args, **named)
        self._spend()
        return done

    def _spend(self) -> None:
        self._life[0] -= 1
        if self._life[0] == 0:
            raise Killed


def mortal(bench: Bench, site: FindingVms, life: list[float]) -> HoldMarking:
    wrapped: Any = Mortal(site, life)
    wrapped.bookmarks_of = functools.partial(wrapped._step, site.bookmarks_of)
    wrapped.locks_of = functools.partial(wrapped._step, site.locks_of)
    marks: Any = Mortal(bench.journal.vms_marks, life)
    return bench.marking(site, seen=wrapped, marks=marks)


async def killed_at_each_step(bench: Bench, site: FindingVms) -> int:
    """Processes that die one step later each, until one comes to its end; how many died."""
    for step in range(1, 200):
        try:
            await mortal(bench, site, [step]).run_once()
        except Killed:
            continue
        return step - 1
    raise AssertionError("no process came to its end")


async def test_kill_9_at_any_step_leaves_no_mark_twice_and_none_behind(bench: Bench) -> None:
    site = FindingVms()
    hold = await bench.hold()
    assert await killed_at_each_step(bench, site) > 10
    assert spans(site.locks) == spans(site.bookmarks) == [TimeSpan(START, NOW)]
    assert await bench.counts(hold) == MarkCounts(bookmarks=1, locks=1)
    await bench.release(hold)
    assert await killed_at_each_step(bench, site) > 5
    assert not site.locks and not site.bookmarks and not (await bench.counts(hold)).any
