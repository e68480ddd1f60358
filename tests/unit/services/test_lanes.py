"""The order in which one backend's segments go, over a real journal."""

import asyncio
import sqlite3
import tracemalloc
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from cctv_storaged.clock import SystemClock
from cctv_storaged.journal.copies import Copies
from cctv_storaged.journal.journal import FILE_NAME, Journal
from cctv_storaged.lanes import BATCH, FRESH, REST_S, Lanes
from cctv_storaged.model import Segment
from tests.unit.journal.samples import (
    ALWAYS,
    GATE,
    NOW,
    YARD,
    deliver,
    new,
    open_journal,
    record,
    span,
)

LATER = NOW + timedelta(minutes=5)


class Standing(SystemClock):
    """It is NOW."""

    def now(self) -> datetime:
        return NOW


class Passing(Standing):
    """It is NOW, for so long already."""

    passed_s = 0.0

    def monotonic(self) -> float:
        return self.passed_s


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    async with await open_journal(tmp_path / "data") as opened:
        yield opened


def lanes_of(journal: Journal, newest_share: float = 0.3) -> Lanes:
    return Lanes("S3", journal.copies, Standing(), newest_share)


async def recorded(journal: Journal, count: int, first: int = 0) -> list[Segment]:
    return await asyncio.gather(*(record(journal, new(first + number)) for number in range(count)))


async def taken(lanes: Lanes, count: int) -> list[UUID]:
    """Ids of what is taken, each released at once (and so free to be taken again, unless delivered)."""
    ids = []
    for _ in range(count):
        segment = await lanes.take()
        assert segment is not None
        ids.append(segment.id)
    return ids


async def test_urgent_goes_before_fresh_and_fresh_before_backlog(journal: Journal) -> None:
    backlog = await recorded(journal, 3)
    urgent = await record(journal, new(100, YARD))
    await journal.copies.urge(YARD.id, ALWAYS, None)
    lanes = lanes_of(journal, newest_share=0.0)
    arrived = [await record(journal, new(200 + number)) for number in range(2)]
    for segment in arrived:
        lanes.offer(segment)

    order = await taken(lanes, 6)

    assert order == [urgent.id, arrived[1].id, arrived[0].id, *(segment.id for segment in backlog)]
    assert await lanes.take() is None


async def test_what_becomes_urgent_while_it_waits_in_another_lane_overtakes(journal: Journal) -> None:
    lanes = lanes_of(journal, newest_share=0.0)
    backlog = await recorded(journal, 5)
    first = await lanes.take()
    assert first is not None
    assert first.id == backlog[0].id
    arrived = [await record(journal, new(200 + number)) for number in range(3)]
    for segment in arrived:
        lanes.offer(segment)

    await journal.copies.urge(GATE.id, span(4), None)
    await journal.copies.urge(GATE.id, span(200), None)
    lanes.reopen()

    assert await taken(lanes, 2) == [backlog[4].id, arrived[0].id]
    rest = await taken(lanes, 5)
    assert len(set(rest)) == 5
    assert backlog[4].id not in rest
    assert arrived[0].id not in rest


async def test_more_urgent_segments_than_one_batch_all_go_before_the_rest(journal: Journal) -> None:
    urgent = await asyncio.gather(*(record(journal, new(number, YARD)) for number in range(BATCH + 30)))
    await journal.copies.urge(YARD.id, ALWAYS, None)
    await recorded(journal, 5, first=5000)
    lanes = lanes_of(journal, newest_share=0.5)

    order = await taken(lanes, len(urgent) + 5)

    assert set(order[: len(urgent)]) == {segment.id for segment in urgent}


async def test_the_newest_get_their_share_of_the_backlog_and_the_oldest_the_rest(journal: Journal) -> None:
    backlog = await recorded(journal, 60)
    lanes = lanes_of(journal, newest_share=0.3)

    order = await taken(lanes, 30)

    oldest_first = [segment.id for segment in backlog]
    newest_first = oldest_first[::-1]
    from_newest = [id_ for id_ in order if id_ in newest_first[:30]]
    from_oldest = [id_ for id_ in order if id_ in oldest_first[:30]]
    assert from_newest == newest_first[:9], "three of ten, newest first"
    assert from_oldest == oldest_first[:21]
    for ten in range(3):
        share = sum(id_ in newest_first[:9] for id_ in order[ten * 10 : ten * 10 + 10])
        assert share == 3, "evenly spread, not in one go"


async def test_a_share_of_nothing_and_of_everything(journal: Journal) -> None:
    backlog = [segment.id for segment in await recorded(journal, 10)]
    assert await taken(lanes_of(journal, newest_share=0.0), 10) == backlog
    assert await taken(lanes_of(journal, newest_share=1.0), 10) == backlog[::-1]


async def test_nothing_is_given_out_twice_while_somebody_has_it(journal: Journal) -> None:
    backlog = await recorded(journal, 3 * BATCH + 7)
    lanes = lanes_of(journal, newest_share=0.4)
    for segment in backlog[::3]:
        lanes.offer(segment)  # these are in the journal as well

    order = await taken(lanes, len(backlog))

    assert len(set(order)) == len(backlog)
    assert await lanes.take() is None
    assert lanes.in_hand == len(backlog)
    lanes.reopen()
    assert await lanes.take() is None, "also after another look: all are in hand"


async def test_what_was_released_undelivered_is_given_out_again(journal: Journal) -> None:
    await recorded(journal, 2)
    lanes = lanes_of(journal, newest_share=0.0)
    first, second = await lanes.take(), await lanes.take()
    assert first is not None
    assert second is not None
    await deliver(journal, second)
    lanes.release(first)
    lanes.release(second)
    lanes.reopen()

    assert await taken(lanes, 1) == [first.id]
    assert await lanes.take() is None


async def test_a_postponed_copy_comes_when_it_is_due_and_not_before(journal: Journal) -> None:
    [segment] = await recorded(journal, 1)
    await journal.copies.postpone(segment.id, "S3", "rejected", LATER)
    lanes = lanes_of(journal)
    assert await lanes.take() is None
    assert lanes.exhausted
    await journal.copies.postpone(segment.id, "S3", "rejected", NOW)
    lanes.reopen()
    assert await taken(lanes, 1) == [segment.id]


async def test_the_overflow_of_the_fresh_lane_is_found_again_in_the_backlog(journal: Journal) -> None:
    lanes = lanes_of(journal, newest_share=0.0)
    assert await lanes.take() is None
    assert lanes.exhausted, "the journal said that nothing was due"
    arrived = await recorded(journal, FRESH + 40)
    for segment in arrived:
        lanes.offer(segment)
    assert lanes.waiting == FRESH

    order = await taken(lanes, len(arrived))

    assert order[:FRESH] == [segment.id for segment in arrived[: -FRESH - 1 : -1]]
    assert order[FRESH:] == [segment.id for segment in arrived[:40]]


async def test_word_of_more_that_comes_while_the_journal_is_asked_is_not_missed(journal: Journal) -> None:
    late = await record(journal, new(7))
    await journal.copies.postpone(late.id, "S3", "not yet", LATER)

    class Asked(Copies):
        """The real thing; while the answer about the backlog is on its way something comes due."""

        async def due(self, *args: Any, urgent_only: bool = False) -> list[Segment]:
            found = await journal.copies.due(*args, urgent_only=urgent_only)
            if not urgent_only and not found:
                await journal.copies.postpone(late.id, "S3", "now", NOW)
                lanes.reopen()
            return found

    lanes = Lanes("S3", Asked.__new__(Asked), Standing(), 0.0)
    assert await lanes.take() is None
    assert not lanes.exhausted
    assert await taken(lanes, 1) == [late.id]


async def test_while_all_are_put_off_they_are_not_looked_through_again_and_again(journal: Journal) -> None:
    first, *others = await recorded(journal, 3)
    for each in (first, *others):
        await journal.copies.postpone(each.id, "S3", "rejected", LATER)
    looked = 0

    class Counting(Copies):
        async def due(self, *args: Any, urgent_only: bool = False) -> list[Segment]:
            nonlocal looked
            looked += not urgent_only
            return await super().due(*args, urgent_only=urgent_only)

    clock = Passing()
    lanes = Lanes("S3", Counting(journal.copies._store), clock, 0.0)
    for _ in range(5):
        lanes.look_again()
        assert await lanes.take() is None
    assert looked == 1

    await journal.copies.postpone(first.id, "S3", "rejected", NOW)
    lanes.look_again()
    assert await taken(lanes, 1) == [first.id], "its time has come"
    await deliver(journal, first)
    assert await lanes.take() is None

    await journal.copies.postpone(
        others[0].id, "S3", "by somebody who told nobody", datetime.fromtimestamp(0, UTC)
    )
    lanes.look_again()
    clock.passed_s += REST_S
    assert await taken(lanes, 1) == [others[0].id]


async def test_what_is_withheld_is_not_given_out_and_what_is_in_hand_is_not_withheld(
    journal: Journal,
) -> None:
    backlog = await recorded(journal, 4)
    lanes = lanes_of(journal, newest_share=0.0)
    first = await lanes.take()
    assert first is not None
    lanes.offer(fresh_one := await record(journal, new(50)))
    with (
        lanes.withheld(first.id) as was_free,
        lanes.withheld(backlog[1].id) as in_backlog,
        lanes.withheld(fresh_one.id) as in_fresh,
    ):
        assert not was_free
        assert in_backlog
        assert in_fresh
        lanes.offer(fresh_one)
        lanes.reopen()
        assert await taken(lanes, 2) == [backlog[2].id, backlog[3].id]
        assert await lanes.take() is None
    assert set(await taken(lanes, 2)) == {backlog[1].id, fresh_one.id}


async def test_what_was_tried_in_vain_comes_after_all_others_and_again_when_there_are_none(
    journal: Journal,
) -> None:
    urgent = await record(journal, new(100, YARD))
    await journal.copies.urge(YARD.id, ALWAYS, None)
    backlog = await recorded(journal, 2)
    lanes = lanes_of(journal, newest_share=0.0)
    order = []
    for _ in range(5):
        segment = await lanes.take()
        assert segment is not None
        order.append(segment.id)
        lanes.others_first(segment)
        lanes.reopen()
        lanes.release(segment)
    assert order[:3] == [urgent.id, backlog[0].id, backlog[1].id]
    assert order[3:] == [urgent.id, backlog[0].id], "all over again"


async def test_idle_says_whether_anybody_has_a_segment(journal: Journal) -> None:
    await recorded(journal, 2)
    lanes = lanes_of(journal)
    assert lanes.idle.is_set()
    first, second = await lanes.take(), await lanes.take()
    assert first is not None
    assert second is not None
    assert not lanes.idle.is_set()
    lanes.release(first)
    assert not lanes.idle.is_set()
    lanes.release(second)
    assert lanes.idle.is_set()


async def test_both_ends_are_served_from_a_backlog_larger_than_what_is_kept(journal: Journal) -> None:
    backlog = [segment.id for segment in await recorded(journal, 3 * BATCH)]
    order = await taken(lanes_of(journal, newest_share=0.5), 20)
    assert order[0::2] == backlog[:10]
    assert order[1::2] == backlog[:-11:-1]


async def test_memory_is_bounded_with_a_hundred_thousand_waiting(tmp_path: Path) -> None:
    rows = 100_000
    async with await open_journal(tmp_path / "data") as journal:
        await record(journal, new(0))
    _multiply(tmp_path / "data" / FILE_NAME, rows - 1)
    async with await open_journal(tmp_path / "data") as journal:
        assert (await journal.copies.backlog("S3")).segments == rows
        lanes = lanes_of(journal)
        tracemalloc.start()
        try:
            in_hand, most, seen = [], 0, set()
            for _ in range(1500):
                segment = await lanes.take()
                assert segment is not None
                assert segment.id not in seen
                seen.add(segment.id)
                in_hand.append(segment)
                if len(in_hand) == 68:
                    done = in_hand.pop(0)
                    await journal.copies.postpone(done.id, "S3", "done with", LATER)
                    lanes.release(done)
                most = max(most, lanes.waiting)
                assert lanes.in_hand <= 68
            peak_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert most <= FRESH + 3 * BATCH
        assert peak_bytes < 24 * 2**20


def _multiply(path: Path, times: int) -> None:
    """So many more rows like the only one, each ten seconds after the other, by the schema's own triggers."""
    with sqlite3.connect(path) as db:
        db.execute(
            """WITH RECURSIVE count(k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM count WHERE k < ?)
               INSERT INTO segment (id, camera_no, start_us, end_us, folder_no, name, device, inode,
                                    size_bytes, mtime_ns, codec, created_us)
               SELECT randomblob(16), camera_no, start_us + k * 10000000, end_us + k * 10000000, folder_no,
                      CAST(printf('%09d.ts', k) AS BLOB), device, inode + k, size_bytes, mtime_ns + k, codec,
                      created_us
                 FROM count, segment WHERE segment.no = 1""",
            (times,),
        )
        db.execute(
            """INSERT INTO copy (segment_no, backend, start_us, size_bytes)
               SELECT no, 'S3', start_us, size_bytes FROM segment WHERE no > 1"""
        )
    db.close()
