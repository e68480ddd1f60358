"""Holds in the journal: they count from their commit on; what they mean for segments follows in slices."""

import asyncio
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from cctv_storaged.clock import to_us
from cctv_storaged.errors import Conflict, Held, NotFound
from cctv_storaged.holding.successors import follow_folders
from cctv_storaged.journal import exports, holdmarks
from cctv_storaged.journal.connection import PAGE_BYTES
from cctv_storaged.journal.deletions import Cause
from cctv_storaged.journal.exportrows import Export, ExportRequest, ExportResult
from cctv_storaged.journal.exports import Ending
from cctv_storaged.journal.holds import FOREVER, Hold, NewHold
from cctv_storaged.journal.idempotency import RepeatKey
from cctv_storaged.journal.journal import Journal
from cctv_storaged.journal.ledger import Kind
from cctv_storaged.journal.rows import Row
from cctv_storaged.model import Segment, SourceState, TimeSpan
from cctv_storaged.recorder.admission import CameraBook
from tests.unit.journal.samples import (
    GATE,
    HOST,
    NOW,
    YARD,
    deliver,
    fresh,
    new,
    open_journal,
    proof,
    record,
    span,
)

DAY = timedelta(days=1)
KEY = RepeatKey(route="POST /holds", key="k", request=b"r" * 32)


def wanted(
    first: float = 0,
    last: float | None = 3,
    *cameras: UUID,
    case_id: str | None = None,
    expires_at: datetime | None = None,
) -> NewHold:
    """A hold on the segments from the `first` to the `last`; None: without an end."""
    return NewHold(
        id=uuid4(),
        camera_ids=cameras or (GATE.id,),
        start=span(first).start,
        end=None if last is None else span(last).end,
        reason="burglary",
        case_id=case_id,
        created_by="officer",
        expires_at=expires_at,
        review_at=NOW + 90 * DAY,
    )


async def held(journal: Journal, asked: NewHold) -> Hold:
    for camera in (GATE, YARD):
        await journal.cameras.ensure(camera)
    return await journal.holds.add(asked, None, NOW)


async def settled(journal: Journal) -> None:
    walk = await journal.hold_marks.settle(None)
    while walk is not None:
        walk = await journal.hold_marks.settle(walk)


async def recorded(journal: Journal, count: int) -> list[Segment]:
    return [await record(journal, new(number)) for number in range(count)]


async def marks(journal: Journal, segments: list[Segment]) -> list[bool]:
    return [(await fresh(journal, segment)).held for segment in segments]


async def rows(journal: Journal, query: str, *parameters: object) -> list[Row]:
    return await journal._store.read(lambda db: db.execute(query, parameters).fetchall())


async def told(journal: Journal, kind: Kind) -> list[Row]:
    query = "SELECT segment_id, camera_id, start_us, end_us, cause, detail FROM ledger WHERE kind = ?"
    return await rows(journal, query, str(kind))


# What a damaged journal forgot


async def damaged(folder: Path, *tables: str) -> None:
    """Destroys the first pages of some tables and indexes of a closed journal."""
    with closing(sqlite3.connect(folder / "journal.db")) as db:
        pages = [db.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,)) for name in tables]
        firsts = [page.fetchone()[0] for page in pages]
    with (folder / "journal.db").open("r+b") as file:
        for first in firsts:
            file.seek((first - 1) * PAGE_BYTES)
            file.write(b"\xff" * PAGE_BYTES)


@pytest.mark.parametrize("tables", [("hold_camera",), ("hold_camera", "hold_camera_by_hold")])
async def test_a_hold_holds_the_same_cameras_after_its_journal_was_damaged(
    tmp_path: Path, tables: tuple[str, ...]
) -> None:
    async with await open_journal(tmp_path) as journal:
        await recorded(journal, 3)
        for cameras in ([YARD.id], [GATE.id], [GATE.id], [GATE.id, YARD.id]):
            await held(journal, wanted(0, None, *cameras))
        before = await journal.held_back.all()
    await damaged(tmp_path, *tables)
    async with await open_journal(tmp_path) as journal:
        assert journal.opening.damage is not None
        if len(tables) > 1:  # the snapshot in the store knows
            assert await journal.held_back.recover(before, NOW) > 0
            assert await journal.held_back.recover(before, NOW) == 0
        now = {hold.id: set(hold.cameras) for hold in await journal.held_back.all()}
        lacking = [hold.id for hold in before if not set(hold.cameras) <= now[hold.id]]
        assert lacking == []
        if len(tables) == 1:
            assert now == {hold.id: set(hold.cameras) for hold in before}, "and no others"


async def test_a_journal_put_back_from_long_ago_ends_no_hold_earlier_than_was_promised(
    journal: Journal,
) -> None:
    hold = await held(journal, wanted(expires_at=NOW + DAY))
    [known] = await journal.held_back.all()
    for expires_us in (to_us(NOW + 9 * DAY), None, to_us(NOW + 2 * DAY)):
        await journal.held_back.recover([replace(known, expires_us=expires_us)], NOW)
    assert await journal.holds.expire(NOW + 99 * DAY, 9) == []
    await journal.holds.release(hold.id, "done", None, NOW)
    assert await journal.held_back.recover([known], NOW) == 0


# From its commit on


async def test_a_hold_counts_before_any_segment_is_marked(journal: Journal) -> None:
    segments = await recorded(journal, 5)
    await deliver(journal, segments[3])
    hold = await held(journal, wanted(0, 3))
    assert not any(await marks(journal, segments))
    with pytest.raises(Held, match=str(hold.id)) as caught:
        await journal.deletions.begin(segments[3].id)
    assert caught.value.hold_ids == (hold.id,)
    assert await journal.deletions.begin_many([each.id for each in segments[:4]], Cause.AT_MOST) == []
    assert not await journal.sources.begin_pruning(segments[3].id, ["S3"])
    assert (await fresh(journal, segments[3])).source_state is SourceState.PRESENT
    assert (await journal.deletions.begin(segments[4].id)).id == segments[4].id


async def test_a_hold_that_is_committed_between_the_question_and_the_tombstone_is_in_time(
    journal: Journal,
) -> None:
    """In one commit with the tombstone, whichever order they come in: the later one sees the earlier."""
    segments = await recorded(journal, 2)
    candidates = [segment for segment in segments if not segment.held]  # as retention has read them
    hold, begun = await asyncio.gather(
        held(journal, wanted(0, 0)), journal.deletions.begin_many([candidates[1].id], Cause.AT_MOST)
    )
    assert [each.id for each in begun] == [segments[1].id]
    with pytest.raises(Held):
        await journal.deletions.begin(candidates[0].id)
    assert hold.in_force


async def test_what_the_schema_refuses_reaches_its_caller_alone_and_harms_nobody(journal: Journal) -> None:
    segments = await recorded(journal, 1)
    await held(journal, wanted(0, 0))
    change = "UPDATE segment SET source_state = 'pruning' WHERE id = ?"
    refused, beside = await asyncio.gather(
        journal._store.write(lambda db: db.execute(change, (segments[0].id.bytes,))),
        record(journal, new(7)),
        return_exceptions=True,
    )
    assert isinstance(refused, Held) and isinstance(refused, Conflict)
    assert isinstance(beside, Segment)
    await journal.alive()


async def test_footage_still_to_come_is_held_as_it_comes_and_goes_first(journal: Journal) -> None:
    await held(journal, wanted(5, None))
    await settled(journal)
    before, after, elsewhere = (
        await record(journal, new(4)),
        await record(journal, new(5)),
        await record(journal, new(6, YARD)),
    )
    assert [each.held for each in (before, after, elsewhere)] == [False, True, False]
    found = await rows(journal, "SELECT urgent, locked FROM copy ORDER BY segment_no")
    assert found == [(0, None), (1, 0), (0, None)]


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [(1, 1, [0, 1, 0]), (0, 2, [1, 1, 1]), (3, 9, [0, 0, 0]), (0.5, 0, [1, 0, 0]), (1.9, 1.1, [0, 1, 1])],
)
async def test_whatever_overlaps_the_span_is_held_and_nothing_else(
    journal: Journal, first: float, last: float, expected: list[int]
) -> None:
    segments = await recorded(journal, 3)
    await held(journal, wanted(first, last))
    await settled(journal)
    assert await marks(journal, segments) == [bool(each) for each in expected]


# Marking


async def test_marked_footage_is_delivered_before_all_other(journal: Journal) -> None:
    segments = await recorded(journal, 3)
    await journal.copies.postpone(segments[1].id, "S3", "503", NOW + timedelta(minutes=5))
    await held(journal, wanted(1, 1))
    await settled(journal)
    found = await rows(journal, "SELECT urgent, due_us, locked FROM copy ORDER BY segment_no")
    assert found == [(0, 0, None), (1, 0, 0), (0, 0, None)]


@pytest.mark.parametrize("slices", range(5))
async def test_a_process_that_dies_while_marking_or_releasing_leaves_no_wrong_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slices: int
) -> None:
    """The journal as a kill leaves it: file and log as they are between two commits."""
    monkeypatch.setattr(holdmarks, "SLICE", 3)
    async with await open_journal(tmp_path / "data") as journal:
        segments = await recorded(journal, 10)
        hold = await held(journal, wanted(1, 8))
        kept = await held(journal, wanted(4, 5))
        walk = None
        for _ in range(slices):
            walk = await journal.hold_marks.settle(walk)
        shutil.copytree(tmp_path / "data", tmp_path / "killed")
    async with await open_journal(tmp_path / "killed") as journal:
        await settled(journal)
        assert await marks(journal, segments) == [1 <= number <= 8 for number in range(10)]
        await journal.holds.release(hold.id, "done", "officer", NOW)
        walk = None
        for _ in range(slices):
            walk = await journal.hold_marks.settle(walk)
        shutil.copytree(tmp_path / "killed", tmp_path / "killed again")
    async with await open_journal(tmp_path / "killed again") as journal:
        await settled(journal)
        assert await marks(journal, segments) == [4 <= number <= 5 for number in range(10)]
        assert all(each.marked for each in (await journal.holds.page(10, None, None, None)).holds)
        assert (await journal.holds.page(10, None, None, True)).holds[0].id == kept.id


async def test_a_hold_released_while_it_is_being_marked_leaves_nothing_held(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holdmarks, "SLICE", 2)
    segments = await recorded(journal, 6)
    hold = await held(journal, wanted(0, 5))
    walk = await journal.hold_marks.settle(None)
    assert (await marks(journal, segments)).count(True) == 2
    await journal.holds.release(hold.id, "a mistake", None, NOW)
    while walk is not None:
        walk = await journal.hold_marks.settle(walk)
    assert not any(await marks(journal, segments))


async def test_of_two_holds_the_other_one_keeps_on(journal: Journal) -> None:
    segments = await recorded(journal, 4)
    one, two = await held(journal, wanted(0, 2)), await held(journal, wanted(2, 3))
    await settled(journal)
    await journal.holds.release(one.id, "done", None, NOW)
    with pytest.raises(Held, match="was just released"):
        await journal.deletions.begin(segments[0].id)
    await settled(journal)
    assert await marks(journal, segments) == [False, False, True, True]
    with pytest.raises(Held) as caught:
        await journal.deletions.begin(segments[2].id)
    assert caught.value.hold_ids == (two.id,)
    await journal.deletions.begin(segments[0].id)


async def test_what_a_hold_holds_is_counted_in_parts(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holdmarks, "COUNTED", 2)
    segments = await recorded(journal, 5)
    await record(journal, new(1, YARD))
    await journal.deletions.begin(segments[0].id)  # on its way out before anybody held it
    await deliver(journal, segments[1])
    hold = await held(journal, wanted(0, 3, GATE.id, YARD.id))
    await settled(journal)
    [task] = await journal.hold_marks.to_lock("S3", 0, 10)
    await journal.hold_marks.locked("S3", task)
    parts = [await journal.hold_marks.contents(hold.no, None)]
    while parts[-1].next is not None:
        parts.append(await journal.hold_marks.contents(hold.no, parts[-1].next))
    assert len(parts) > 3
    assert (sum(part.segments for part in parts), sum(part.bytes for part in parts)) == (4, 4000)
    assert sum(part.locked.get("S3", 0) for part in parts) == 1
    assert sum(part.unlocked.get("S3", 0) for part in parts) == 3


# Legal holds at the store


async def test_a_copy_that_is_put_again_needs_its_legal_hold_anew(journal: Journal) -> None:
    [segment] = await recorded(journal, 1)
    await deliver(journal, segment)
    await held(journal, wanted(0, 0))
    await settled(journal)
    [task] = await journal.hold_marks.to_lock("S3", 0, 10)
    await journal.hold_marks.locked("S3", task)
    assert await journal.hold_marks.to_lock("S3", 0, 10) == []
    await journal.copies.redeliver(segment.id, "S3", "the store lost it")
    assert await journal.hold_marks.to_lock("S3", 0, 10) == []  # not there yet
    await deliver(journal, segment)
    assert await journal.hold_marks.to_lock("S3", 0, 10) == [task]
    await journal.hold_marks.locked("S3", task)
    before = proof(segment)
    later = NOW + timedelta(minutes=1)
    assert await journal.scrubbed.repaired(segment.id, "S3", before.path, before, later, "a new version")
    assert await journal.hold_marks.to_lock("S3", 0, 10) == [task]


async def test_a_hold_released_while_the_store_is_asked_is_taken_off_again(journal: Journal) -> None:
    [segment] = await recorded(journal, 1)
    await deliver(journal, segment)
    hold = await held(journal, wanted(0, 0))
    await settled(journal)
    [task] = await journal.hold_marks.to_lock("S3", 0, 10)
    await journal.holds.release(hold.id, "done", None, NOW)
    await settled(journal)
    await journal.hold_marks.locked("S3", task)  # the store said yes, after the release
    assert await journal.hold_marks.to_unlock("S3", 0, 10) == [task]
    again = await held(journal, wanted(0, 0))
    await settled(journal)
    await journal.hold_marks.unlocked("S3", [task.segment_no])  # taken off, after the new hold
    assert await journal.hold_marks.to_lock("S3", 0, 10) == [task]
    assert again.in_force


async def test_an_object_that_a_held_twin_needs_keeps_its_legal_hold(journal: Journal) -> None:
    """Two files with the same bytes at the same time are one object under one key."""
    one = await record(journal, new(1))
    other = await record(journal, new(1, path="gate/2026-01-23/twin.ts"))
    for segment in (one, other):
        assert await journal.copies.verified(segment.id, "S3", proof(one), NOW)
    hold = await held(journal, wanted(1, 1))
    await settled(journal)
    for task in await journal.hold_marks.to_lock("S3", 0, 10):
        await journal.hold_marks.locked("S3", task)
    await journal.holds.release(hold.id, "done", None, NOW)
    await journal._store.write(lambda db: holdmarks._free(db, [1]))  # one of both is marked so far
    assert [task.needed for task in await journal.hold_marks.to_unlock("S3", 0, 10)] == [True]
    await settled(journal)
    assert [task.needed for task in await journal.hold_marks.to_unlock("S3", 0, 10)] == [False, False]


# The life of a hold


async def test_the_ledger_tells_of_each_camera_when_it_is_held_and_released(journal: Journal) -> None:
    hold = await held(journal, wanted(0, None, GATE.id, YARD.id, case_id="2026/7"))
    await journal.holds.release(hold.id, "closed", "judge", NOW)
    lines = [
        (hold.id.bytes, camera.bytes, to_us(hold.start), to_us(FOREVER), "2026/7")
        for camera in sorted((GATE.id, YARD.id))
    ]
    assert [row[:5] for row in await told(journal, Kind.HELD)] == lines
    assert [row[:5] for row in await told(journal, Kind.RELEASED)] == lines
    assert [row[5] for row in await told(journal, Kind.HELD)] == ["by officer: burglary"] * 2
    assert [row[5] for row in await told(journal, Kind.RELEASED)] == ["by judge: closed"] * 2


async def test_a_released_hold_stays_on_record_and_cannot_be_released_twice(journal: Journal) -> None:
    hold = await held(journal, wanted())
    released = await journal.holds.release(hold.id, "closed", "judge", NOW)
    assert (released.in_force, released.released_by, released.release_reason) == (False, "judge", "closed")
    assert await journal.holds.by_id(hold.id) == released
    with pytest.raises(Conflict, match="by judge"):
        await journal.holds.release(hold.id, "again", None, NOW)
    with pytest.raises(NotFound):
        await journal.holds.release(uuid4(), "who?", None, NOW)
    assert await journal.holds.count() == 0


async def test_the_same_request_makes_one_hold(journal: Journal) -> None:
    await journal.cameras.ensure(GATE)
    first = await journal.holds.add(wanted(), KEY, NOW)
    assert await journal.holds.add(wanted(), KEY, NOW) == first
    with pytest.raises(Conflict, match="another body"):
        await journal.holds.add(wanted(), replace(KEY, request=b"x" * 32), NOW)
    assert await journal.holds.count() == 1


async def test_a_camera_nobody_knows_is_not_held(journal: Journal) -> None:
    with pytest.raises(NotFound):
        await journal.holds.add(wanted(0, 1, UUID(int=9)), None, NOW)
    assert await journal.holds.count() == 0


async def test_holds_end_by_themselves_when_their_day_has_come(journal: Journal) -> None:
    past = await held(journal, wanted(expires_at=NOW + DAY))
    stays = await held(journal, wanted(expires_at=NOW + 3 * DAY))
    assert await journal.holds.expire(NOW, 10) == []
    assert [each.id for each in await journal.holds.expire(NOW + 2 * DAY, 10)] == [past.id]
    assert [each.id for each in (await journal.holds.page(9, None, None, True)).holds] == [stays.id]
    found = await journal.holds.by_id(past.id)
    assert found is not None and found.released_by == "expiry"


async def test_a_hold_is_put_off_and_never_shortened(journal: Journal) -> None:
    hold = await held(journal, wanted(expires_at=NOW + DAY))
    later = await journal.holds.change(hold.id, NOW + 9 * DAY, NOW + 2 * DAY, never=False)
    assert (later.review_at, later.expires_at) == (NOW + 9 * DAY, NOW + 2 * DAY)
    with pytest.raises(Conflict, match="earlier"):
        await journal.holds.change(hold.id, None, NOW + DAY, never=False)
    assert (await journal.holds.change(hold.id, None, None, never=True)).expires_at is None
    with pytest.raises(Conflict, match="earlier"):
        await journal.holds.change(hold.id, None, NOW + 9 * DAY, never=False)
    assert await journal.holds.due_for_review(NOW + 8 * DAY, 9) == []
    assert [each.id for each in await journal.holds.due_for_review(NOW + 9 * DAY, 9)] == [hold.id]


async def test_holds_are_listed_newest_first_by_camera_and_by_being_in_force(journal: Journal) -> None:
    made = [await held(journal, wanted(0, 1, camera.id)) for camera in (GATE, YARD, GATE)]
    await journal.holds.release(made[0].id, "done", None, NOW)
    page = await journal.holds.page(2, None, None, None)
    assert [each.id for each in page.holds] == [made[2].id, made[1].id]
    rest = await journal.holds.page(2, page.next, None, None)
    assert [each.id for each in rest.holds] == [made[0].id] and rest.next is None
    of_gate = await journal.holds.page(9, None, GATE.id, None)
    assert [each.id for each in of_gate.holds] == [made[2].id, made[0].id]
    assert [each.id for each in (await journal.holds.page(9, None, GATE.id, False)).holds] == [made[0].id]
    assert (await journal.holds.page(9, None, UUID(int=9), None)).holds == ()


# Exports


RESULT = ExportResult(
    path="p",
    manifest_path="m",
    file_name="n",
    media_type="video/mp4",
    size_bytes=1,
    sha256="00" * 32,
    segments=1,
    files=(),
    files_total=0,
    gaps=(),
    gaps_total=0,
)


async def completed(
    journal: Journal, number: int, case_id: str | None = None, camera: UUID = GATE.id
) -> Export:
    request = ExportRequest(
        camera_ids=(camera,),
        span=TimeSpan(span(number).start, span(number).end),
        format="mp4",
        reason="asked for",
        case_id=case_id,
    )
    made = await journal.exports.add(uuid4(), request, 100, None, NOW)
    assert made is not None and await journal.exports.begin(made.id) is not None
    assert await journal.exports.complete(made.id, RESULT, NOW, NOW + DAY)
    found = await journal.exports.by_id(made.id)
    assert found is not None
    return found


async def test_an_export_that_shows_held_footage_or_belongs_to_a_held_case_does_not_expire(
    journal: Journal,
) -> None:
    shows, of_case, other = (
        await completed(journal, 1),
        await completed(journal, 9, "2026/7"),
        await completed(journal, 9, "2026/8"),
    )
    hold = await held(journal, wanted(1, 1, case_id="2026/7"))
    late = NOW + DAY - exports.PUT_OFF_AHEAD / 2
    assert await journal.exports.expire(late) == []  # not yet
    for day in (late, late + DAY, late + 2 * DAY):
        gone = await journal.exports.expire(day + exports.PUT_OFF_AHEAD / 4)
        assert [each.id for each in gone] == ([] if day == late else [other.id] if day == late + DAY else [])
        for export in (shows, of_case):
            found = await journal.exports.by_id(export.id)
            assert found is not None and not found.expired(day + exports.PUT_OFF_AHEAD)
            with pytest.raises(Held, match=str(hold.id)):
                await journal.exports.delete(export.id, NOW)
    await journal.holds.release(hold.id, "done", None, NOW)
    assert {each.id for each in await journal.exports.expire(NOW + 9 * DAY)} == {shows.id, of_case.id}


async def test_an_export_under_way_can_be_cancelled_though_its_footage_is_held(journal: Journal) -> None:
    await held(journal, wanted(1, 1))
    request = ExportRequest(camera_ids=(GATE.id,), span=span(1), format="mp4", reason="asked for")
    made = await journal.exports.add(uuid4(), request, 100, None, NOW)
    assert made is not None
    assert (await journal.exports.delete(made.id, NOW))[1] is Ending.CANCEL


async def test_a_hold_goes_on_when_its_folder_is_another_camera(journal: Journal) -> None:
    """Its block in the settings got an id, or was taken out."""
    hold, over = await held(journal, wanted(0, None)), await held(journal, wanted(0, None))
    await journal.holds.release(over.id, "done", None, NOW)
    [before] = await recorded(journal, 1)
    renamed = replace(GATE, id=uuid4())
    segment = await record(journal, new(5, renamed))
    assert (await fresh(journal, segment)).held and (await fresh(journal, before)).held
    with pytest.raises(Held):
        await journal.deletions.begin(segment.id, Cause.REQUEST)
    now = await journal.holds.by_id(hold.id)
    assert now is not None and set(now.camera_ids) == {GATE.id, renamed.id}
    after = await journal.holds.by_id(over.id)
    assert after is not None and after.camera_ids == (GATE.id,)
    lines = [line for line in await told(journal, Kind.HELD) if line[1] == renamed.id.bytes]
    assert [line[0] for line in lines] == [hold.id.bytes] and "another camera" in str(lines[0][5])


async def test_cameras_whose_ids_are_in_their_paths_share_a_folder_and_no_hold(journal: Journal) -> None:
    await held(journal, wanted(0, None))
    neighbour = replace(GATE, id=uuid4())
    segment = await record(journal, replace(new(5, neighbour), named_by_id=True))
    assert not (await fresh(journal, segment)).held


async def test_a_hold_goes_on_when_its_folder_is_the_camera_again_that_it_was(journal: Journal) -> None:
    """Made while the settings gave the folder an id, which they do not any more."""
    derived = CameraBook(HOST, ()).named("gate")
    listed = replace(derived, id=uuid4())
    for camera in (derived, listed):
        await follow_folders(journal.cameras, CameraBook(HOST, (listed,)))
        await record(journal, new(1 if camera is listed else 0, camera))
    await journal.holds.add(wanted(0, None, listed.id), None, NOW)
    await follow_folders(journal.cameras, CameraBook(HOST, (listed,)))
    assert not (await fresh(journal, await record(journal, new(2, derived)))).held
    await follow_folders(journal.cameras, CameraBook(HOST, ()))
    assert (await fresh(journal, await record(journal, new(3, derived)))).held


async def test_what_the_other_camera_of_a_held_folder_has_already_is_held_too(journal: Journal) -> None:
    """The settings move a camera that has footage to the folder."""
    segment = await record(journal, new(1, YARD))
    hold = await held(journal, wanted(0, 3))
    await settled(journal)
    assert not (await fresh(journal, segment)).held
    await journal.cameras.ensure(replace(YARD, folder=GATE.folder))
    await settled(journal)
    assert (await fresh(journal, segment)).held
    await journal.holds.release(hold.id, "done", None, NOW)
    await settled(journal)
    assert not (await fresh(journal, segment)).held
