"""A disk of a few bytes, reckoned from the files in some folders: each inode counts once, as on a real one.

And the oracle of tests that delete for room: every unlink(2) and rename(2) of this process, by its full path.
"""

import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from cctv_storaged.capacity.volumes import Facts


@dataclass(slots=True)
class SmallDisk:
    """`look` is what capacity asks instead of statvfs(2)."""

    total_bytes: int
    folders: tuple[Path, ...]
    device: int = 1
    read_only: bool = False
    away: bool = False
    beside_bytes: int = 0  # other people's files

    @property
    def free_bytes(self) -> int:
        used: dict[tuple[int, int], int] = {}
        for folder in self.folders:
            for inside, _, names in os.walk(folder):
                for name in names:
                    with suppress(FileNotFoundError):  # it may go meanwhile
                        status = os.stat(os.path.join(inside, name))
                        if stat.S_ISREG(status.st_mode):
                            used[status.st_dev, status.st_ino] = status.st_size
        return self.total_bytes - sum(used.values()) - self.beside_bytes

    def look(self, path: str) -> Facts:
        if self.away:
            raise OSError(5, "away")
        return Facts(
            device=self.device,
            total_bytes=self.total_bytes,
            free_bytes=max(0, self.free_bytes),
            read_only=self.read_only,
        )


def looking(*disks: SmallDisk) -> Callable[[str], Facts]:
    """Each folder on its disk."""

    def look(path: str) -> Facts:
        for disk in disks:
            if Path(path) in disk.folders:
                return disk.look(path)
        raise FileNotFoundError(path)

    return look


@dataclass(slots=True)
class Unlinks:
    """Names that were removed below a folder, in order."""

    below: Path
    names: list[str] = field(default_factory=list)

    def _heard(self, path: str | bytes | os.PathLike[str], folder: int) -> None:
        whole = Path(os.fsdecode(path))
        if folder != -1 and not whole.is_absolute():
            whole = Path(os.readlink(f"/proc/self/fd/{folder}")) / whole
        if whole.is_relative_to(self.below):
            self.names.append(str(whole.relative_to(self.below)))


_listening: list[Unlinks] = []
_hooked = False


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if event == "os.remove" and _listening:
        path, folder = arguments
        for each in _listening:
            each._heard(path, folder)  # type: ignore[arg-type]  # as the event is documented


@contextmanager
def unlinks_below(folder: Path) -> Iterator[Unlinks]:
    """Every file removed below the folder while the block lasts, by whichever code."""
    global _hooked  # noqa: PLW0603 - a hook cannot be taken out again
    if not _hooked:
        sys.addaudithook(_audit)
        _hooked = True
    heard = Unlinks(folder)
    _listening.append(heard)
    try:
        yield heard
    finally:
        _listening.remove(heard)
