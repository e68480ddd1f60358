"""What the watch asks the journal: cadences, what waits, and losses in pages from a moment on."""

from datetime import timedelta
from uuid import UUID

import pytest

from cctv_storaged.journal import watchrows
from cctv_storaged.journal.journal import Journal
from cctv_storaged.model import SourceState
from tests.unit.journal.samples import GATE, LENGTH, NOW, ROOT, START, YARD, deliver, new, record, span


async def lose(journal: Journal, number: int, cause: str, minutes: int) -> None:
    segment = await record(journal, new(number))
    at = NOW + timedelta(minutes=minutes)
    assert await journal.copies.source_gone(segment.id, SourceState.MISSING, cause, at) is not None


async def test_a_cadence_is_that_of_the_newest_segments_and_none_of_the_future(journal: Journal) -> None:
    for number in range(320):
        await record(journal, new(number, at=span(number, timedelta(seconds=12 if number == 318 else 9))))
    await record(journal, new(200_000))
    cadence = await journal.watch_rows.cadence(GATE.id, NOW)
    assert cadence.root == ROOT
    assert len(cadence.starts) == watchrows.STARTS
    assert cadence.starts == tuple(START + number * LENGTH for number in range(19, 320))
    assert cadence.longest == timedelta(seconds=12)
    for nobody in (YARD.id, UUID(int=1)):
        assert (await journal.watch_rows.cadence(nobody, NOW)).starts == ()


async def test_what_came_first_of_all_that_waits_is_told_though_older_footage_came_later(
    journal: Journal,
) -> None:
    assert await journal.watch_rows.waiting("S3") is None
    came = [(7, NOW), (5, NOW + timedelta(minutes=1)), (3, NOW + timedelta(minutes=2))]
    segments = [(await journal.segments.record(new(number), ("S3",), at)).segment for number, at in came]
    assert await journal.watch_rows.waiting("MINIO") is None
    for segment, (number, at) in zip(segments, came, strict=True):
        waiting = await journal.watch_rows.waiting("S3")
        assert waiting is not None
        assert (waiting.start, waiting.registered) == (START + number * LENGTH, at)
        await deliver(journal, segment)
    assert await journal.watch_rows.waiting("S3") is None


async def test_losses_are_read_in_pages_from_a_moment_on_each_once(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchrows, "PAGE", 3)
    assert await journal.watch_rows.line_at(NOW - timedelta(days=1)) == 0
    for number in range(10):
        await lose(journal, number, ("x", "y")[number % 2], minutes=number)
    after, more = await journal.watch_rows.line_at(NOW + timedelta(minutes=4)), True
    found: list[watchrows.Loss] = []
    while more:
        page = await journal.watch_rows.losses(after)
        after, more, found = page.after, page.more, [*found, *page.found]
    assert [loss.at for loss in found] == [NOW + timedelta(minutes=number) for number in range(4, 10)]
    assert {loss.camera_id for loss in found} == {GATE.id}
    assert [loss.cause for loss in found] == ["x", "y"] * 3
    assert await journal.watch_rows.line_at(NOW + timedelta(days=1)) >= after


async def test_a_ledger_whose_first_lines_are_archived_is_looked_through_all_the_same(
    journal: Journal,
) -> None:
    for number in range(4):
        await lose(journal, number, "x", minutes=number)
    end = await journal.watch_rows.line_at(NOW + timedelta(days=1))
    await journal._store.write(lambda db: db.execute("DELETE FROM ledger WHERE no < ?", (end - 1,)))
    assert await journal.watch_rows.line_at(NOW - timedelta(days=1)) == end - 2
    assert await journal.watch_rows.line_at(NOW + timedelta(days=1)) == end
