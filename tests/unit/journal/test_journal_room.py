"""What may go for room, as the journal sees it."""

from datetime import timedelta
from uuid import uuid4

from cctv_storaged.journal.exportrows import ExportRequest
from cctv_storaged.journal.journal import Journal
from cctv_storaged.model import Segment, SourceState, TimeSpan
from tests.unit.journal.samples import GATE, NOW, deliver, new, record

LATER = NOW + timedelta(days=400)


async def candidates(journal: Journal, segment: Segment) -> int:
    (camera,) = await journal.capacity.cameras()
    page = await journal.capacity.delivered(camera[0], "FILESYSTEM", LATER, None, 100)
    assert {each.id for each in page.candidates} <= {segment.id}
    return len(page.candidates)


async def test_a_gap_in_xprotect_keeps_nothing_from_going_for_room(
    journal: Journal,
) -> None:
    segment = await record(journal, new(0), "FILESYSTEM", "MILESTONE")
    await deliver(journal, segment, "FILESYSTEM")
    assert await candidates(journal, segment) == 0, "nobody has asked XProtect yet"
    await journal.vouched.gap("MILESTONE", [segment.id], "not held", "lost", LATER)
    await journal.copies.source_gone(segment.id, SourceState.MISSING, "source_vanished", LATER)
    assert await candidates(journal, segment) == 1


async def test_what_is_still_to_be_delivered_or_gave_up_does_not_go_for_room(journal: Journal) -> None:
    segment = await record(journal, new(0), "FILESYSTEM", "S3")
    await deliver(journal, segment, "FILESYSTEM")
    assert await candidates(journal, segment) == 0
    await journal.copies.failed(segment.id, "S3", "refused")
    assert await candidates(journal, segment) == 0
    await journal.copies.retry_failed("S3")
    await deliver(journal, segment, "S3")
    assert await candidates(journal, segment) == 1


async def test_what_an_export_waits_for_is_no_candidate_and_what_lies_behind_it_is(journal: Journal) -> None:
    segments = [await record(journal, new(number), "FILESYSTEM") for number in range(4)]
    for segment in segments:
        await deliver(journal, segment, "FILESYSTEM")
    wanted = TimeSpan(segments[0].span.start, segments[2].span.end)
    request = ExportRequest(camera_ids=(GATE.id,), span=wanted, format="mkv", reason="police")
    await journal.exports.add(uuid4(), request, 9, None, NOW)
    (camera,) = await journal.capacity.cameras()
    page = await journal.capacity.delivered(camera[0], "FILESYSTEM", LATER, None, 100)
    assert [each.id for each in page.candidates] == [segments[3].id]
