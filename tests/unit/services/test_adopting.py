"""What an object has to say before it becomes a row of the journal, and what is left alone."""

import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cctv_storaged.backends.base import ObjectFacts
from cctv_storaged.backends.filesystem import FilesystemBackend, FilesystemSettings
from cctv_storaged.catalog.base import CatalogCopy, CatalogRow
from cctv_storaged.errors import Conflict
from cctv_storaged.journal.adoption import Verdict
from cctv_storaged.journal.copies import Proof
from cctv_storaged.journal.journal import Journal
from cctv_storaged.journal.ledger import Kind
from cctv_storaged.journal.ledgerlines import Sift
from cctv_storaged.labels import MOST_BYTES, understood, written
from cctv_storaged.model import (
    CopyState,
    NewSegment,
    Segment,
    SegmentFlag,
    SourceFile,
    StreamStart,
    TimeSpan,
    object_key,
    segment_id_for,
    spare_key,
)
from cctv_storaged.rebuilding.adopting import Adopting, Left
from cctv_storaged.rebuilding.rebuild import found_in, joined
from cctv_storaged.recorder.admission import CameraBook, Root
from cctv_storaged.recorder.layout import Layout
from tests.services.jumping import LoopClock
from tests.services.kepthold import kept_hold
from tests.unit.journal.samples import GATE, HOST, NOW, ROOT, fresh, new, open_journal, record, span

PREFIX = "nvr/"
LAYOUT = "{camera}/%Y-%m-%d/%H%M%S.ts"


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    async with await open_journal(tmp_path / "data") as opened:
        yield opened


@asynccontextmanager
async def folder(path: Path) -> AsyncIterator[FilesystemBackend]:
    path.mkdir()
    backend = FilesystemBackend(FilesystemSettings(path=str(path)))
    try:
        yield backend
    finally:
        await backend.close()


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[FilesystemBackend]:
    async with folder(tmp_path / "store") as opened:
        yield opened


def adopting(journal: Journal, **more: Any) -> Adopting:
    cameras = CameraBook(HOST, ())
    root = Root(path=ROOT, layout=Layout.parse(LAYOUT, ZoneInfo("UTC")), cameras=cameras, remote=False)
    return Adopting(journal, LoopClock(NOW), cameras, [root], PREFIX, **more)


def delivered(fact: NewSegment) -> Segment:
    """A segment as delivery knows it when it puts the object."""
    return Segment(
        id=segment_id_for(HOST, fact.source),
        camera_id=fact.camera.id,
        span=fact.span,
        source=fact.source,
        source_state="present",  # type: ignore[arg-type]
        flags=fact.flags,
        codec=fact.codec,
        sha256=hashlib.sha256(fact.source.path.encode(errors="surrogateescape")).digest(),
        created_at=NOW,
        stream=StreamStart(126_000, bytes(8)),
    )


def facts_of(segment: Segment, *, host: str = HOST, spare: int = 0, **changes: Any) -> ObjectFacts:
    """What the backend tells of its object; `metadata` replaces some of its words, None takes one away."""
    said: dict[str, str | None] = {**written(segment, host), **changes.pop("metadata", {})}
    words = {name: value for name, value in said.items() if value is not None}
    usual: dict[str, Any] = {
        "path": spare_key(object_key(PREFIX, segment), spare),
        "size_bytes": segment.size_bytes,
        "sha256": None,
        "etag": '"e"',
        "metadata": words,
    }
    return ObjectFacts(**usual | changes)


async def test_an_object_becomes_the_segment_it_was(journal: Journal, backend: FilesystemBackend) -> None:
    fact = replace(new(3), flags=frozenset({SegmentFlag.PARTIAL}))
    was = delivered(fact)
    proven = facts_of(was, sha256=was.sha256)
    segment = await adopting(journal).adopt_object(backend, proven)
    assert segment is not None
    [copy] = segment.copies
    assert (copy.backend, copy.state, copy.path) == ("FILESYSTEM", "verified", object_key(PREFIX, was))
    source = replace(was.source, identity=replace(was.source.identity, device=0, inode=0))
    assert replace(segment, copies=()) == replace(was, source=source, source_state="pruned")  # type: ignore[arg-type]
    camera = await journal.cameras.camera(GATE.id)
    assert camera == GATE
    page = await journal.ledger_lines.page(0, 100, Sift(kind=Kind.ADOPTED))
    assert [line.line.segment_id for line in page.lines] == [was.id.bytes]
    # Twice is once, and the file that a scan finds is the same segment.
    assert (await adopting(journal).consider(backend, proven)).word == Verdict.KNOWN
    recorded = await journal.segments.record(fact, ("FILESYSTEM",), NOW)
    assert (recorded.created, recorded.segment.source_state) == (False, "present")
    assert recorded.segment.source == was.source


async def test_bytes_that_the_store_does_not_prove_are_stored_and_not_verified(
    journal: Journal, backend: FilesystemBackend
) -> None:
    was = delivered(new(1))
    for shown in (None, bytes(32)):
        segment = await adopting(journal).adopt_object(backend, facts_of(was, sha256=shown))
        assert segment is not None and [copy.state for copy in segment.copies] == [CopyState.STORED]


IMPOSSIBLE = f"{PREFIX}{GATE.id}/2026/13/45/99/20261345T999999.000000Z_1_{'0' * 12}.ts"
Words = Mapping[str, str | None]


@pytest.mark.parametrize(
    ("metadata", "changes", "left"),
    [
        ({"host": "another"}, {}, Left.OTHER_HOST),
        ({"host": None}, {}, Left.NOBODYS),
        ({"camera": str(UUID(int=9))}, {}, Left.CONTRADICTORY),
        ({"sha256": "ab" * 32}, {}, Left.CONTRADICTORY),
        ({"start": "2026-01-23T10:00:09Z"}, {}, Left.CONTRADICTORY),
        ({"segment-id": str(UUID(int=9))}, {}, Left.CONTRADICTORY),
        ({"path": "gate/other.ts"}, {}, Left.CONTRADICTORY),
        ({"size": None}, {"size_bytes": 0}, Left.CONTRADICTORY),
        ({"size": "-3"}, {}, Left.CONTRADICTORY),
        ({}, {"path": f"{PREFIX}ledger/{HOST}/heads/1.json"}, Left.NO_SEGMENT),
        (
            {},
            {"path": f"{PREFIX}{GATE.id}/2026/13/45/99/20261345T999999.000000Z_1_{'0' * 12}.ts"},
            "no_segment",
        ),
    ],
)
async def test_what_is_not_ours_or_contradicts_itself_is_left_alone(
    journal: Journal, backend: FilesystemBackend, metadata: Words, changes: dict[str, Any], left: str
) -> None:
    considered = await adopting(journal).consider(
        backend, facts_of(delivered(new(1)), metadata=metadata, **changes)
    )
    assert (considered.left, considered.adopted) == (left, None)
    assert await journal.cameras.all(NOW) == []


async def test_a_row_that_is_there_is_never_overwritten(journal: Journal, backend: FilesystemBackend) -> None:
    fact = new(1)
    segment = await record(journal, fact, "FILESYSTEM")
    other = Proof(path="elsewhere.ts", sha256=bytes(32), etag=None)
    assert await journal.copies.verified(segment.id, "FILESYSTEM", other, NOW)
    before = await fresh(journal, segment)
    considered = await adopting(journal).consider(backend, facts_of(delivered(fact)))
    assert considered.left is Left.CONTRADICTORY
    assert await fresh(journal, segment) == before


async def test_a_copy_given_up_comes_back_and_one_being_deleted_does_not(
    journal: Journal, backend: FilesystemBackend
) -> None:
    fact = new(1)
    segment = await record(journal, fact, "FILESYSTEM")
    await journal.copies.failed(segment.id, "FILESYSTEM", "given up")
    found = facts_of(delivered(fact))
    assert (await adopting(journal).consider(backend, found)).word == Verdict.ADDED
    assert (await fresh(journal, segment)).copies[0].state == "stored"
    await journal.deletions.begin(segment.id)
    assert (await adopting(journal).consider(backend, found)).word == Verdict.LEAVING
    assert (await fresh(journal, segment)).copies[0].state == "deleting"


async def test_a_spare_name_counts_before_the_spoiled_one_it_stands_for(
    journal: Journal, backend: FilesystemBackend
) -> None:
    was = delivered(new(1))
    for spare in (0, 1, 0):
        await adopting(journal).consider(backend, facts_of(was, spare=spare))
    segment = await journal.segments.by_id(was.id)
    assert segment is not None
    assert segment.copies[0].path == spare_key(object_key(PREFIX, was), 1)


OLD = dict.fromkeys(("host", "size", "created", "codec", "stream", "root", "path", "mtime"))


async def test_an_object_of_an_earlier_version_finds_its_file_with_the_next_scan(
    journal: Journal, backend: FilesystemBackend
) -> None:
    await journal.cameras.ensure(GATE)  # the scan has seen its folder
    fact = new(1)
    was = delivered(fact)
    adopted = await adopting(journal).adopt_object(backend, facts_of(was, metadata=OLD))
    assert adopted is not None and (adopted.id, adopted.source.root) == (was.id, "")
    recorded = await journal.segments.record(fact, ("FILESYSTEM",), NOW)
    segment = recorded.segment
    assert (recorded.created, segment.id, segment.source) == (False, was.id, fact.source)
    assert (segment.source_state, segment.codec) == ("present", fact.codec)
    assert [copy.state for copy in segment.copies] == ["stored"]


async def test_an_object_without_a_word_is_taken_where_somebody_says_that_all_are_ours(
    journal: Journal, backend: FilesystemBackend, tmp_path: Path
) -> None:
    data = b"footage"
    was = replace(delivered(new(1)), sha256=hashlib.sha256(data).digest())
    file = tmp_path / "store" / object_key(PREFIX, was)
    file.parent.mkdir(parents=True)
    file.write_bytes(data)
    facts = await backend.stat(object_key(PREFIX, was))
    assert facts.metadata == {}
    assert (await adopting(journal).consider(backend, facts)).left is Left.NOBODYS
    segment = await adopting(journal, unlabelled=True).adopt_object(backend, facts)
    assert segment is not None
    assert (segment.camera_id, segment.span, segment.sha256) == (was.camera_id, was.span, was.sha256)
    assert (await adopting(journal, unlabelled=True).consider(backend, facts)).word == Verdict.KNOWN
    file.write_bytes(b"rotten!")
    other = await journal.adoption.by_content(GATE.id, was.span.start, hashlib.sha256(data).digest())
    assert other == segment


async def test_a_hold_protects_what_is_adopted(journal: Journal, backend: FilesystemBackend) -> None:
    assert await journal.held_back.recover([kept_hold(GATE)], NOW) == 1
    segment = await adopting(journal).adopt_object(backend, facts_of(delivered(new(1))))
    assert segment is not None and segment.held
    with pytest.raises(Conflict):
        await journal.deletions.begin(segment.id)


# The catalog


async def test_the_catalog_fills_in_what_objects_do_not_say(
    journal: Journal, backend: FilesystemBackend
) -> None:
    was = delivered(new(1))
    await adopting(journal).adopt_object(backend, facts_of(was, metadata={"created": None}))
    earlier = NOW - timedelta(days=3)
    path = object_key(PREFIX, was)
    stored = CatalogCopy(backend="FILESYSTEM", path=path, state="verified", stored_at=earlier)
    away = CatalogCopy(backend="MILESTONE", path="m", state="verified", stored_at=earlier)
    unknown = CatalogCopy(backend="FILESYSTEM", path="lost", state="stored", stored_at=earlier)
    rows = [row(was, copies=(stored, away), flags=("duplicate",)), row(delivered(new(2)), copies=(unknown,))]
    gone = CatalogCopy(backend="FILESYSTEM", path="x", state="gone")
    assert found_in(row(was, copies=(gone,)), CameraBook(HOST, ())) is None
    found = [each for one in rows if (each := found_in(one, CameraBook(HOST, ()))) is not None]
    outcomes = await journal.adoption.complete(found, NOW)
    assert [each.verdict for each in outcomes] == [Verdict.ADDED, Verdict.ADOPTED]
    known, other = [await journal.segments.by_id(each.id) for each in found]
    assert known is not None and other is not None
    assert (known.created_at, known.flags) == (earlier, frozenset({SegmentFlag.DUPLICATE}))
    assert {(copy.backend, copy.state) for copy in known.copies} == {
        ("FILESYSTEM", "stored"),
        ("MILESTONE", "stored"),
    }
    assert (other.source.root, [copy.state for copy in other.copies]) == ("", ["stored"])


def row(segment: Segment, **changes: Any) -> CatalogRow:
    assert segment.sha256 is not None
    usual = CatalogRow(
        id=segment.id,
        host_id=HOST,
        camera_id=segment.camera_id,
        start_time=segment.span.start,
        end_time=segment.span.end,
        duration_seconds=10,
        size_bytes=segment.size_bytes,
        storage_backend="FILESYSTEM",
        storage_path="p",
        checksum=segment.sha256.hex(),
        created_at=NOW - timedelta(days=3),
    )
    return replace(usual, **changes)


def test_held_segments_that_follow_each_other_are_one_hold() -> None:
    spans = [span(number) for number in (5, 1, 0, 2)]
    assert joined(spans) == [TimeSpan(spans[2].start, spans[3].end), spans[0]]


# Labels


@given(
    root=st.binary(min_size=1, max_size=200).filter(lambda raw: 0 not in raw),
    path=st.binary(min_size=1, max_size=900).filter(lambda raw: 0 not in raw),
    mtime_ns=st.integers(-(2**63), 2**63 - 1),
)
def test_a_label_says_the_same_when_it_is_read_and_never_too_much(
    root: bytes, path: bytes, mtime_ns: int
) -> None:
    fact = new(1)
    identity = replace(fact.source.identity, mtime_ns=mtime_ns)
    names = (raw.decode(errors="surrogateescape") for raw in (root, path))
    source = SourceFile(**dict(zip(("root", "path"), names, strict=True)), identity=identity)
    was = delivered(replace(fact, source=source, flags=frozenset({SegmentFlag.PARTIAL})))
    said = written(was, HOST)
    assert sum(len(name) + len(value) for name, value in said.items()) <= MOST_BYTES
    assert "".join([*said, *said.values()]).isascii()
    label = understood(said)
    assert (label.segment_id, label.host, label.camera_id) == (was.id, HOST, was.camera_id)
    assert (label.span, label.sha256, label.size_bytes) == (was.span, was.sha256, was.size_bytes)
    assert (label.flags, label.codec, label.stream) == (was.flags, was.codec, was.stream)
    assert label.created_at == was.created_at
    if label.source is None:
        assert len(path) > 300
    else:
        assert (label.source.root, label.source.path) == (source.root, source.path)
        assert label.source.mtime_ns == mtime_ns


@given(st.dictionaries(st.sampled_from(sorted(written(delivered(new(1)), HOST))), st.text(max_size=80)))
def test_nonsense_in_metadata_is_no_error(metadata: dict[str, str]) -> None:
    label = understood(metadata)
    assert label.size_bytes is None or abs(label.size_bytes) <= 2**63
