"""Made-up segments for the journal's tests: a clockwork recorder that writes ten seconds a file."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cctv_storaged.journal.copies import Proof
from cctv_storaged.journal.journal import Journal
from cctv_storaged.model import (
    Camera,
    FileIdentity,
    NewSegment,
    Segment,
    SourceFile,
    TimeSpan,
    camera_id_for,
)

HOST = "test-host"
ROOT = "/recordings"
START = datetime(2026, 1, 23, 10, tzinfo=UTC)
NOW = datetime(2026, 1, 23, 12, tzinfo=UTC)
LENGTH = timedelta(seconds=10)
GATE = Camera(id=camera_id_for(HOST, "gate"), name="gate", folder="gate")
YARD = Camera(id=camera_id_for(HOST, "yard"), name="yard", folder="yard")
ALWAYS = TimeSpan(datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))


def span(number: float, length: timedelta = LENGTH) -> TimeSpan:
    """The span of the `number`-th segment."""
    start = START + number * LENGTH
    return TimeSpan(start, start + length)


def new(
    number: int,
    camera: Camera = GATE,
    *,
    size_bytes: int = 1000,
    version: int = 0,
    path: str | None = None,
    at: TimeSpan | None = None,
) -> NewSegment:
    """The `number`-th segment of a camera; another `version` is the same name written later."""
    return NewSegment(
        camera=camera,
        span=at or span(number),
        source=SourceFile(
            root=ROOT,
            path=path or f"{camera.folder}/2026-01-23/{number:06}.ts",
            identity=FileIdentity(
                device=7,
                inode=1000 + number,
                size_bytes=size_bytes,
                mtime_ns=1_000_000_000 * number + version,
            ),
        ),
        codec="h264",
    )


def rewritten(earlier: NewSegment, *, size_bytes: int, at: TimeSpan | None = None) -> NewSegment:
    """The same name with other bytes, written a second later."""
    identity = replace(
        earlier.source.identity, size_bytes=size_bytes, mtime_ns=earlier.source.identity.mtime_ns + 10**9
    )
    return replace(earlier, span=at or earlier.span, source=replace(earlier.source, identity=identity))


def proof(segment: Segment, *, content: int | None = None) -> Proof:
    """What a backend would show for a segment; the same `content` gives the same bytes."""
    number = segment.source.identity.inode if content is None else content
    sha256 = number.to_bytes(32, "big")
    return Proof(path=f"recordings/{segment.camera_id}/{number}.ts", sha256=sha256, etag=f'"{number}"')


async def open_journal(folder: Path, *, reserve_bytes: int = 0) -> Journal:
    return await Journal.open(folder, HOST, NOW, reserve_bytes=reserve_bytes)


async def record(journal: Journal, segment: NewSegment, *backends: str) -> Segment:
    """Registers, by default with a copy at S3."""
    return (await journal.segments.record(segment, backends or ("S3",), NOW)).segment


async def deliver(journal: Journal, segment: Segment, *backends: str, at: datetime = NOW) -> None:
    """Brings verified copies about, by default at S3."""
    for backend in backends or ("S3",):
        assert await journal.copies.verified(segment.id, backend, proof(segment), at)


async def fresh(journal: Journal, segment: Segment) -> Segment:
    """The segment as the journal knows it now."""
    found = await journal.segments.by_id(segment.id)
    assert found is not None
    return found
