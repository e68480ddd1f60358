"""The bytes of a put on their way to a backend: read in blocks, paced, timed, and held to their hash.

What flows through: blocks of one open file, or of bytes already in memory. It does not know where they go.
Nothing larger than one block is held for a file, however large the file is.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cctv_storaged.backends.base import Payload
from cctv_storaged.errors import BackendUnavailable, SegmentError, SourceChanged
from cctv_storaged.pacing import ByteBudget

MIB = 1024 * 1024
BLOCK_BYTES = MIB
PACED_BLOCK_BYTES = 64 * 1024  # small, so that a slow line is filled evenly
SINGLE_PUT_MAX_BYTES = 64 * MIB
PART_BYTES = 64 * MIB  # few requests, and the first part's hash comes with the whole's
PARTS_MAX = 10_000  # S3's limit for one upload
LEAST_RATE_BYTES_PER_S = 256 * 1024  # a line slower than this counts as broken


@dataclass(frozen=True, slots=True, kw_only=True)
class Digests:
    """SHA-256 of a whole file and, where it will go up in parts, of each part."""

    sha256: bytes
    part_sha256: tuple[bytes, ...]


def part_size_bytes(size_bytes: int) -> int:
    """How large the parts of a multipart upload of so many bytes are (the last one may be smaller)."""
    least = -(-size_bytes // PARTS_MAX)
    return max(PART_BYTES, -(-least // MIB) * MIB)


def digest_file(descriptor: int, size_bytes: int) -> Digests:
    """Hash the first `size_bytes` of a file in one reading; parts only above `SINGLE_PUT_MAX_BYTES`.

    Raises SourceChanged where the file is shorter.
    """
    if size_bytes <= SINGLE_PUT_MAX_BYTES:
        return Digests(sha256=_digest(descriptor, 0, size_bytes), part_sha256=())
    whole, parts = hashlib.sha256(), []
    part_size = part_size_bytes(size_bytes)
    for start in range(0, size_bytes, part_size):
        part = hashlib.sha256() if start else whole  # up to its end the first part is the whole
        for block in read_blocks(descriptor, start, min(part_size, size_bytes - start)):
            whole.update(block)
            if part is not whole:
                part.update(block)
        parts.append(part.digest())
    return Digests(sha256=whole.digest(), part_sha256=tuple(parts))


def read_blocks(
    descriptor: int, start: int, size_bytes: int, block_bytes: int = BLOCK_BYTES
) -> Iterator[memoryview]:
    """Exactly `size_bytes` from `start` on; every block lies in the same buffer, use it before the next."""
    buffer = memoryview(bytearray(min(block_bytes, size_bytes)))
    position, end = start, start + size_bytes
    while position < end:
        got = os.preadv(descriptor, [buffer[: end - position]], position)
        if got == 0:
            raise SourceChanged(f"the file ends at byte {position}, {end} were expected")
        yield buffer[:got]
        position += got


def _source_blocks(descriptor: int, start: int, size_bytes: int, block_bytes: int) -> Iterator[memoryview]:
    """The same with the recorder's disk named where it fails: the one who sends must not be blamed."""
    blocks = read_blocks(descriptor, start, size_bytes, block_bytes)
    while True:
        try:
            block = next(blocks, None)
        except OSError as exc:
            raise SegmentError(f"source cannot be read: {exc}") from exc
        if block is None:
            return
        yield block


def _digest(descriptor: int, start: int, size_bytes: int) -> bytes:
    digest = hashlib.sha256()
    for block in read_blocks(descriptor, start, size_bytes):
        digest.update(block)
    return digest.digest()


class Deadline:
    """The latest moment for one object. Waiting for the budget does not count: that is our own wish."""

    def __init__(self, limit_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._limit_s = limit_s
        self._monotonic = monotonic
        self._end = monotonic() + limit_s

    @classmethod
    def for_bytes(cls, size_bytes: int, base_s: float) -> "Deadline":
        return cls(base_s + size_bytes / LEAST_RATE_BYTES_PER_S)

    def remaining_s(self) -> float:
        """Seconds left, always above zero; BackendUnavailable once there are none."""
        remaining_s = self._end - self._monotonic()
        if remaining_s <= 0:
            raise BackendUnavailable(f"too slow: not done within {self._limit_s:.0f} s", reason="network")
        return remaining_s

    def pause(self, budget: ByteBudget, size_bytes: int) -> None:
        """Draw from the budget with the watch stopped."""
        before = self._monotonic()
        budget.draw(size_bytes)
        self._end += self._monotonic() - before


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Part or whole of a payload: where its bytes are and what their SHA-256 must be."""

    descriptor: int
    data: bytes | None
    start: int
    size_bytes: int
    sha256: bytes

    def blocks(self, block_bytes: int) -> Iterator[memoryview]:
        """Raises SourceChanged where the file is shorter, SegmentError where its disk does not give it."""
        if self.data is None:
            yield from _source_blocks(self.descriptor, self.start, self.size_bytes, block_bytes)
            return
        view = memoryview(self.data)[self.start : self.start + self.size_bytes]
        for start in range(0, self.size_bytes, block_bytes):
            yield view[start : start + block_bytes]

    def is_true(self) -> bool:
        """Whether the source still reads as it was hashed."""
        if self.data is not None:
            return True
        try:
            return _digest(self.descriptor, self.start, self.size_bytes) == self.sha256
        except (SourceChanged, OSError):
            return False


def whole(payload: Payload) -> Stretch:
    return Stretch(
        descriptor=payload.descriptor,
        data=payload.data,
        start=0,
        size_bytes=payload.size_bytes,
        sha256=payload.sha256,
    )


def parts(payload: Payload) -> tuple[Stretch, ...]:
    """The payload's parts with their digests; reads the file where the payload does not bring them."""
    digests = payload.part_sha256 or _part_digests(payload)
    size = part_size_bytes(payload.size_bytes)
    return tuple(
        Stretch(
            descriptor=payload.descriptor,
            data=payload.data,
            start=number * size,
            size_bytes=min(size, payload.size_bytes - number * size),
            sha256=digest,
        )
        for number, digest in enumerate(digests)
    )


def _part_digests(payload: Payload) -> tuple[bytes, ...]:
    digests = digest_file(payload.descriptor, payload.size_bytes)
    if digests.sha256 != payload.sha256:
        raise SourceChanged("the file no longer has the bytes that were hashed")
    return digests.part_sha256


@dataclass(frozen=True, slots=True)
class Extent:
    """A piece of an open file that the kernel may send without this process touching it (sendfile(2))."""

    descriptor: int
    start: int
    size_bytes: int

    def blocks(self) -> Iterator[memoryview]:
        """The same for whoever must have the bytes."""
        return _source_blocks(self.descriptor, self.start, self.size_bytes, BLOCK_BYTES)


class Body:
    """A stretch as a request body: an iterable of blocks, or of extents, that may be gone through once.

    With `prove` the blocks are hashed as they pass and the last one is held back until the hash is right:
    a server that does not check can then never be left with a whole object of wrong bytes.
    """

    def __init__(self, stretch: Stretch, *, budget: ByteBudget, deadline: Deadline, prove: bool) -> None:
        self.stretch = stretch
        self.deadline = deadline
        self._budget = budget
        self._prove = prove and stretch.data is None  # bytes in memory are the bytes that were hashed

    def __len__(self) -> int:
        return self.stretch.size_bytes

    def __bool__(self) -> bool:
        return True  # an empty body is a body

    def __iter__(self) -> Iterator[memoryview]:
        blocks = self.stretch.blocks(self._block_bytes)
        for block in self._proven(blocks) if self._prove else blocks:
            self._await_turn(len(block))
            yield block

    @property
    def in_file(self) -> bool:
        """Whether nobody needs to see the bytes on their way: then `extents` serves as well."""
        return self.stretch.data is None and not self._prove

    def extents(self) -> Iterator[Extent]:
        """The body as pieces of its file, paced and timed like the blocks."""
        position, end, step = (
            self.stretch.start,
            self.stretch.start + self.stretch.size_bytes,
            self._block_bytes,
        )
        while position < end:
            size = min(step, end - position)
            self._await_turn(size)
            yield Extent(self.stretch.descriptor, position, size)
            position += size

    @property
    def _block_bytes(self) -> int:
        return PACED_BLOCK_BYTES if self._budget.limited else BLOCK_BYTES

    def _await_turn(self, size_bytes: int) -> None:
        self.deadline.pause(self._budget, size_bytes)
        self.deadline.remaining_s()

    def _proven(self, blocks: Iterator[memoryview]) -> Iterator[memoryview]:
        digest, left = hashlib.sha256(), self.stretch.size_bytes
        for block in blocks:
            digest.update(block)
            left -= len(block)
            if left == 0 and digest.digest() != self.stretch.sha256:
                raise SourceChanged("the file no longer has the bytes that were hashed")
            yield block
