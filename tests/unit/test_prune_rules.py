"""Which sources may go: a table of every reason to keep one."""

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from cctv_storaged.model import (
    Copy,
    CopyState,
    FileIdentity,
    Segment,
    SourceFile,
    SourceState,
    TimeSpan,
)
from cctv_storaged.prune import PruneRules, may_prune

NOW = datetime(2026, 11, 22, tzinfo=UTC)
DAY = timedelta(days=1)
VERIFIED = Copy(backend="S3", state=CopyState.VERIFIED, path="key", verified_at=NOW - 2 * DAY)
RULES = PruneRules(enabled=True, grace=DAY, keep=timedelta(0), required=("S3",))


def segment(**changes: object) -> Segment:
    plain = Segment(
        id=uuid.uuid4(),
        camera_id=uuid.uuid4(),
        span=TimeSpan(NOW - 3 * DAY, NOW - 3 * DAY + timedelta(seconds=10)),
        source=SourceFile(
            root="/r", path="a.ts", identity=FileIdentity(device=1, inode=2, size_bytes=3, mtime_ns=4)
        ),
        source_state=SourceState.PRESENT,
        flags=frozenset(),
        codec="h264",
        sha256=bytes(32),
        created_at=NOW - 3 * DAY,
        copies=(VERIFIED,),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]  # the table below names fields


def test_a_source_verified_everywhere_past_its_grace_may_go() -> None:
    assert may_prune(segment(), RULES, NOW)


@pytest.mark.parametrize(
    ("why", "kept", "rules"),
    [
        ("pruning is switched off", segment(), replace(RULES, enabled=False)),
        ("no backend is required: nothing would hold it", segment(), replace(RULES, required=())),
        ("a hold", segment(held=True), RULES),
        ("no hash to compare by", segment(sha256=None), RULES),
        ("the grace is not over", segment(), replace(RULES, grace=3 * DAY)),
        ("the footage is younger than what is kept", segment(), replace(RULES, keep=4 * DAY)),
        ("no copy", segment(copies=()), RULES),
        ("the copy is only stored", segment(copies=(replace(VERIFIED, state=CopyState.STORED),)), RULES),
        ("the copy failed", segment(copies=(replace(VERIFIED, state=CopyState.FAILED),)), RULES),
        ("the copy is elsewhere", segment(copies=(replace(VERIFIED, backend="MINIO"),)), RULES),
        ("one of two required is missing", segment(), replace(RULES, required=("S3", "MILESTONE"))),
        ("the recorder wrote it anew", segment(source_state=SourceState.REPLACED), RULES),
        ("it is gone already", segment(source_state=SourceState.PRUNED), RULES),
    ],
)
def test_any_doubt_keeps_the_source(why: str, kept: Segment, rules: PruneRules) -> None:
    assert not may_prune(kept, rules, NOW), why
