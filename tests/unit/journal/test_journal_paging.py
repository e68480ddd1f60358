"""Lists by camera and time: complete, in order, and stable while segments come and go."""

from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

import pytest

from cctv_storaged.journal.journal import Journal
from cctv_storaged.model import Segment, SourceState, TimeSpan
from tests.unit.journal.samples import (
    ALWAYS,
    GATE,
    LENGTH,
    NOW,
    START,
    YARD,
    deliver,
    fresh,
    new,
    record,
    span,
)


async def pages(journal: Journal, asked: TimeSpan = ALWAYS, limit: int = 3) -> list[Segment]:
    """Everything, page by page."""
    found: list[Segment] = []
    after = None
    while True:
        page = await journal.segments.page(GATE.id, asked, limit, after)
        assert len(page.segments) <= limit
        found += page.segments
        if page.next is None:
            return found
        after = page.next


async def when(
    journal: Journal,
    camera_id: UUID,
    asked: TimeSpan,
    *,
    tolerance: timedelta = timedelta(0),
    limit: int = 10,
) -> list[TimeSpan]:
    """When there is footage, look by look; a look begins with what the one before ended with."""
    found: list[TimeSpan] = []
    after = None
    while True:
        footage = await journal.segments.footage(camera_id, asked, tolerance, limit, after)
        for each in footage.spans:
            if found and each.start <= found[-1].end:
                found[-1] = TimeSpan(found[-1].start, max(found[-1].end, each.end))
            else:
                found.append(each)
        if footage.next is None:
            return found
        after = footage.next


@pytest.mark.parametrize("limit", [1, 2, 3, 9, 10, 11])
async def test_pages_together_are_the_whole_in_order_whatever_their_size(
    journal: Journal, limit: int
) -> None:
    for number in (5, 1, 9, 3, 0, 7, 2, 8, 4, 6):
        await record(journal, new(number))
        await record(journal, new(number, YARD))
    found = await pages(journal, limit=limit)
    assert [segment.span for segment in found] == [span(number) for number in range(10)]
    assert {segment.camera_id for segment in found} == {GATE.id}


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 7])
async def test_segments_with_the_same_start_are_neither_skipped_nor_doubled(
    journal: Journal, limit: int
) -> None:
    recorded = [await record(journal, replace(new(number), span=span(number // 4))) for number in range(12)]
    found = await pages(journal, limit=limit)
    assert [segment.id for segment in found] == [segment.id for segment in recorded]


async def test_what_comes_in_between_two_pages_changes_neither(journal: Journal) -> None:
    old = [await record(journal, new(number * 10)) for number in range(6)]
    first = await journal.segments.page(GATE.id, ALWAYS, 3)
    await record(journal, new(5))  # before the cursor
    await record(journal, replace(new(900), span=span(20)))  # at the cursor, with its start
    late = await record(journal, new(35))  # behind it
    rest = await journal.segments.page(GATE.id, ALWAYS, 10, first.next)

    assert [segment.id for segment in first.segments] == [segment.id for segment in old[:3]]
    found = [segment.id for segment in rest.segments]
    assert found[1:] == [old[3].id, late.id, old[4].id, old[5].id]
    assert not {segment.id for segment in old[:3]} & set(found)


async def test_a_page_goes_on_though_its_last_segment_was_deleted(journal: Journal) -> None:
    recorded = [await record(journal, replace(new(number), span=span(number // 2))) for number in range(6)]
    first = await journal.segments.page(GATE.id, ALWAYS, 3)
    await delete(journal, first.segments[-1].id)
    rest = await journal.segments.page(GATE.id, ALWAYS, 10, first.next)
    assert [segment.id for segment in rest.segments] == [segment.id for segment in recorded[3:]]


async def test_a_very_long_segment_is_found_by_a_span_deep_inside_it(journal: Journal) -> None:
    long = await record(journal, replace(new(0), span=span(0, timedelta(hours=30))))
    for number in range(1, 200):
        await record(journal, new(number))
    asked = TimeSpan(START + timedelta(hours=29), START + timedelta(hours=29, seconds=1))

    assert [segment.id for segment in await pages(journal, asked)] == [long.id]
    assert await when(journal, GATE.id, asked) == [long.span]


async def test_overlap_is_half_open_at_both_ends(journal: Journal) -> None:
    for number in range(5):
        await record(journal, new(number))
    exactly = TimeSpan(span(2).start, span(2).end)
    touching = TimeSpan(span(2).start - timedelta(microseconds=1), span(2).end + timedelta(microseconds=1))

    assert [segment.span for segment in await pages(journal, exactly)] == [span(2)]
    assert [segment.span for segment in await pages(journal, touching)] == [span(1), span(2), span(3)]
    assert await when(journal, GATE.id, exactly) == [span(2)]


async def test_segments_being_deleted_are_in_no_list(journal: Journal) -> None:
    undelivered, delivered, stays = [await record(journal, new(number)) for number in range(3)]
    await deliver(journal, delivered)
    for segment in (undelivered, delivered):
        await journal.deletions.begin(segment.id)

    assert [segment.id for segment in await pages(journal)] == [stays.id]
    assert await when(journal, GATE.id, ALWAYS) == [stays.span]


async def test_a_segment_without_bytes_is_in_no_list_and_one_with_a_copy_is(journal: Journal) -> None:
    gone, pruned, being_pruned = [await record(journal, new(number)) for number in range(3)]
    await journal.copies.source_gone(gone.id, SourceState.MISSING, "source_vanished", NOW)
    for segment in (pruned, being_pruned):
        await deliver(journal, segment)
        assert await journal.sources.begin_pruning(segment.id, ["S3"])
    await journal.sources.pruned(pruned, NOW)

    assert [segment.id for segment in await pages(journal)] == [pruned.id, being_pruned.id]


async def test_an_unknown_camera_has_an_empty_page(journal: Journal) -> None:
    page = await journal.segments.page(UUID(int=5), ALWAYS, 10)
    assert (page.segments, page.next) == ((), None)
    assert await when(journal, UUID(int=5), ALWAYS) == []


@pytest.mark.parametrize("limit", [4, 5, 100])  # more than begin at one time
async def test_footage_is_the_same_however_many_segments_are_looked_at_in_one_go(
    journal: Journal, limit: int
) -> None:
    for number in range(9):
        await record(
            journal, replace(new(number), span=span(3 * (number // 3), LENGTH + timedelta(seconds=number)))
        )
    found = await when(journal, GATE.id, ALWAYS, limit=limit)

    assert [each.start for each in found] == [span(0).start, span(3).start, span(6).start]
    assert [each.duration - LENGTH for each in found] == [timedelta(seconds=number) for number in (2, 5, 8)]


async def test_footage_is_joined_where_less_than_the_tolerance_is_missing(journal: Journal) -> None:
    for number in (0, 1, 3):
        await record(journal, new(number))
    gap = timedelta(LENGTH.total_seconds() / 86400)

    assert len(await when(journal, GATE.id, ALWAYS)) == 2
    assert await when(journal, GATE.id, ALWAYS, tolerance=gap) == [TimeSpan(span(0).start, span(3).end)]


async def test_the_list_of_cameras_counts_what_is_there(journal: Journal) -> None:
    await journal.cameras.ensure(YARD)
    for number in range(3):
        await record(journal, new(number))
    await delete(journal, (await record(journal, new(3))).id)
    gate, yard = await journal.cameras.all(NOW)

    assert (gate.camera, gate.segments, gate.bytes) == (GATE, 3, 3000)
    assert gate.footage == TimeSpan(span(0).start, span(2).end)
    assert gate.bit_rate == pytest.approx(800)
    assert (yard.camera, yard.segments, yard.footage, yard.bit_rate) == (YARD, 0, None, None)
    renamed = replace(YARD, name="back yard")
    await journal.cameras.ensure(renamed)
    found = await journal.cameras.by_id(YARD.id, NOW)
    assert found is not None and found.camera == renamed


AHEAD = TimeSpan(NOW + timedelta(days=3), NOW + timedelta(days=3, seconds=10))


async def heard(journal: Journal, now: datetime = NOW) -> datetime | None:
    found = await journal.cameras.by_id(GATE.id, now)
    assert found is not None
    return found.heard


async def test_footage_that_lies_in_the_future_is_heard_of_when_it_was_registered(journal: Journal) -> None:
    """Neither until its time comes nor instead of what is recorded today, nor when its time has come."""
    await record(journal, new(1, at=AHEAD))
    assert await heard(journal) == NOW
    assert await heard(journal, AHEAD.end) == NOW
    later = NOW + timedelta(days=1)
    today = TimeSpan(later - timedelta(seconds=10), later)
    await journal.segments.record(new(2, at=today), ["S3"], later)
    assert await heard(journal, later) == later
    on_that_day = TimeSpan(AHEAD.start - timedelta(seconds=12), AHEAD.start - timedelta(seconds=2))
    await journal.segments.record(new(3, at=on_that_day), ["S3"], AHEAD.start)
    assert await heard(journal, AHEAD.start) == on_that_day.end
    found = await journal.cameras.by_id(GATE.id, later)
    assert found is not None and found.footage is not None and found.footage.end == AHEAD.end


async def test_old_footage_that_is_found_now_is_no_news_of_its_recorder(journal: Journal) -> None:
    await record(journal, new(1))
    assert await heard(journal) == span(1).end < NOW


async def delete(journal: Journal, segment_id: UUID) -> None:
    segment = await journal.deletions.begin(segment_id)
    await journal.deletions.done(segment, "deleted_on_request", NOW)


async def test_a_segment_is_found_by_id_until_its_row_goes(journal: Journal) -> None:
    segment = await record(journal, new(1))
    await journal.deletions.begin(segment.id)
    assert (await fresh(journal, segment)).source_state is SourceState.PRUNING
    await journal.deletions.done(segment, "deleted_on_request", NOW)
    assert await journal.segments.by_id(segment.id) is None
