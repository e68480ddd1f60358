"""What the catalog is told of a segment: one row, named after its best copy."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from cctv_storaged.cataloguing import catalog_row
from cctv_storaged.model import (
    Copy,
    CopyState,
    FileIdentity,
    Segment,
    SourceFile,
    SourceState,
    TimeSpan,
)

START = datetime(2026, 11, 1, 12, tzinfo=UTC)
IDENTITY = FileIdentity(device=1, inode=2, size_bytes=188, mtime_ns=3)


def segment(*copies: Copy, sha256: bytes | None = bytes(32)) -> Segment:
    return Segment(
        id=UUID(int=1),
        camera_id=UUID(int=2),
        span=TimeSpan(START, START + timedelta(seconds=10)),
        source=SourceFile(root="/recordings", path="gate/a.ts", identity=IDENTITY),
        source_state=SourceState.PRESENT,
        flags=frozenset(),
        codec="h264",
        sha256=sha256,
        created_at=START,
        copies=copies,
    )


def copy(backend: str, state: CopyState = CopyState.VERIFIED, path: str | None = "p") -> Copy:
    return Copy(backend=backend, state=state, path=path)


@pytest.mark.parametrize(
    ("copies", "backend"),
    [
        ((copy("MILESTONE"), copy("MINIO")), "MINIO"),
        ((copy("MILESTONE"), copy("S3")), "S3"),
        ((copy("MILESTONE"), copy("S3", CopyState.GONE)), "MILESTONE"),
        ((copy("MILESTONE", CopyState.FAILED), copy("S3", CopyState.STORED)), "S3"),
        ((copy("MILESTONE", CopyState.GONE), copy("S3", CopyState.GONE)), "S3"),
        ((copy("MILESTONE"), copy("S3", CopyState.PENDING, None)), "MILESTONE"),
    ],
)
def test_the_object_store_stands_for_a_segment_wherever_it_has_it(
    copies: tuple[Copy, ...], backend: str
) -> None:
    """Contract, section 5: in mode BOTH a segment is one row of the object store, with two copies."""
    row = catalog_row(segment(*copies), "nvr-01")
    assert row is not None
    assert row.storage_backend == backend
    assert len(row.copies) == 2


def test_what_no_backend_was_ever_given_is_no_row() -> None:
    assert catalog_row(segment(copy("S3", CopyState.PENDING, None)), "nvr-01") is None
    assert catalog_row(segment(copy("S3"), sha256=None), "nvr-01") is None
