"""A recorder that closes files in every way real ones do, and keeps a ledger of what it wrote.

Each segment is real footage with one stuffing packet of its own at the end (PID 0x1FFF, ISO/IEC 13818-1
2.4.3.3), so that every file has other bytes and none is a duplicate of another.
"""

import hashlib
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

STUFFING_HEADER = bytes((0x47, 0x1F, 0xFF, 0x10))


@dataclass(frozen=True, slots=True)
class Written:
    """One closed file."""

    path: str  # relative to the recorder root
    sha256: str
    size_bytes: int
    start: datetime


def unique(footage: bytes, salt: str) -> bytes:
    """The same film with bytes of its own."""
    payload = random.Random(salt).randbytes(184)
    return footage + STUFFING_HEADER + payload


def write_direct(path: Path, data: bytes, aside: Path) -> None:
    """ffmpeg -f segment, MediaMTX: the final name from the start."""
    with path.open("wb") as file:
        file.write(data[: len(data) // 2])
        file.flush()
        file.write(data[len(data) // 2 :])


def write_renamed(path: Path, data: bytes, aside: Path) -> None:
    """ffmpeg -f hls -hls_flags temp_file: another name in the same folder, then rename."""
    draft = path.with_name(path.name + ".tmp")
    draft.write_bytes(data)
    draft.rename(path)


def write_moved(path: Path, data: bytes, aside: Path) -> None:
    """Written outside the watched tree, then moved in."""
    draft = aside / f"{hashlib.sha256(str(path).encode()).hexdigest()}.ts"
    draft.write_bytes(data)
    draft.rename(path)


def write_linked(path: Path, data: bytes, aside: Path) -> None:
    """Written outside, linked in: no close event inside the tree at all."""
    draft = aside / f"{hashlib.sha256(str(path).encode()).hexdigest()}.ts"
    draft.write_bytes(data)
    os.link(draft, path)
    draft.unlink()


STYLES: tuple[Callable[[Path, bytes, Path], None], ...] = (
    write_direct,
    write_renamed,
    write_moved,
    write_linked,
)


@dataclass(slots=True)
class FakeCam:
    """Writes segments of `camera` below `root` and remembers them. `aside` is on the same file system."""

    root: Path
    camera: str
    footage: bytes
    aside: Path
    start: datetime = datetime(2026, 11, 1, tzinfo=UTC)
    step: timedelta = timedelta(seconds=10)
    written: list[Written] = field(default_factory=list)

    def write(self, style: Callable[[Path, bytes, Path], None] = write_direct) -> Written:
        """The next segment."""
        moment = self.start + self.step * len(self.written)
        path = f"{self.camera}/{moment:%Y-%m-%d}/{moment:%H-%M-%S}.ts"
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        self.aside.mkdir(parents=True, exist_ok=True)
        data = unique(self.footage, path)
        style(target, data, self.aside)
        entry = Written(path, hashlib.sha256(data).hexdigest(), len(data), moment)
        self.written.append(entry)
        return entry
