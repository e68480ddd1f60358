"""Footage that is lost under a hold: an alarm until the hold ends or the footage is there again."""

from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from cctv_storaged.alarms import Alarm, AlarmName, Alarms
from cctv_storaged.clock import SystemClock
from cctv_storaged.events import EventHub
from cctv_storaged.holding import losses
from cctv_storaged.holding.losses import HeldLossWatch
from cctv_storaged.journal.holds import Hold, NewHold
from cctv_storaged.journal.journal import Journal
from cctv_storaged.metrics import Metrics
from cctv_storaged.model import Segment, SourceState
from tests.unit.journal.samples import GATE, NOW, deliver, new, open_journal, record, span

LATER = NOW + timedelta(hours=1)


def watching(journal: Journal) -> tuple[HeldLossWatch, Alarms]:
    alarms = Alarms(Metrics(), EventHub(), SystemClock())
    return HeldLossWatch(journal, alarms), alarms


async def hold(journal: Journal, first: int, last: int) -> Hold:
    await journal.cameras.ensure(GATE)
    asked = NewHold(
        id=uuid4(),
        camera_ids=(GATE.id,),
        start=span(first).start,
        end=span(last).end,
        reason="burglary",
        case_id=None,
        created_by=None,
        expires_at=None,
        review_at=None,
    )
    return await journal.holds.add(asked, None, NOW)


async def lost(journal: Journal, number: int) -> Segment:
    segment = await record(journal, new(number))
    found = await journal.copies.source_gone(segment.id, SourceState.MISSING, "source_vanished", LATER)
    assert found is not None
    return segment


async def standing(watch: HeldLossWatch, alarms: Alarms) -> list[Alarm]:
    await watch.run_once()
    return [each for each in alarms.standing if each.name is AlarmName.HELD_LOST]


async def test_held_footage_that_is_lost_alarms_until_it_is_found_or_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "AT_ONCE", 1)
    async with await open_journal(tmp_path) as journal:
        await lost(journal, 9)
        first, second = await hold(journal, 0, 2), await hold(journal, 1, 4)
        watch, alarms = watching(journal)
        assert await standing(watch, alarms) == [], "nobody held what was lost"
        found, gone = await lost(journal, 0), await lost(journal, 1)
        await lost(journal, 4)
        told = await standing(watch, alarms)
        assert [(each.subject, each.text[:2]) for each in told] == [
            (str(first.id), "2 "),
            (str(second.id), "2 "),
        ]
        for words in (str(GATE.id), GATE.name, str(gone.span), "source_vanished"):
            assert words in told[0].text
        again, after_restart = watching(journal)
        assert len(await standing(again, after_restart)) == 2, "a restart forgets nothing"
        await deliver(journal, found)
        assert [each.text[:2] for each in await standing(watch, alarms)] == ["1 ", "2 "]
        await journal.holds.release(second.id, "closed", None, LATER)
        assert [each.subject for each in await standing(watch, alarms)] == [str(first.id)]
        await deliver(journal, gone)
        assert await standing(watch, alarms) == []


async def test_a_hold_alarms_not_for_what_was_lost_before_it(tmp_path: Path) -> None:
    async with await open_journal(tmp_path) as journal:
        segment = await record(journal, new(0))
        before = NOW - timedelta(hours=1)
        await journal.copies.source_gone(segment.id, SourceState.MISSING, "source_vanished", before)
        await hold(journal, 0, 2)
        assert await standing(*watching(journal)) == []
