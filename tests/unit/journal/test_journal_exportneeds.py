"""Footage that an export waits for is not deleted before the export has ended."""

from uuid import UUID, uuid4

import pytest

from cctv_storaged.errors import Conflict
from cctv_storaged.journal.deletions import Cause
from cctv_storaged.journal.exportrows import ExportRequest
from cctv_storaged.journal.journal import Journal
from cctv_storaged.model import TimeSpan
from tests.unit.journal.samples import GATE, NOW, deliver, fresh, new, record, span


async def asked_for(journal: Journal, first: int, last: int) -> UUID:
    request = ExportRequest(
        camera_ids=(uuid4(), GATE.id),
        span=TimeSpan(span(first).start, span(last).end),
        format="mkv",
        reason="police",
    )
    made = await journal.exports.add(uuid4(), request, 9, None, NOW)
    assert made is not None
    return made.id


@pytest.mark.parametrize("begun", [False, True])
async def test_what_an_export_waits_for_goes_neither_by_age_nor_by_request(
    journal: Journal, begun: bool
) -> None:
    """Whether it waits for its turn, or for a store that is away; no process remembers anything of it."""
    segments = [await record(journal, new(number)) for number in range(4)]
    export_id = await asked_for(journal, 1, 2)
    if begun:
        await journal.exports.begin(export_id)
        await journal.exports.wait(export_id, "S3 is away", NOW, NOW)
    with pytest.raises(Conflict, match=str(export_id)):
        await journal.deletions.begin(segments[1].id)
    gone = await journal.deletions.begin_many([each.id for each in segments], Cause.AT_MOST)
    assert [each.id for each in gone] == [segments[0].id, segments[3].id]
    assert [each.id for each in await journal.deletions.unfinished(9, NOW)] == [each.id for each in gone]

    await journal.exports.fail(export_id, "given up", NOW)
    gone = await journal.deletions.begin_many([each.id for each in segments], Cause.AT_MOST)
    assert [each.id for each in gone] == [segments[1].id, segments[2].id]


async def test_a_source_goes_while_an_export_waits_for_its_verified_copy(journal: Journal) -> None:
    segment = await record(journal, new(0))
    await deliver(journal, segment)
    await asked_for(journal, 0, 0)
    assert await journal.sources.begin_pruning(segment.id, ["S3"])


async def test_a_damaged_row_of_an_export_keeps_nothing(journal: Journal) -> None:
    segment = await record(journal, new(0))
    await asked_for(journal, 0, 0)
    await journal._store.write(lambda db: db.execute("UPDATE export SET request = '{}'"))
    await journal.deletions.begin(segment.id)
    assert (await fresh(journal, segment)).copies[0].state == "deleting"
