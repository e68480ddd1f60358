"""A file that only takes up room, given up when the journal's disk is full.

Without it a full disk could not even record that footage was delivered, which is what frees the disk.
"""

import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)

SPARE_FACTOR = 4
"""The ballast is laid down only where four times its size is free: it must not be what fills the disk."""
BLOCK_BYTES = 512
"""The unit of st_blocks (POSIX stat.h leaves it open; Linux says 512)."""


class Ballast:
    """`size_bytes` of room at `path`; 0 means none is kept."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self._path = path
        self._size_bytes = size_bytes
        self._laid = size_bytes > 0 and _room_taken(path) >= size_bytes
        if not self._laid:
            path.unlink(missing_ok=True)  # of another size, or half laid when the last process was killed

    @property
    def wanted(self) -> bool:
        """Whether it should be laid down and there is plenty of room to; cheap."""
        return not self._laid and self._size_bytes > 0 and self._plenty()

    def restore(self) -> None:
        """Lays the file down again if it is wanted; blocks where the file system cannot allocate at once."""
        if not self.wanted:
            return
        try:
            with self._path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, self._size_bytes)
        except OSError as exc:
            log.warning("no reserve for the journal at %s until the next start: %s", self._path, exc)
            self._path.unlink(missing_ok=True)
            self._size_bytes = 0
        else:
            self._laid = True

    def release(self) -> bool:
        """Gives the room back to the file system; whether there was any to give."""
        if not self._laid:
            return False
        self._path.unlink(missing_ok=True)
        self._laid = False
        log.warning("reserve %s given up for the journal (%d bytes)", self._path, self._size_bytes)
        return True

    def _plenty(self) -> bool:
        try:
            disk = os.statvfs(self._path.parent)
        except OSError:
            return False
        return disk.f_bavail * disk.f_frsize >= SPARE_FACTOR * self._size_bytes


def _room_taken(path: Path) -> int:
    try:
        return path.stat().st_blocks * BLOCK_BYTES
    except FileNotFoundError:
        return 0
