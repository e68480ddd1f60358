"""Bytes on their way: whole, in bounds, paced, timed, and never past a wrong hash."""

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cctv_storaged.backends.body import (
    MIB,
    PACED_BLOCK_BYTES,
    PART_BYTES,
    PARTS_MAX,
    SINGLE_PUT_MAX_BYTES,
    Body,
    Deadline,
    Stretch,
    digest_file,
    part_size_bytes,
)
from cctv_storaged.errors import BackendUnavailable, SourceChanged
from cctv_storaged.pacing import ByteBudget

DATA = hashlib.shake_128(b"body").digest(3 * MIB + 17)


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "a.ts"
    path.write_bytes(DATA)
    opened = os.open(path, os.O_RDWR)
    yield opened
    os.close(opened)


def stretch(descriptor: int, start: int = 0, size: int = len(DATA), data: bytes | None = None) -> Stretch:
    digest = hashlib.sha256(DATA[start : start + size]).digest()
    return Stretch(descriptor=descriptor, data=data, start=start, size_bytes=size, sha256=digest)


def body(of: Stretch, *, budget: ByteBudget | None = None, prove: bool = False, limit_s: float = 60) -> Body:
    return Body(of, budget=budget or ByteBudget(None), deadline=Deadline(limit_s), prove=prove)


def joined(of: Body) -> bytes:
    return b"".join(bytes(block) for block in of)


@pytest.mark.parametrize("prove", [True, False])
@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize(("start", "size"), [(0, len(DATA)), (5, 1), (MIB, MIB), (2 * MIB, MIB + 17)])
def test_a_body_is_its_stretch_and_leaves_the_files_offset_alone(
    descriptor: int, prove: bool, in_memory: bool, start: int, size: int
) -> None:
    of = stretch(descriptor, start, size, DATA if in_memory else None)
    assert joined(body(of, prove=prove)) == DATA[start : start + size]
    assert len(body(of)) == size
    assert os.lseek(descriptor, 0, os.SEEK_CUR) == 0


def test_a_proven_body_of_a_rewritten_file_stays_incomplete(descriptor: int) -> None:
    os.pwrite(descriptor, b"!", 10)
    sent = 0
    with pytest.raises(SourceChanged):
        for block in body(stretch(descriptor), prove=True):
            sent += len(block)
    assert sent < len(DATA)
    assert not stretch(descriptor).is_true()


def test_a_body_of_a_file_that_became_shorter_ends_with_source_changed(descriptor: int) -> None:
    os.truncate(descriptor, MIB)
    with pytest.raises(SourceChanged):
        joined(body(stretch(descriptor)))
    assert not stretch(descriptor).is_true()


def test_a_limited_body_draws_for_every_byte_before_it_is_sent(descriptor: int) -> None:
    slept: list[float] = []
    budget = ByteBudget(MIB, monotonic=lambda: sum(slept), sleep=slept.append)
    sizes = [len(block) for block in body(stretch(descriptor), budget=budget)]
    assert max(sizes) == PACED_BLOCK_BYTES
    assert sum(slept) == pytest.approx(2, abs=0.1)


def test_waiting_for_the_budget_does_not_count_against_the_deadline(descriptor: int) -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    budget = ByteBudget(1000, monotonic=lambda: now[0], sleep=sleep)
    deadline = Deadline(1.0, monotonic=lambda: now[0])
    paced = Body(stretch(descriptor, 0, MIB), budget=budget, deadline=deadline, prove=False)
    assert joined(paced) == DATA[:MIB]
    assert now[0] > 1000
    now[0] += 1.0
    with pytest.raises(BackendUnavailable):
        deadline.remaining_s()


def test_the_deadline_grows_with_the_object() -> None:
    for size, limit in ((0, 30), (256 * 1024 * 100, 130)):
        before = time.monotonic()
        deadline = Deadline.for_bytes(size, 30)
        left, after = deadline.remaining_s(), time.monotonic()
        assert limit - (after - before) - 0.001 <= left <= limit + 0.001


@pytest.mark.parametrize(
    ("size", "part"),
    [
        (SINGLE_PUT_MAX_BYTES + 1, PART_BYTES),
        (PART_BYTES * PARTS_MAX, PART_BYTES),
        (PART_BYTES * PARTS_MAX + 1, PART_BYTES + MIB),
        (5 * 1024**4, 525 * MIB),
    ],
)
def test_there_are_never_more_parts_than_s3_allows(size: int, part: int) -> None:
    assert part_size_bytes(size) == part
    assert -(-size // part) <= PARTS_MAX


@pytest.mark.parametrize("extra", [0, 1, PART_BYTES])
def test_one_reading_gives_the_whole_hash_and_the_parts(tmp_path: Path, extra: int) -> None:
    path = tmp_path / "large.ts"
    size = SINGLE_PUT_MAX_BYTES + extra
    data = hashlib.shake_128(b"large").digest(size)
    path.write_bytes(data)
    with path.open("rb") as opened:
        digests = digest_file(opened.fileno(), size)
    assert digests.sha256 == hashlib.sha256(data).digest()
    expected = [hashlib.sha256(data[at : at + PART_BYTES]).digest() for at in range(0, size, PART_BYTES)]
    assert list(digests.part_sha256) == (expected if extra else [])
