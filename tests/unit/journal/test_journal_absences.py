"""What the ledger says of missing footage, however many lines it takes to say it."""

from datetime import timedelta

import pytest

from cctv_storaged.clock import MICROSECOND, to_us
from cctv_storaged.coverage import coverage_of
from cctv_storaged.journal.gaps import RETENTION, USUAL, Absence, usual_of
from cctv_storaged.journal.journal import Journal
from cctv_storaged.model import GapCause, SourceState, TimeSpan
from tests.unit.journal.samples import ALWAYS, GATE, LENGTH, NOW, ROOT, START, deliver, new, record, span

SECOND = timedelta(seconds=1)


async def absences(journal: Journal, asked: TimeSpan = ALWAYS, *, limit: int = 100) -> list[Absence]:
    """All pages, one after the other."""
    page = await journal.gaps.absences(GATE.id, asked, SECOND, limit, None)
    parts = [*page.parts]
    while page.next is not None:
        page = await journal.gaps.absences(GATE.id, asked, SECOND, limit, page.next)
        parts += page.parts
    return parts


async def delete(journal: Journal, number: int) -> None:
    segment = await record(journal, new(number))
    await journal.deletions.begin(segment.id)
    await journal.deletions.done(segment, "deleted_on_request", NOW)


async def lose(journal: Journal, number: int) -> None:
    segment = await record(journal, new(number))
    await journal.copies.source_gone(segment.id, SourceState.MISSING, "source_vanished", NOW)


async def test_a_recorder_that_restarted_over_and_over_is_not_silent_while_it_writes_a_long_segment(
    journal: Journal,
) -> None:
    moment = START
    for number, length in enumerate([timedelta(minutes=10)] * 4 + [3 * SECOND] * 40):
        await record(journal, new(number, at=TimeSpan(moment, moment + length)))
        moment += length
    now = moment + timedelta(minutes=8)  # one is open since
    await journal.watched.extend(ROOT, TimeSpan(START, now))
    found = await coverage_of(journal, GATE.id, TimeSpan(START, now), now)
    assert [gap.cause for gap in found.gaps] == [GapCause.NOT_YET]


def test_a_usual_segment_is_as_long_as_those_with_most_of_the_footage() -> None:
    assert usual_of([10] * 100) == 10 * MICROSECOND
    assert usual_of([10] * 99 + [300]) == 10 * MICROSECOND
    assert usual_of([600, 600, *[3] * 198]) == 600 * MICROSECOND
    assert usual_of([]) == USUAL


async def test_a_loss_behind_a_year_of_deletions_is_told(journal: Journal) -> None:
    """Retention writes a line for each segment; the loss came after more of them than anybody lists."""
    deleted, lost = 25_000, 25_001
    await journal._store.write(
        lambda db: db.execute(
            """WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?1)
               INSERT INTO ledger (at_us, kind, segment_id, camera_id, start_us, end_us, cause)
               SELECT 0, 'deleted', randomblob(16), ?2, ?3 + i * ?4, ?3 + (i + 1) * ?4, ?5 FROM n""",
            (deleted, GATE.id.bytes, to_us(START), LENGTH // timedelta(microseconds=1), RETENTION),
        )
    )
    await lose(journal, lost)
    await journal._store.write(lambda db: db.execute("UPDATE camera SET first_us = ?", (to_us(START),)))
    found = await coverage_of(journal, GATE.id, TimeSpan(START, span(lost).end), NOW + timedelta(days=9))
    assert [(gap.span, gap.cause) for gap in found.gaps] == [
        (TimeSpan(START, span(deleted).start), "retention"),
        (span(deleted), "unknown"),
        (span(lost), "lost"),
    ]


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_absences_are_the_same_however_many_lines_are_looked_at_in_one_go(
    journal: Journal, limit: int
) -> None:
    for number in (1, 2, 5):
        await delete(journal, number)
    for number in (3, 7):
        await lose(journal, number)
    told = {(part.span.start, part.cause) for part in await absences(journal, limit=limit)}
    always = {(span(each), GapCause.DELETED) for each in (1, 5)}
    always |= {(span(each), GapCause.LOST) for each in (3, 7)}
    where_pages_meet = {(span(2), GapCause.DELETED)}
    assert {(part.start, cause) for part, cause in always} <= told
    assert told <= {(part.start, cause) for part, cause in always | where_pages_meet}


async def test_what_was_told_last_of_a_segment_counts(journal: Journal) -> None:
    """Lost, found again, then deleted on request: nobody needs to look for it any more."""
    await lose(journal, 1)
    again = await record(journal, new(1))
    assert await absences(journal) == [], "it is there again"
    await deliver(journal, again)
    await delete(journal, 1)
    assert await absences(journal) == [Absence(span=span(1), cause=GapCause.DELETED)]


async def test_a_long_absence_is_found_by_a_span_deep_inside_it(journal: Journal) -> None:
    long = new(0, at=span(0, timedelta(hours=5)))
    segment = await record(journal, long)
    await journal.copies.source_gone(segment.id, SourceState.MISSING, "source_vanished", NOW)
    assert await absences(journal, span(900)) == [Absence(span=long.span, cause=GapCause.LOST)]
    assert await absences(journal, span(5 * 360)) == []
