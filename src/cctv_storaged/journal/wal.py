"""Reads SQLite's write-ahead log without SQLite, to see whether it still says all it once said.

SQLite stops reading a log at the first frame that does not fit and says nothing, whether that is the torn
end of a commit nobody was told of, or damage in front of a thousand that were. Every frame carries the
checksum of all before it, so the frames behind a damaged one can still be proven one by one.

Format: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
"""

import mmap
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HEADER = struct.Struct(">8I")  # magic, version, page size, checkpoint number, 2 salts, 2 checksums
FRAME = struct.Struct(">6I")  # page number, pages in the file after a commit or 0, 2 salts, 2 checksums
_ORDERS = {0x377F0682: "<", 0x377F0683: ">"}  # by magic number: the order of bytes in the checksums
LAST_COMMIT_AND_MORE = 2
"""One commit behind a break may be the last, torn by a power cut and never acknowledged; two are damage."""

Sums = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One page as a commit wrote it."""

    page: int  # counted from 1
    pages_after_commit: int  # size of the database if this frame ends a commit, else 0
    intact: bool  # fits the checksum of the frame before it
    data: memoryview


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """The frames of one log, oldest first, and how many of them SQLite will use."""

    frames: tuple[Frame, ...]
    replayed: int

    @property
    def unreadable_commits(self) -> int:
        """Commits that stand in the log behind a break, so that SQLite does not see them."""
        return sum(1 for frame in self.frames[self.replayed :] if frame.pages_after_commit)

    @property
    def damaged(self) -> bool:
        """Whether commits that were acknowledged are cut off."""
        return self.unreadable_commits >= LAST_COMMIT_AND_MORE

    def salvageable(self) -> tuple[Frame, ...]:
        """Frames to apply: what SQLite uses, and where it would stop too soon, whatever else is intact."""
        if not self.damaged:
            return self.frames[: self.replayed]
        intact = [frame for frame in self.frames if frame.intact]
        ends = [place for place, frame in enumerate(intact) if frame.pages_after_commit]
        return tuple(intact[: ends[-1] + 1]) if ends else ()


def read_log(path: Path, page_bytes: int) -> Log:
    """The log at `path`; an empty one where there is none."""
    content = _content(path)
    frames = tuple(_frames(content, page_bytes))
    return Log(frames=frames, replayed=_replayed(frames) if _header_fits(content, page_bytes) else 0)


def _content(path: Path) -> memoryview:
    try:
        with path.open("rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (FileNotFoundError, ValueError):  # ValueError: an empty file cannot be mapped
        return memoryview(b"")


def _frames(content: memoryview, page_bytes: int) -> Iterator[Frame]:
    """Frames of the log's current round; those of an earlier one, to be overwritten, have other salts."""
    if len(content) < HEADER.size + FRAME.size:
        return
    order = _byte_order(content, page_bytes)
    before: Sums = HEADER.unpack_from(content)[6:8]
    salts = _salts(content, page_bytes)
    for at in range(HEADER.size, len(content) - FRAME.size - page_bytes + 1, FRAME.size + page_bytes):
        page, pages_after_commit, *frame_salts, sum1, sum2 = FRAME.unpack_from(content, at)
        data = content[at + FRAME.size : at + FRAME.size + page_bytes]
        if tuple(frame_salts) == salts and page > 0:
            intact = _checksum(data, _checksum(content[at : at + 8], before, order), order) == (sum1, sum2)
            yield Frame(page=page, pages_after_commit=pages_after_commit, intact=intact, data=data)
        before = (sum1, sum2)


def _salts(content: memoryview, page_bytes: int) -> Sums:
    """From the header, or where that is damaged from the first frame, which belongs to the current round."""
    if _header_fits(content, page_bytes):
        return HEADER.unpack_from(content)[4:6]
    salts: Sums = FRAME.unpack_from(content, HEADER.size)[2:4]
    return salts


def _header_fits(content: memoryview, page_bytes: int) -> bool:
    if len(content) < HEADER.size:
        return False
    magic, _, size, *_, sum1, sum2 = HEADER.unpack_from(content)
    order = _ORDERS.get(magic)
    return (
        order is not None
        and size == page_bytes
        and _checksum(content[: HEADER.size - 8], (0, 0), order) == (sum1, sum2)
    )


def _byte_order(content: memoryview, page_bytes: int) -> str:
    """Of the words that are summed up: the order of the host that wrote the log, which its header names."""
    if _header_fits(content, page_bytes):
        return _ORDERS[HEADER.unpack_from(content)[0]]
    return ">" if sys.byteorder == "big" else "<"


def _replayed(frames: tuple[Frame, ...]) -> int:
    """SQLite's own rule: up to the last commit before the first frame that does not fit."""
    replayed = 0
    for place, frame in enumerate(frames, start=1):
        if not frame.intact:
            break
        if frame.pages_after_commit:
            replayed = place
    return replayed


def _checksum(data: memoryview, before: Sums, order: str) -> Sums:
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    one, two = before
    for even, odd in zip(words[::2], words[1::2], strict=True):
        one = (one + even + two) & 0xFFFFFFFF
        two = (two + odd + one) & 0xFFFFFFFF
    return one, two
