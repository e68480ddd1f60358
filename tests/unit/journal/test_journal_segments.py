"""Registering: once for each file, every version of a name, and nothing overwritten in silence."""

import os
from dataclasses import replace
from datetime import timedelta

import pytest

from cctv_storaged.journal import asides
from cctv_storaged.journal.journal import Journal
from cctv_storaged.journal.ledger import Entry, Kind
from cctv_storaged.model import (
    Camera,
    CopyState,
    SegmentFlag,
    SourceState,
    TimeSpan,
    camera_id_for,
)
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
    rewritten,
    span,
)


async def test_recording_a_file_twice_is_once(journal: Journal) -> None:
    first = await journal.segments.record(new(1), ["S3"], NOW)
    again = await journal.segments.record(new(1), ["S3"], NOW + timedelta(minutes=1))

    assert first.created and not again.created
    assert again.segment == first.segment
    assert again.replaced is None and again.lost is None
    assert (await journal.copies.backlog("S3")).segments == 1


async def test_a_new_segment_is_as_it_was_found_with_a_pending_copy_for_each_backend(
    journal: Journal,
) -> None:
    found = new(1)
    segment = (await journal.segments.record(found, ["S3", "FILESYSTEM"], NOW)).segment

    assert (segment.camera_id, segment.span, segment.source) == (GATE.id, found.span, found.source)
    assert (segment.codec, segment.sha256, segment.created_at) == ("h264", None, NOW)
    assert segment.source_state is SourceState.PRESENT
    assert [(copy.backend, copy.state) for copy in segment.copies] == [
        ("FILESYSTEM", CopyState.PENDING),
        ("S3", CopyState.PENDING),
    ]
    assert segment == await journal.segments.by_id(segment.id)
    assert segment == await journal.segments.by_source(found.source)


async def test_a_copied_back_file_with_another_inode_is_the_same_segment(journal: Journal) -> None:
    segment = await record(journal, new(1))
    moved = replace(new(1).source.identity, device=99, inode=4242)
    again = await record(journal, replace(new(1), source=replace(new(1).source, identity=moved)))

    assert again.id == segment.id
    assert again.source.identity == moved


@pytest.mark.parametrize("number", [2**63, 2**64 - 1, 2**63 - 1])
async def test_device_and_inode_numbers_of_sixty_four_bits_come_back_as_they_were(
    journal: Journal, number: int
) -> None:
    identity = replace(new(1).source.identity, device=number, inode=number)
    source = replace(new(1).source, identity=identity)
    segment = await record(journal, replace(new(1), source=source))
    await journal.segments.set_aside(
        replace(source, path="gate/2026-01-23/odd.ts"), "not_mpegts", "no sync byte", NOW
    )

    assert segment.source.identity == identity
    known = await journal.segments.known_in(ROOT, "gate/2026-01-23")
    assert {entry.identity for entry in known.values()} == {identity}
    await journal.segments.renumber_device(ROOT, "gate/2026-01-23", number, 5)
    known = await journal.segments.known_in(ROOT, "gate/2026-01-23")
    assert {entry.identity.device for entry in known.values()} == {5}


async def test_names_of_any_bytes_go_in_and_come_out(journal: Journal) -> None:
    folder = os.fsdecode(b"caf\xe9 \xff")
    name = os.fsdecode(b"a\xfe\nb.ts")
    camera = Camera(id=camera_id_for("h", folder), name=folder, folder=folder)
    segment = await record(journal, new(1, camera, path=f"{folder}/{name}"))
    await journal.copies.postpone(segment.id, "S3", f"cannot read {folder}/{name}", NOW)

    assert segment.source.path == f"{folder}/{name}"
    assert set(await journal.segments.known_in(ROOT, folder)) == {name}
    footage = await journal.cameras.by_id(camera.id, NOW)
    assert footage is not None and footage.camera.folder == folder
    postponed = await fresh(journal, segment)
    assert "cannot read caf" in (postponed.copies[0].error or "")


# Rewritten files


async def test_a_grown_file_replaces_its_shorter_version(journal: Journal) -> None:
    earlier = await record(journal, new(1))
    longer = TimeSpan(earlier.span.start, earlier.span.end + timedelta(seconds=5))
    recorded = await journal.segments.record(rewritten(new(1), size_bytes=1500, at=longer), ["S3"], NOW)

    assert recorded.created and recorded.replaced == earlier and recorded.lost is None
    assert SegmentFlag.REWRITTEN in recorded.segment.flags
    assert await journal.segments.by_id(earlier.id) is None
    assert await ledger_kinds(journal) == [Kind.REPLACED]
    assert await journal.ledger.losses() == {}


@pytest.mark.parametrize(
    "instead",
    [span(1, timedelta(seconds=4)), span(5), span(1.5)],
    ids=["truncated", "another_time", "overlapping"],
)
async def test_footage_that_a_rewritten_file_no_longer_holds_is_lost(
    journal: Journal, instead: TimeSpan
) -> None:
    earlier = await record(journal, new(1))
    recorded = await journal.segments.record(rewritten(new(1), size_bytes=400, at=instead), ["S3"], NOW)

    assert recorded.lost == earlier.span
    assert [(entry.kind, entry.segment_id, entry.span) for entry in await ledger(journal)] == [
        (Kind.LOST, earlier.id, earlier.span)
    ]
    assert await journal.ledger.losses() == {"overwritten_by_recorder": 1}


async def test_a_delivered_version_stays_without_a_source_and_is_proven_anew(journal: Journal) -> None:
    earlier = await record(journal, new(1), "FILESYSTEM", "S3")
    await deliver(journal, earlier, "FILESYSTEM")
    recorded = await journal.segments.record(
        rewritten(new(1), size_bytes=400, at=span(5)), ["FILESYSTEM", "S3"], NOW
    )

    kept = await fresh(journal, earlier)
    assert recorded.lost is None and recorded.segment.id != earlier.id
    assert kept.source_state is SourceState.REPLACED
    assert {copy.backend: copy.state for copy in kept.copies} == {
        "FILESYSTEM": CopyState.STORED,  # a hard link shares the inode that was written to
        "S3": CopyState.FAILED,  # there is nothing left to put
    }
    assert await ledger_kinds(journal) == []


async def test_a_replaced_version_that_then_fails_its_proof_is_lost_and_told_once(journal: Journal) -> None:
    earlier = await record(journal, new(1), "FILESYSTEM")
    await deliver(journal, earlier, "FILESYSTEM")
    await record(journal, rewritten(new(1), size_bytes=400, at=span(5)), "FILESYSTEM")

    lost = await journal.copies.failed(earlier.id, "FILESYSTEM", "other bytes")
    assert lost is not None and lost.id == earlier.id
    assert await journal.copies.failed(earlier.id, "FILESYSTEM", "other bytes") is None
    assert await ledger_kinds(journal) == [Kind.LOST]


async def test_only_the_last_of_many_versions_has_a_source(journal: Journal) -> None:
    first = await record(journal, new(1))
    await deliver(journal, first)
    second = await record(journal, rewritten(new(1), size_bytes=1100))
    await journal.copies.verified(second.id, "S3", proof(second, content=2), NOW)
    third = await record(journal, rewritten(rewritten(new(1), size_bytes=1100), size_bytes=1200))

    states = [(await fresh(journal, segment)).source_state for segment in (first, second, third)]
    assert states == [SourceState.REPLACED, SourceState.REPLACED, SourceState.PRESENT]
    known = await journal.segments.known_in(ROOT, "gate/2026-01-23")
    assert [entry.identity.size_bytes for entry in known.values()] == [1200]


async def test_an_earlier_version_that_comes_back_puts_the_later_one_out(journal: Journal) -> None:
    first = await record(journal, new(1))
    await deliver(journal, first)
    second = await record(journal, rewritten(new(1), size_bytes=1100))
    await journal.copies.verified(second.id, "S3", proof(second, content=2), NOW)
    again = await record(journal, new(1))

    assert again.id == first.id and again.source_state is SourceState.PRESENT
    assert (await fresh(journal, second)).source_state is SourceState.REPLACED


async def test_a_name_used_again_after_its_file_was_pruned_is_no_rewrite(journal: Journal) -> None:
    first = await record(journal, new(1))
    await deliver(journal, first)
    assert await journal.sources.begin_pruning(first.id, ["S3"])
    await journal.sources.pruned(await fresh(journal, first), NOW)
    second = await journal.segments.record(rewritten(new(1), size_bytes=1100, at=span(500)), ["S3"], NOW)

    assert second.replaced is None and second.segment.flags == frozenset()
    assert (await fresh(journal, first)).source_state is SourceState.PRUNED


# There again


async def test_a_missing_file_that_is_there_again_is_delivered_after_all(journal: Journal) -> None:
    segment = await record(journal, new(1))
    lost = await journal.copies.source_gone(segment.id, SourceState.MISSING, "source_vanished", NOW)
    assert lost is not None and (await fresh(journal, segment)).copies[0].state is CopyState.FAILED

    again = await journal.segments.record(new(1), ["S3"], NOW)
    assert not again.created
    assert again.segment.source_state is SourceState.PRESENT
    assert again.segment.copies[0].state is CopyState.PENDING
    assert await ledger_kinds(journal, all_kinds=True) == [Kind.LOST, Kind.FOUND]


async def test_a_pruned_file_that_is_there_again_has_a_source_again(journal: Journal) -> None:
    segment = await record(journal, new(1))
    await deliver(journal, segment)
    assert await journal.sources.begin_pruning(segment.id, ["S3"])
    await journal.sources.pruned(segment, NOW)
    assert await journal.segments.known_in(ROOT, "gate/2026-01-23") == {}

    again = await record(journal, new(1))
    assert again.source_state is SourceState.PRESENT
    assert again.copies[0].state is CopyState.VERIFIED
    assert [found.id for found in await journal.sources.settled_before(NOW, 10, None)] == [segment.id]


async def test_a_file_being_pruned_is_not_brought_back_by_a_late_hint(journal: Journal) -> None:
    segment = await record(journal, new(1))
    await deliver(journal, segment)
    assert await journal.sources.begin_pruning(segment.id, ["S3"])

    again = await journal.segments.record(new(1), ["S3"], NOW)
    assert not again.created and again.segment.source_state is SourceState.PRUNING
    assert set(await journal.segments.known_in(ROOT, "gate/2026-01-23")) == {"000001.ts"}


# Files that are no segments


async def test_a_file_set_aside_is_known_until_it_is_mended(journal: Journal) -> None:
    mended = new(1, size_bytes=5000)
    broken = replace(mended.source, identity=replace(mended.source.identity, size_bytes=0))
    assert await journal.segments.set_aside(broken, "empty", "0 bytes", NOW)
    assert not await journal.segments.set_aside(broken, "empty", "0 bytes", NOW)
    known = await journal.segments.known_in(ROOT, "gate/2026-01-23")
    assert known["000001.ts"].reason == "empty" and known["000001.ts"].identity.size_bytes == 0

    await record(journal, mended)
    known = await journal.segments.known_in(ROOT, "gate/2026-01-23")
    assert known["000001.ts"].reason is None and known["000001.ts"].identity.size_bytes == 5000
    assert await journal.segments.set_aside_counts() == {}


async def test_a_segment_overwritten_by_what_is_no_segment_is_lost(journal: Journal) -> None:
    segment = await record(journal, new(1))
    emptied = rewritten(new(1), size_bytes=1).source
    outcome = await journal.segments.set_aside(emptied, "not_mpegts", "one byte", NOW)

    assert outcome and outcome.lost == segment
    known = await journal.segments.known_in(ROOT, "gate/2026-01-23")
    assert known["000001.ts"].reason == "not_mpegts"
    assert await ledger_kinds(journal) == [Kind.LOST]


@pytest.mark.parametrize("delivered", [False, True])
async def test_a_segment_that_was_emptied_is_not_told_as_never_written(
    journal: Journal, delivered: bool
) -> None:
    """Nor when somebody touches the empty file later."""
    segment = await record(journal, new(1))
    if delivered:
        await deliver(journal, segment)
    for version in (1, 2):
        emptied = new(1, size_bytes=0, version=version).source
        outcome = await journal.segments.set_aside(emptied, "empty", "never written", NOW)
        assert outcome.news and "emptied what was registered" in outcome.detail
    never_written = new(2, size_bytes=0).source
    assert (await journal.segments.set_aside(never_written, "empty", "never written", NOW)).detail == (
        "never written"
    )


async def test_a_delivered_segment_overwritten_by_what_is_no_segment_stays(journal: Journal) -> None:
    segment = await record(journal, new(1))
    await deliver(journal, segment)
    outcome = await journal.segments.set_aside(
        rewritten(new(1), size_bytes=1).source, "not_mpegts", "one byte", NOW
    )

    assert outcome.lost is None
    kept = await fresh(journal, segment)
    assert (kept.source_state, kept.copies[0].state) == (SourceState.REPLACED, CopyState.STORED)


async def test_a_bad_look_at_a_registered_file_does_not_unmake_the_segment(journal: Journal) -> None:
    segment = await record(journal, new(1))
    assert not await journal.segments.set_aside(new(1).source, "not_mpegts", "read error", NOW)
    assert await fresh(journal, segment) == segment
    assert (await journal.segments.known_in(ROOT, "gate/2026-01-23"))["000001.ts"].reason is None


async def test_files_set_aside_are_listed_newest_first_page_by_page(journal: Journal) -> None:
    """Two of the same moment, and a name of any bytes; what was seen before keeps its time."""
    odd = os.fsdecode(b"a\xfe.ts")
    sources = [replace(new(number).source, path=f"gate/{number}/{odd}") for number in range(7)]
    for again in range(2):
        for number, source in enumerate(sources):
            at = NOW + timedelta(days=again, seconds=number // 2)
            await journal.segments.set_aside(source, "not_mpegts", f"no stream in {odd}", at)
    found: list[asides.AsideFile] = []
    after: asides.Position | None = None
    while True:
        page = await journal.segments.set_aside_page(2, after)
        assert len(page.files) <= 2
        found += page.files
        after = page.next
        if after is None:
            break
    assert [file.path for file in found] == [source.path for source in reversed(sources)]
    assert [file.seen_at for file in found] == [NOW + timedelta(seconds=n // 2) for n in range(6, -1, -1)]
    assert (found[0].root, found[0].reason, found[0].size_bytes) == (ROOT, "not_mpegts", 1000)


async def test_files_set_aside_that_are_gone_are_forgotten(journal: Journal) -> None:
    first, other, anew = [new(number).source for number in range(3)]
    for source in (first, other, anew):
        await journal.segments.set_aside(source, "empty", "", NOW)
    folder = os.path.dirname(first.path)
    [listed] = await journal.segments.set_aside_folders(0)
    assert (listed.root, listed.path) == (ROOT, folder)
    assert await journal.segments.set_aside_folders(listed.no) == []
    gone = {os.path.basename(each.path): each.identity for each in (first, anew)}
    await journal.segments.set_aside(new(2, version=1).source, "empty", "", NOW)
    await journal.segments.forget_set_aside(ROOT, folder, gone)
    paths = {file.path for file in (await journal.segments.set_aside_page(10)).files}
    assert paths == {other.path, anew.path}, "what was set aside anew stays"


async def test_folders_with_files_set_aside_come_in_slices(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asides, "FOLDERS", 2)
    for number in range(5):
        source = replace(new(number).source, path=f"gate/{number}/a.ts")
        await journal.segments.set_aside(source, "empty", "", NOW)
        await record(journal, new(number, path=f"yard/{number}/a.ts"))
    found, after = [], 0
    while folders := await journal.segments.set_aside_folders(after):
        assert len(folders) <= 2
        found += [folder.path for folder in folders]
        after = folders[-1].no
    assert found == [f"gate/{number}" for number in range(5)]


async def test_what_was_set_aside_under_old_settings_is_looked_at_anew(journal: Journal) -> None:
    for number, reason in enumerate(("unreadable_name", "empty"), start=1):
        await journal.segments.set_aside(new(number).source, reason, "", NOW)
    await journal.segments.reconsider(["unreadable_name"])
    assert await journal.segments.set_aside_counts() == {"empty": 1}


async def test_known_in_is_of_one_folder_and_one_root(journal: Journal) -> None:
    await record(journal, new(1))
    await record(journal, new(2, YARD))
    await record(journal, new(3, path="top.ts"))

    assert set(await journal.segments.known_in(ROOT, "gate/2026-01-23")) == {"000001.ts"}
    assert set(await journal.segments.known_in(ROOT, "")) == {"top.ts"}
    assert await journal.segments.known_in("/elsewhere", "gate/2026-01-23") == {}


# Twins


async def test_two_segments_with_the_same_start_and_bytes_both_live_and_the_second_is_flagged(
    journal: Journal,
) -> None:
    one = await record(journal, new(1))
    two = await record(journal, replace(new(2), span=span(1)))
    other_camera = await record(journal, replace(new(3, YARD), span=span(1)))
    other_bytes = await record(journal, replace(new(4), span=span(1)))
    for segment in (one, two, other_camera):
        await journal.copies.verified(segment.id, "S3", proof(segment, content=77), NOW)
    await deliver(journal, other_bytes)

    flagged = [SegmentFlag.DUPLICATE in (await fresh(journal, s)).flags for s in (one, two, other_camera)]
    assert flagged == [False, True, False]
    assert (await fresh(journal, other_bytes)).flags == frozenset()
    page = await journal.segments.page(GATE.id, ALWAYS, 10)
    assert {segment.id for segment in page.segments} == {one.id, two.id, other_bytes.id}


async def ledger(journal: Journal) -> list[Entry]:
    return await journal.ledger.of_camera(GATE.id, ALWAYS)


async def ledger_kinds(journal: Journal, *, all_kinds: bool = False) -> list[Kind]:
    """Of the gate camera, without those of each day's work."""
    rows = await journal._store.read(
        lambda db: db.execute(
            "SELECT kind FROM ledger WHERE kind NOT IN ('registered', 'verified', 'noted') ORDER BY no"
        ).fetchall()
    )
    kinds = [Kind(row[0]) for row in rows]
    return kinds if all_kinds else [kind for kind in kinds if kind not in (Kind.FOUND, Kind.PRUNED)]
