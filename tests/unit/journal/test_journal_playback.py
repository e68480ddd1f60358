"""The rows that playlists are made of: the very segments a page lists, and what lies around them."""

import json
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

from cctv_storaged.clock import to_us
from cctv_storaged.journal.journal import Journal
from cctv_storaged.journal.readbacks import ReadBack
from cctv_storaged.model import SegmentFlag, SourceState, StreamStart
from tests.unit.journal.samples import GATE, LENGTH, NOW, YARD, deliver, fresh, new, proof, record, span

HOUR = replace(span(0), end=span(0).start + timedelta(hours=1))


async def test_the_rows_are_the_segments_that_a_page_lists(journal: Journal) -> None:
    stream = StreamStart(2**33 - 1, b"8 bytes.")
    await record(journal, replace(new(0), stream=stream))
    await record(journal, replace(new(2), flags=frozenset({SegmentFlag.NO_KEYFRAME, SegmentFlag.PARTIAL})))
    await record(journal, new(1))
    await record(journal, new(1, YARD))
    await record(journal, new(4, at=replace(span(1), end=span(3).end)))
    for asked in (HOUR, span(1), span(3), replace(span(2), start=span(2).start + LENGTH / 2)):
        page = await journal.segments.page(GATE.id, asked, 100)
        rows = await journal.playback.rows(GATE.id, asked)
        assert [UUID(bytes=row[5]) for row in rows] == [segment.id for segment in page.segments]
        for row, segment in zip(rows, page.segments, strict=True):
            assert row[:2] == (to_us(segment.span.start), to_us(segment.span.end))
            assert row[2].split() == sorted(segment.flags)
            start = segment.stream
            assert row[3:5] == ((None, None) if start is None else (start.ticks, start.fingerprint))
    assert await journal.playback.rows(uuid4(), HOUR) == []


async def test_what_has_no_bytes_left_is_not_played(journal: Journal) -> None:
    kept, lost = await record(journal, new(0)), await record(journal, new(1))
    await deliver(journal, kept)
    for segment in (kept, lost):
        await journal.copies.source_gone(segment.id, SourceState.MISSING, "test", NOW)
    rows = await journal.playback.rows(GATE.id, HOUR)
    assert [UUID(bytes=row[5]) for row in rows] == [kept.id]
    assert (await fresh(journal, kept)).source_state is SourceState.MISSING


async def test_paths_are_those_of_verified_copies_at_that_backend(journal: Journal) -> None:
    there, _, elsewhere = [await record(journal, new(number), "S3", "FILESYSTEM") for number in range(3)]
    await deliver(journal, there)
    await deliver(journal, elsewhere, "FILESYSTEM")
    assert await journal.playback.paths(GATE.id, HOUR, "S3") == {there.id.bytes: proof(there).path}
    assert await journal.playback.paths(GATE.id, span(1), "S3") == {}
    assert await journal.playback.paths(uuid4(), HOUR, "S3") == {}


async def test_the_nearest_footage_is_known_on_both_sides(journal: Journal) -> None:
    for number in (1, 2, 7, 8):
        await record(journal, new(number))
    gone = await record(journal, new(4))
    await journal.copies.source_gone(gone.id, SourceState.MISSING, "test", NOW)
    nearby = await journal.playback.nearby(GATE.id, span(5))
    assert (nearby.before, nearby.after) == (span(2).end, span(7).start)
    nearby = await journal.playback.nearby(GATE.id, span(0))
    assert (nearby.before, nearby.after) == (None, span(1).start)
    nearby = await journal.playback.nearby(GATE.id, span(9))
    assert (nearby.before, nearby.after) == (span(8).end, None)
    nearby = await journal.playback.nearby(uuid4(), span(5))
    assert (nearby.before, nearby.after) == (None, None)


async def test_a_playlist_is_read_from_the_index_alone(journal: Journal) -> None:
    """The rows of one camera lie apart as the segments of many come in turn: a day would be 8640 reads."""
    await record(journal, new(0))
    seen: list[str] = []
    await journal._store.read(lambda db: db.set_trace_callback(seen.append))
    await journal.playback.rows(GATE.id, HOUR)
    await journal._store.read(lambda db: db.set_trace_callback(None))
    (query,) = [statement for statement in seen if "stream_ticks" in statement]
    plan = await journal._store.read(lambda db: db.execute(f"EXPLAIN QUERY PLAN {query}").fetchall())
    assert any("USING COVERING INDEX segment_by_time" in row[3] for row in plan)
    assert not any("TEMP B-TREE" in row[3] for row in plan)


async def test_apart_is_what_has_bytes_at_that_backend_alone(journal: Journal) -> None:
    """Neither what has its source, nor what another backend has as well."""
    alone, sourced, both, elsewhere = [
        await record(journal, new(number), "S3", "FILESYSTEM") for number in range(4)
    ]
    for segment in (alone, sourced, both):
        await deliver(journal, segment)
    for segment in (both, elsewhere):
        await deliver(journal, segment, "FILESYSTEM")
    for segment in (alone, both, elsewhere):
        await journal.copies.source_gone(segment.id, SourceState.MISSING, "test", NOW)
    assert await journal.playback.apart(GATE.id, HOUR, "S3") == {alone.id.bytes}
    assert await journal.playback.apart(GATE.id, span(1), "S3") == frozenset()
    assert await journal.playback.apart(uuid4(), HOUR, "S3") == frozenset()
    rows = await journal.material.rows(GATE.id, HOUR, "S3")
    assert [(row.segment_id, row.apart) for row in rows] == [
        (segment.id, int(segment is alone)) for segment in (alone, sourced, both, elsewhere)
    ]
    assert {row.apart for row in await journal.material.rows(GATE.id, HOUR)} == {0}


async def test_what_was_read_back_is_told_once_for_each_checksum(journal: Journal) -> None:
    segment = await record(journal, new(0))
    made = ReadBack(segment_id=segment.id, backend="S3", span=span(0), size_bytes=7, sha256=bytes(32))
    notes = [
        await journal.read_backs.note(each, NOW) for each in (made, made, replace(made, sha256=b"1" * 32))
    ]
    assert notes == [True, False, True]
    lines = [bound.line for bound in (await journal.ledger_lines.page(0)).lines if bound.line.kind == "noted"]
    told = [line for line in lines if line.cause == "remuxed"]
    assert [json.loads(line.detail)["sha256"] for line in told] == ["00" * 32, "31" * 32]
    assert {line.segment_id for line in told} == {segment.id.bytes}
    assert not await journal.read_backs.note(replace(made, segment_id=uuid4()), NOW)
