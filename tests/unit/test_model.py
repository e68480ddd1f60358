"""Names and ids that everything else stands on follow from a segment alone."""

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cctv_storaged.model import (
    FileIdentity,
    Segment,
    SourceFile,
    SourceState,
    TimeSpan,
    camera_id_for,
    is_object_key,
    object_key,
    segment_id_for,
)

FIRST, LAST = datetime(1971, 1, 1), datetime(2200, 1, 1)  # noqa: DTZ001 - hypothesis wants naive bounds
moments = st.datetimes(FIRST, LAST, timezones=st.just(UTC))


def segment(start: datetime, seconds: float = 10.0, sha256: bytes = bytes(32)) -> Segment:
    return Segment(
        id=uuid.UUID(int=1),
        camera_id=uuid.UUID("123e4567-e89b-12d3-a456-426614174000"),
        span=TimeSpan(start, start + timedelta(seconds=seconds)),
        source=SourceFile(
            root="/r", path="a.ts", identity=FileIdentity(device=1, inode=2, size_bytes=3, mtime_ns=4)
        ),
        source_state=SourceState.PRESENT,
        flags=frozenset(),
        codec=None,
        sha256=sha256,
        created_at=start,
    )


def test_the_key_is_the_contracts() -> None:
    made = object_key(
        "nvr/", segment(datetime(2026, 11, 1, 2, 3, 4, 500_000, tzinfo=UTC), sha256=b"\xab" * 32)
    )
    assert made == (
        "nvr/123e4567-e89b-12d3-a456-426614174000/2026/11/01/02/20261101T020304.500000Z_10000_abababababab.ts"
    )


@given(
    moments,
    st.floats(0.001, 86_400),
    st.binary(min_size=32, max_size=32),
    st.sampled_from(["", "p/", "a/b/"]),
)
def test_every_key_is_known_as_ours(start: datetime, seconds: float, sha256: bytes, prefix: str) -> None:
    key = object_key(prefix, segment(start, seconds, sha256))
    assert is_object_key(prefix, key)
    assert not is_object_key("other/", key)


@pytest.mark.parametrize("key", ["", "backup.tar", "db/2026/11/dump.sql", "a.ts", "x/2026/11/01/02/y.ts"])
def test_what_others_keep_in_the_bucket_is_not_ours(key: str) -> None:
    assert not is_object_key("", key)


@given(st.text(), st.text())
def test_a_camera_keeps_its_id_and_shares_it_with_none(one: str, other: str) -> None:
    assert camera_id_for("host", one) == camera_id_for("host", one)
    assert (camera_id_for("host", one) == camera_id_for("host", other)) == (one == other)


def test_a_segment_keeps_its_id_on_a_restored_disk_and_changes_it_when_rewritten() -> None:
    source = segment(datetime(2026, 1, 1, tzinfo=UTC)).source
    moved = replace(source, identity=replace(source.identity, device=9, inode=9))
    grown = replace(source, identity=replace(source.identity, size_bytes=9))
    touched = replace(source, identity=replace(source.identity, mtime_ns=9))
    assert segment_id_for("h", source) == segment_id_for("h", moved)
    assert len({segment_id_for("h", each) for each in (source, grown, touched)}) == 3


def test_a_span_is_never_empty_and_always_utc() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    with pytest.raises(ValueError, match="ends after"):
        TimeSpan(now, now)
    with pytest.raises(ValueError, match="aware UTC"):
        TimeSpan(now.replace(tzinfo=None), now)
