"""Copies: what is due and in which order, what counts as proof, and when footage is lost."""

from dataclasses import replace
from datetime import timedelta

import pytest

from cctv_storaged.errors import ObjectMismatch
from cctv_storaged.journal.copies import Order, Retried
from cctv_storaged.journal.journal import Journal
from cctv_storaged.model import CopyState, Segment, SourceState
from tests.unit.journal.samples import (
    ALWAYS,
    GATE,
    NOW,
    ROOT,
    YARD,
    deliver,
    fresh,
    new,
    proof,
    record,
    span,
)

LATER = NOW + timedelta(minutes=5)


async def due(journal: Journal, order: Order = Order.OLDEST, **more: object) -> list[int]:
    """Numbers of the segments that are due at S3."""
    found = await journal.copies.due("S3", order, 100, NOW, **more)  # type: ignore[arg-type]  # urgent_only
    return [segment.source.identity.inode - 1000 for segment in found]


def states(segment: Segment) -> dict[str, CopyState]:
    return {copy.backend: copy.state for copy in segment.copies}


# What is due


async def test_the_backlog_can_be_taken_from_either_end(journal: Journal) -> None:
    for number in (3, 1, 2):
        await record(journal, new(number))
    assert await due(journal, Order.OLDEST) == [1, 2, 3]
    assert await due(journal, Order.NEWEST) == [3, 2, 1]
    assert [s.span for s in await journal.copies.due("S3", Order.NEWEST, 1, NOW)] == [span(3)]
    assert await journal.copies.due("MINIO", Order.OLDEST, 10, NOW) == []


async def test_a_postponed_copy_comes_back_when_it_is_due(journal: Journal) -> None:
    for number in (1, 2):
        await record(journal, new(number))
    (first, _) = await journal.copies.due("S3", Order.OLDEST, 2, NOW)
    await journal.copies.postpone(first.id, "S3", "503", LATER)
    await journal.copies.postpone(first.id, "S3", "away", LATER, counts=False)

    assert await due(journal) == [2]
    copy = (await journal.copies.due("S3", Order.OLDEST, 2, LATER))[0].copies[0]
    assert (copy.attempts, copy.error, copy.state) == (1, "away", CopyState.PENDING)


async def test_a_clock_that_was_set_back_leaves_no_copy_waiting_for_years(journal: Journal) -> None:
    """It ran four years ahead when a backend refused; then the time server was reached."""
    segments = [await record(journal, new(number)) for number in (1, 2)]
    for segment in segments:
        await journal.copies.postpone(segment.id, "S3", "503", NOW + timedelta(days=4 * 365))
    assert await due(journal) == [1, 2]

    await journal.copies.postpone(segments[0].id, "S3", "503", LATER)
    assert await due(journal) == [2]
    assert await journal.copies.postpone_disk("S3", ROOT, 7, "disk away", LATER) == 1
    assert await due(journal) == []


async def test_next_due_is_when_the_earliest_copy_comes_due(journal: Journal) -> None:
    assert await journal.copies.next_due("S3") is None
    segment = await record(journal, new(1))
    await journal.copies.postpone(segment.id, "S3", "503", LATER)
    assert await journal.copies.next_due("S3") == LATER


async def test_what_is_urged_goes_first_and_failed_copies_get_another_try(journal: Journal) -> None:
    segments = [await record(journal, new(number)) for number in range(1, 6)]
    elsewhere = await record(journal, new(7, YARD))
    await journal.copies.postpone(segments[2].id, "S3", "503", LATER)
    await journal.copies.failed(segments[3].id, "S3", "refused")
    urged = await journal.copies.urge(GATE.id, replace(span(3), end=span(4).end), None)

    assert urged == 2
    assert await due(journal, urgent_only=True) == [3, 4]
    assert (await fresh(journal, segments[3])).copies[0].attempts == 0
    assert await journal.copies.urge(elsewhere.camera_id, span(500), None) == 0
    await deliver(journal, segments[2])
    assert await due(journal, urgent_only=True) == [4]


async def test_the_backlog_counts_what_is_not_proven_yet(journal: Journal) -> None:
    segments = [await record(journal, new(number)) for number in range(4)]
    await journal.copies.stored(segments[1].id, "S3", proof(segments[1]), NOW)
    await deliver(journal, segments[0])
    await journal.copies.failed(segments[2].id, "S3", "refused")
    backlog = await journal.copies.backlog("S3")

    assert (backlog.segments, backlog.bytes, backlog.failed) == (2, 2000, 1)
    assert backlog.oldest == segments[1].span.start
    tallies = {tally.state: (tally.segments, tally.bytes) for tally in await journal.copies.tallies()}
    assert tallies == {
        CopyState.PENDING: (1, 1000),
        CopyState.STORED: (1, 1000),
        CopyState.VERIFIED: (1, 1000),
        CopyState.FAILED: (1, 1000),
    }
    assert [segment.id for segment in await journal.copies.failures(10)] == [segments[2].id]


# Proof


async def test_stored_is_not_verified_and_verified_is_final(journal: Journal) -> None:
    segment = await record(journal, new(1))
    assert await journal.copies.stored(segment.id, "S3", proof(segment), NOW)
    assert (await fresh(journal, segment)).copies[0].state is CopyState.STORED
    assert await journal.copies.verified(segment.id, "S3", proof(segment), LATER)
    verified = await fresh(journal, segment)
    assert (verified.copies[0].stored_at, verified.copies[0].verified_at) == (NOW, LATER)

    assert await journal.copies.verified(segment.id, "S3", proof(segment), LATER + timedelta(hours=1))
    assert await journal.copies.stored(segment.id, "S3", proof(segment), LATER)
    await journal.copies.postpone(segment.id, "S3", "late answer", LATER)
    await journal.copies.failed(segment.id, "S3", "late answer")
    assert await fresh(journal, segment) == verified


async def test_a_second_backend_that_got_other_bytes_is_not_verified(journal: Journal) -> None:
    segment = await record(journal, new(1), "S3", "FILESYSTEM")
    await deliver(journal, segment, "S3")
    for mark in (journal.copies.verified, journal.copies.stored):
        with pytest.raises(ObjectMismatch, match="its source has changed"):
            await mark(segment.id, "FILESYSTEM", proof(segment, content=99), NOW)

    after = await fresh(journal, segment)
    assert after.sha256 == proof(segment).sha256
    assert states(after) == {"S3": CopyState.VERIFIED, "FILESYSTEM": CopyState.PENDING}


async def test_a_delivery_that_ends_after_the_deletion_began_is_not_taken(journal: Journal) -> None:
    segment = await record(journal, new(1))
    await journal.deletions.begin(segment.id)
    assert not await journal.copies.verified(segment.id, "S3", proof(segment), NOW)
    assert states(await fresh(journal, segment)) == {"S3": CopyState.DELETING}
    await journal.deletions.done(segment, "deleted_on_request", NOW)
    assert not await journal.copies.verified(segment.id, "S3", proof(segment), NOW)
    assert not await journal.copies.stored(segment.id, "MINIO", proof(segment), NOW)


async def test_a_delivery_that_was_given_up_and_ends_well_counts(journal: Journal) -> None:
    """The file vanished while its open descriptor was being put."""
    segment = await record(journal, new(1))
    assert await journal.copies.source_gone(segment.id, SourceState.MISSING, "source_vanished", NOW)
    assert await journal.copies.verified(segment.id, "S3", proof(segment), NOW)
    assert states(await fresh(journal, segment)) == {"S3": CopyState.VERIFIED}
    page = await journal.segments.page(GATE.id, ALWAYS, 10)
    assert [found.id for found in page.segments] == [segment.id]


# Failures


async def test_what_is_not_as_it_should_be_is_put_again_while_the_source_is_there(journal: Journal) -> None:
    segment = await record(journal, new(1))
    await journal.copies.stored(segment.id, "S3", proof(segment), NOW)
    assert await journal.copies.put_again(segment.id, "S3", "other bytes", LATER) is None
    copy = (await fresh(journal, segment)).copies[0]
    assert (copy.state, copy.attempts, copy.error) == (CopyState.PENDING, 1, "other bytes")


async def test_a_copy_the_backend_forgot_is_delivered_again_before_others(journal: Journal) -> None:
    for number in (1, 2):
        await deliver(journal, await record(journal, new(number)))
    await record(journal, new(0))
    (segment, _) = await journal.sources.settled_before(NOW, 10, None)
    assert await journal.copies.redeliver(segment.id, "S3", "404") is None

    assert await due(journal, urgent_only=True) == [1]
    assert [found.id for found in await journal.sources.settled_before(NOW, 10, None)] != [segment.id]
    await deliver(journal, segment)
    assert len(await journal.sources.settled_before(NOW, 10, None)) == 2


@pytest.mark.parametrize("how", ["put_again", "redeliver", "failed"])
async def test_a_copy_that_fails_without_a_source_is_a_loss_told_once(journal: Journal, how: str) -> None:
    segment = await record(journal, new(1))
    await journal.copies.stored(segment.id, "S3", proof(segment), NOW)
    assert await journal.copies.source_gone(segment.id, SourceState.MISSING, "source_vanished", NOW) is None

    async def fail() -> Segment | None:
        if how == "put_again":
            return await journal.copies.put_again(segment.id, "S3", "404", LATER)
        if how == "redeliver":
            return await journal.copies.redeliver(segment.id, "S3", "404")
        return await journal.copies.failed(segment.id, "S3", "404")

    lost = await fail()
    assert lost is not None and lost.id == segment.id
    assert await fail() is None
    assert states(await fresh(journal, segment)) == {"S3": CopyState.FAILED}
    assert len(await journal.ledger.of_camera(GATE.id, ALWAYS)) == 1
    assert await journal.ledger.losses() == {"copy_failed_without_source": 1}


async def test_a_failure_is_no_loss_while_another_copy_or_the_source_is_there(journal: Journal) -> None:
    with_source = await record(journal, new(1))
    with_copy = await record(journal, new(2), "S3", "MINIO")
    await deliver(journal, with_copy, "MINIO")
    await journal.copies.source_gone(with_copy.id, SourceState.MISSING, "source_vanished", NOW)
    for segment in (with_source, with_copy):
        assert await journal.copies.failed(segment.id, "S3", "refused") is None
    assert await journal.ledger.losses() == {}


async def test_a_vanished_source_is_no_loss_once_delivered_and_one_before(journal: Journal) -> None:
    delivered, undelivered = [await record(journal, new(number)) for number in (1, 2)]
    await deliver(journal, delivered)
    for segment in (delivered, undelivered):
        lost = await journal.copies.source_gone(segment.id, SourceState.MISSING, "source_vanished", NOW)
        assert (lost is None) == (segment is delivered)
    assert await journal.copies.source_gone(undelivered.id, SourceState.MISSING, "again", NOW) is None
    assert await journal.ledger.losses() == {"source_vanished": 1}


async def test_a_source_under_our_own_tombstone_did_not_vanish(journal: Journal) -> None:
    segment = await record(journal, new(1))
    await deliver(journal, segment)
    assert await journal.sources.begin_pruning(segment.id, ["S3"])
    await journal.copies.source_gone(segment.id, SourceState.MISSING, "source_vanished", NOW)
    assert (await fresh(journal, segment)).source_state is SourceState.PRUNING


async def test_the_copies_of_a_rewritten_source_are_proven_anew(journal: Journal) -> None:
    segment = await record(journal, new(1), "FILESYSTEM")
    await deliver(journal, segment, "FILESYSTEM")
    await journal.copies.source_gone(segment.id, SourceState.REPLACED, "overwritten", NOW)
    assert states(await fresh(journal, segment)) == {"FILESYSTEM": CopyState.STORED}


@pytest.mark.parametrize("how", ["overwritten", "doubted"])
async def test_a_copy_to_be_proven_anew_is_not_said_to_be_verified(journal: Journal, how: str) -> None:
    segment = await record(journal, new(1), "FILESYSTEM")
    await deliver(journal, segment, "FILESYSTEM")
    assert (await fresh(journal, segment)).copies[0].verified_at == NOW
    if how == "doubted":
        await journal.copies.doubt(segment.id, "FILESYSTEM", "a reader got other bytes")
    else:
        await journal.copies.source_gone(segment.id, SourceState.REPLACED, "overwritten", NOW)
    copy = (await fresh(journal, segment)).copies[0]
    assert (copy.state, copy.verified_at, copy.stored_at) == (CopyState.STORED, None, NOW)
    await deliver(journal, segment, "FILESYSTEM", at=LATER)
    assert (await fresh(journal, segment)).copies[0].verified_at == LATER


async def test_a_copy_that_fails_since_its_source_was_overwritten_was_lost_to_the_recorder(
    journal: Journal,
) -> None:
    segment = await record(journal, new(1), "FILESYSTEM")
    await deliver(journal, segment, "FILESYSTEM")
    await journal.copies.source_gone(segment.id, SourceState.REPLACED, "overwritten", NOW)
    assert await journal.copies.put_again(segment.id, "FILESYSTEM", "other bytes", LATER) is not None
    assert await journal.ledger.losses() == {"overwritten_by_recorder": 1}


async def test_retry_puts_what_has_a_source_and_proves_what_had_been_stored(journal: Journal) -> None:
    with_source, stored, never_stored = [await record(journal, new(number)) for number in (1, 2, 3)]
    await journal.copies.stored(stored.id, "S3", proof(stored), NOW)
    for segment in (stored, never_stored):
        await journal.copies.source_gone(segment.id, SourceState.MISSING, "source_vanished", NOW)
    for segment in (with_source, stored, never_stored):
        await journal.copies.failed(segment.id, "S3", "refused")

    assert await journal.copies.retry_failed("MINIO") == Retried(retried=0)
    assert await journal.copies.retry_failed(None) == Retried(retried=2)
    found = [states(await fresh(journal, s))["S3"] for s in (with_source, stored, never_stored)]
    assert found == [CopyState.PENDING, CopyState.STORED, CopyState.FAILED]


async def test_retry_counts_copies_without_source_and_bytes_by_themselves(journal: Journal) -> None:
    """The backend is asked once more all the same: a backup may have brought the bytes back."""
    segment = await record(journal, new(1))
    await deliver(journal, segment)
    await journal.copies.source_gone(segment.id, SourceState.REPLACED, "overwritten", NOW)
    for _ in range(2):
        await journal.copies.put_again(segment.id, "S3", "other bytes", LATER)
        assert states(await fresh(journal, segment)) == {"S3": CopyState.FAILED}
        assert await journal.copies.retry_failed(None) == Retried(retried=0, asked_again=1)
        assert states(await fresh(journal, segment)) == {"S3": CopyState.STORED}


# Other backends than before


async def test_what_has_a_source_is_due_at_the_backend_that_came(journal: Journal) -> None:
    """Also what another one was delivered: else its source would stay for ever."""
    pending, stored, failed, delivered = [await record(journal, new(number)) for number in range(4)]
    await journal.copies.stored(stored.id, "S3", proof(stored), NOW)
    await journal.copies.failed(failed.id, "S3", "too large")
    await deliver(journal, delivered)

    assert await journal.requirement.require(["MINIO"]) == 4
    for segment in (pending, stored, failed):
        assert states(await fresh(journal, segment)) == {"S3": CopyState.GONE, "MINIO": CopyState.PENDING}
        await deliver(journal, segment, "MINIO")
    assert states(await fresh(journal, delivered)) == {
        "S3": CopyState.VERIFIED,
        "MINIO": CopyState.PENDING,
    }
    await deliver(journal, delivered, "MINIO")
    assert await journal.requirement.require(["MINIO"]) == 0
    assert len(await journal.sources.settled_before(NOW, 10, None)) == 4


async def test_settings_changed_back_and_forth_leave_nothing_undelivered(journal: Journal) -> None:
    segment = await record(journal, new(1), "S3")
    for backends in (["MINIO"], ["S3"], ["MINIO"], ["S3", "FILESYSTEM"]):
        assert await journal.requirement.require(backends) == len(backends)
        found = states(await fresh(journal, segment))
        assert {name for name, state in found.items() if state is CopyState.PENDING} == set(backends)


async def test_the_only_bytes_at_a_backend_that_left_stay_on_the_books(journal: Journal) -> None:
    segment = await record(journal, new(1))
    await journal.copies.stored(segment.id, "S3", proof(segment), NOW)
    await journal.copies.source_gone(segment.id, SourceState.MISSING, "source_vanished", NOW)
    assert await journal.requirement.require(["MINIO"]) == 0
    assert states(await fresh(journal, segment)) == {"S3": CopyState.STORED}


async def test_requiring_no_backend_at_all_gives_nothing_up(journal: Journal) -> None:
    segment = await record(journal, new(1))
    assert await journal.requirement.require([]) == 0
    assert states(await fresh(journal, segment)) == {"S3": CopyState.PENDING}
