"""A file that only takes up room, given up when the journal's disk is full.

Without it a full disk could not even record that footage was delivered, which is what frees the disk.
"""

import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)

SPARE_FACTOR = 4
"""The ballast is laid down only where four times its size is free: it must not be what fills the disk."""


class Ballast:
    """`size_bytes` of room at `path`; 0 means none is kept."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self._path = path
        self._size_bytes = size_bytes
        self._laid = path.exists() and path.stat().st_size >= size_bytes

    def restore(self) -> None:
        """Lays the file down again if there is plenty of room; cheap when it lies there."""
        if self._laid or not self._size_bytes or not self._plenty():
            return
        try:
            with self._path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, self._size_bytes)
        except OSError as exc:
            log.warning("no reserve for the journal at %s: %s", self._path, exc)
            self._path.unlink(missing_ok=True)
            self._size_bytes = 0
        else:
            self._laid = True

    def release(self) -> None:
        """Gives the room back to the file system."""
        if self._laid:
            self._path.unlink(missing_ok=True)
            self._laid = False
            log.warning("reserve %s given up for the journal (%d bytes)", self._path, self._size_bytes)

    def _plenty(self) -> bool:
        disk = os.statvfs(self._path.parent)
        return disk.f_bavail * disk.f_frsize >= SPARE_FACTOR * self._size_bytes
