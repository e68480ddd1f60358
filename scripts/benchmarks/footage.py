"""Sets of files to deliver: real footage, each file with bytes of its own and of exactly the wanted size.

Encoded by ffmpeg at a constant rate and filled up with stuffing packets (PID 0x1FFF, ISO/IEC 13818-1
2.4.3.3) spread over the file, as a multiplexer of constant rate does. One of them holds random bytes.
"""

import os
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from tests.fakes.fakecam import STUFFING_HEADER
from tests.footage import cached_ts

PACKET_BYTES = 188
STUFFING = STUFFING_HEADER + b"\xff" * (PACKET_BYTES - len(STUFFING_HEADER))
FIRST = datetime(2026, 3, 5, tzinfo=UTC)
CAMERAS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSet:
    """So many files of one kind. `packets` of 188 bytes each; `seconds` of footage at `bitrate`."""

    count: int
    packets: int
    seconds: int
    bitrate: str  # of the video, for ffmpeg

    @property
    def file_bytes(self) -> int:
        return self.packets * PACKET_BYTES

    @property
    def total_bytes(self) -> int:
        return self.count * self.file_bytes

    def __str__(self) -> str:
        size = self.file_bytes / 1e6
        return f"{self.count} × {f'{size:.0f} MB' if size >= 1 else f'{size * 1000:.0f} kB'}"


def write_set(files: FileSet, root: Path) -> None:
    """Writes the set below `root` in the layout `{camera}/%Y-%m-%d/%H-%M-%S.ts`, closed and on the disk."""
    film = _film(files)
    for number in range(files.count):
        start = FIRST + timedelta(seconds=files.seconds) * (number // CAMERAS)
        path = root / f"cam{number % CAMERAS}" / f"{start:%Y-%m-%d}" / f"{start:%H-%M-%S}.ts"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(signed(film, str(path.relative_to(root))))
        ended = (start + timedelta(seconds=files.seconds)).timestamp()
        os.utime(path, (ended, ended))
    os.sync()


def signed(film: bytes, salt: str) -> bytes:
    """The film with its last packet, which is stuffing, filled with bytes that follow from `salt`."""
    return film[:-PACKET_BYTES] + STUFFING_HEADER + random.Random(salt).randbytes(184)


def small_film() -> bytes:
    """About 100 kB: two seconds."""
    return _film(SMALL)


@cache
def _film(files: FileSet) -> bytes:
    return stretched(
        cached_ts(seconds=files.seconds, bitrate=files.bitrate, audio=True).read_bytes(), files.packets
    )


def stretched(footage: bytes, packets: int) -> bytes:
    """The footage with stuffing packets spread over it evenly, one of them at the end."""
    real = len(footage) // PACKET_BYTES
    missing = packets - real
    if missing < 1:
        raise ValueError(f"the footage has {real} packets already, {packets} are wanted: lower its rate")
    parts, done = [], 0
    for number in range(1, missing + 1):
        until = real * number // missing
        parts += [footage[done * PACKET_BYTES : until * PACKET_BYTES], STUFFING]
        done = until
    return b"".join(parts)


SMALL = FileSet(count=5000, packets=532, seconds=2, bitrate="210k")
MEDIUM = FileSet(count=200, packets=26_595, seconds=10, bitrate="3600k")
LARGE = FileSet(count=4, packets=797_872, seconds=300, bitrate="3600k")
