"""Pruning and deleting: nothing goes without its tombstone, and no tombstone without its proof."""

from datetime import timedelta
from pathlib import Path

import pytest

from cctv_storaged.errors import Conflict, NotFound
from cctv_storaged.journal.journal import Journal
from cctv_storaged.journal.ledger import Kind
from cctv_storaged.model import CopyState, Segment, SourceState, TimeSpan, camera_id_for
from tests.unit.journal.samples import (
    ALWAYS,
    GATE,
    NOW,
    YARD,
    deliver,
    fresh,
    new,
    open_journal,
    proof,
    record,
    rewritten,
    span,
)


async def hold(journal: Journal, segment: Segment) -> None:
    """What a hold does to the row; the room that places holds is not built yet."""
    await journal._store.write(
        lambda db: db.execute("UPDATE segment SET held = 1 WHERE id = ?", (segment.id.bytes,))
    )


# Pruning


async def test_a_source_is_given_up_only_when_every_required_copy_is_verified(journal: Journal) -> None:
    segment = await record(journal, new(1), "S3", "FILESYSTEM")
    assert not await journal.sources.begin_pruning(segment.id, ["S3"])
    await deliver(journal, segment, "S3")
    assert not await journal.sources.begin_pruning(segment.id, ["S3", "FILESYSTEM"])
    await journal.copies.stored(segment.id, "FILESYSTEM", proof(segment), NOW)
    assert not await journal.sources.begin_pruning(segment.id, ["S3", "FILESYSTEM"])
    await deliver(journal, segment, "FILESYSTEM")
    assert not await journal.sources.begin_pruning(segment.id, ["S3", "FILESYSTEM", "MILESTONE"])
    assert await journal.sources.begin_pruning(segment.id, ["S3", "FILESYSTEM", "S3"])
    assert not await journal.sources.begin_pruning(segment.id, ["S3", "FILESYSTEM"])


async def test_nothing_required_is_no_leave_to_prune(journal: Journal) -> None:
    segment = await record(journal, new(1))
    await deliver(journal, segment)
    assert not await journal.sources.begin_pruning(segment.id, [])


async def test_a_held_segment_keeps_its_source_and_is_not_deleted(journal: Journal) -> None:
    segment = await record(journal, new(1))
    await deliver(journal, segment)
    await hold(journal, segment)
    assert not await journal.sources.begin_pruning(segment.id, ["S3"])
    with pytest.raises(Conflict, match="held"):
        await journal.deletions.begin(segment.id)
    assert (await fresh(journal, segment)).source_state is SourceState.PRESENT


async def test_a_tombstone_survives_a_restart_and_is_decided_about(journal: Journal) -> None:
    gone, stays = [await record(journal, new(number)) for number in (1, 2)]
    for segment in (gone, stays):
        await deliver(journal, segment)
        assert await journal.sources.begin_pruning(segment.id, ["S3"])
    assert {segment.id for segment in await journal.sources.unfinished()} == {gone.id, stays.id}

    await journal.sources.pruned(gone, NOW)
    await journal.sources.keep(stays.id)
    assert await journal.sources.unfinished() == []
    assert (await fresh(journal, gone)).source_state is SourceState.PRUNED
    assert (await fresh(journal, stays)).source_state is SourceState.PRESENT
    await journal.sources.pruned(stays, NOW)  # without a tombstone nothing happens
    assert (await fresh(journal, stays)).source_state is SourceState.PRESENT


async def test_a_copy_that_is_lost_behind_the_tombstone_of_pruning_is_told_or_put_again(
    journal: Journal,
) -> None:
    """Its store loses it while the unlink hangs, or its disk is away: nobody can say yet whether there is a
    source."""
    gone, stays = [await record(journal, new(number)) for number in (1, 2)]
    for segment in (gone, stays):
        await deliver(journal, segment)
        assert await journal.sources.begin_pruning(segment.id, ["S3"])
        assert await journal.copies.redeliver(segment.id, "S3", "scrub: no object") is None

    lost = await journal.sources.pruned(gone, NOW)
    assert lost is not None and lost.id == gone.id
    assert await journal.ledger.losses() == {"copy_failed_without_source": 1}
    await journal.sources.keep(stays.id)
    kept = await fresh(journal, stays)
    assert (kept.source_state, kept.copies[0].state) == (SourceState.PRESENT, CopyState.PENDING)


async def test_a_file_rewritten_under_the_tombstone_is_neither_kept_nor_pruned_as_the_old_one(
    journal: Journal,
) -> None:
    segment = await record(journal, new(1))
    await deliver(journal, segment)
    assert await journal.sources.begin_pruning(segment.id, ["S3"])
    await record(journal, rewritten(new(1), size_bytes=2000))
    await journal.sources.keep(segment.id)
    assert (await fresh(journal, segment)).source_state is SourceState.REPLACED


async def test_settled_segments_come_longest_ago_first_and_none_between_two_batches(
    journal: Journal,
) -> None:
    """Many copies may be verified within one microsecond as the journal sees it."""
    recorded = [await record(journal, new(number)) for number in range(12)]
    for number, segment in enumerate(recorded):
        await deliver(journal, segment, at=NOW + timedelta(seconds=number // 5))
    found: list[Segment] = []
    after = None
    while batch := await journal.sources.settled_before(NOW + timedelta(hours=1), 2, after):
        found += batch
        assert len(batch) == (5 if len(found) <= 10 else 2)
        after = max(copy.verified_at for copy in batch[-1].copies if copy.verified_at is not None)
    assert [segment.id for segment in found] == [segment.id for segment in recorded]


async def test_settled_is_when_the_last_copy_was_verified(journal: Journal) -> None:
    segment = await record(journal, new(1), "S3", "FILESYSTEM")
    await deliver(journal, segment, "S3", at=NOW)
    assert await journal.sources.settled_before(NOW + timedelta(days=1), 10, None) == []
    await deliver(journal, segment, "FILESYSTEM", at=NOW + timedelta(hours=1))
    assert await journal.sources.settled_before(NOW + timedelta(minutes=59), 10, None) == []
    (found,) = await journal.sources.settled_before(NOW + timedelta(hours=1), 10, None)
    assert found.id == segment.id


async def test_the_newest_segments_of_a_camera_are_its_last_by_start(journal: Journal) -> None:
    recorded = [await record(journal, new(number)) for number in (4, 2, 3, 1)]
    await record(journal, new(9, YARD))
    assert await journal.sources.newest(GATE.id, 2) == {recorded[0].id, recorded[2].id}
    assert await journal.sources.newest(GATE.id, 0) == frozenset()
    assert await journal.sources.newest(camera_id_for("h", "nobody"), 5) == frozenset()


# Deleting


async def test_a_deletion_goes_through_tombstone_bytes_row(journal: Journal) -> None:
    await journal.outbox.address("a catalog")
    segment = await record(journal, new(1), "S3", "FILESYSTEM")
    await deliver(journal, segment, "S3")
    returned = await journal.deletions.begin(segment.id)

    assert {copy.path for copy in returned.copies} == {proof(segment).path, None}
    marked = await fresh(journal, segment)
    assert {copy.state for copy in marked.copies} == {CopyState.DELETING}
    assert marked.source_state is SourceState.PRUNING
    await journal.deletions.done(returned, "deleted_on_request", NOW)
    assert await journal.segments.by_id(segment.id) is None
    (entry,) = await journal.ledger.of_camera(GATE.id, ALWAYS)
    assert (entry.kind, entry.segment_id, entry.cause) == (Kind.DELETED, segment.id, "deleted_on_request")
    assert (await journal.outbox.news(10)).forgotten == (segment.id,)


@pytest.mark.parametrize("backends", [("S3", "FILESYSTEM"), ()], ids=["with_copies", "without_copies"])
async def test_a_tombstone_outlives_the_process_until_it_is_done(
    journal: Journal, backends: tuple[str, ...]
) -> None:
    segment = (await journal.segments.record(new(1), backends, NOW)).segment
    missing = (await journal.segments.record(new(2), backends, NOW)).segment
    await journal.copies.source_gone(missing.id, SourceState.MISSING, "source_vanished", NOW)
    for victim in (segment, missing):
        await journal.deletions.begin(victim.id)

    assert {found.id for found in await journal.deletions.unfinished(10, NOW)} == {segment.id, missing.id}
    assert await journal.sources.unfinished() == []  # a deletion is not mistaken for pruning
    await journal.deletions.postpone(segment.id, "503", NOW + timedelta(minutes=1))
    assert [found.id for found in await journal.deletions.unfinished(10, NOW)] == [missing.id]
    again = await journal.deletions.unfinished(10, NOW + timedelta(minutes=1))
    assert {found.id for found in again} == {segment.id, missing.id}
    assert len(await journal.deletions.unfinished(1, NOW + timedelta(minutes=1))) == 1


async def test_a_clock_that_was_set_back_leaves_no_deletion_waiting_for_years(journal: Journal) -> None:
    segment = await record(journal, new(1))
    await journal.deletions.begin(segment.id)
    await journal.deletions.postpone(segment.id, "503", NOW + timedelta(days=4 * 365))
    assert [found.id for found in await journal.deletions.unfinished(10, NOW)] == [segment.id]


async def test_no_row_goes_without_a_tombstone(journal: Journal) -> None:
    segment = await record(journal, new(1))
    await journal.deletions.done(segment, "deleted_on_request", NOW)
    assert await fresh(journal, segment) == segment
    assert await journal.ledger.of_camera(GATE.id, ALWAYS) == []


async def test_a_segment_on_its_way_out_is_left_alone_by_everybody_else(journal: Journal) -> None:
    segment = await record(journal, new(1))
    await journal.deletions.begin(segment.id)
    marked = await fresh(journal, segment)
    await record(journal, new(1))
    await journal.copies.source_gone(segment.id, SourceState.MISSING, "source_vanished", NOW)
    await journal.sources.keep(segment.id)
    await journal.copies.retry_failed(None)
    await journal.requirement.require(["MINIO"])
    await journal.copies.urge(GATE.id, ALWAYS, None)
    assert await fresh(journal, segment) == marked
    assert await journal.ledger.losses() == {}


async def test_deleting_what_is_not_there_says_so(journal: Journal) -> None:
    segment = await record(journal, new(1))
    await journal.deletions.begin(segment.id)
    await journal.deletions.done(segment, "deleted_on_request", NOW)
    with pytest.raises(NotFound):
        await journal.deletions.begin(segment.id)


async def test_an_object_that_a_twin_stands_on_is_shared(journal: Journal) -> None:
    one, two = [await record(journal, new(number)) for number in (1, 2)]
    for segment in (one, two):
        await journal.copies.verified(segment.id, "S3", proof(segment, content=5), NOW)
    path = proof(one, content=5).path
    assert await journal.deletions.shared(one.id, "S3", path)
    assert not await journal.deletions.shared(one.id, "MINIO", path)
    await journal.deletions.begin(two.id)
    assert not await journal.deletions.shared(one.id, "S3", path)


async def test_the_ledger_is_asked_by_camera_and_overlap(journal: Journal) -> None:
    for number in range(6):
        segment = await record(journal, new(number))
        await journal.copies.source_gone(segment.id, SourceState.MISSING, "source_vanished", NOW)
    asked = TimeSpan(span(2).start + timedelta(seconds=1), span(4).start)
    entries = await journal.ledger.of_camera(GATE.id, asked)
    assert [entry.span for entry in entries] == [span(2), span(3)]
    assert await journal.ledger.of_camera(YARD.id, ALWAYS) == []
    assert await journal.ledger.losses() == {"source_vanished": 6}


async def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    async with await open_journal(tmp_path) as journal:
        segment = await record(journal, new(1))
        await deliver(journal, segment)
        before = await fresh(journal, segment)
    async with await open_journal(tmp_path) as journal:
        assert await fresh(journal, segment) == before
        assert not journal.opening.created and not journal.opening.unclean
