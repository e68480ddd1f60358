"""Folders below a base, walked by descriptor so that no name can lead out of it.

What flows through: relative paths in, descriptors of their folders out. Every step opens one name inside
the folder before it and follows no symbolic link, so `..`, absolute names and planted links end here.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cctv_storaged.errors import BackendUnavailable, ObjectRejected

_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FOLDER_MODE = 0o750


@dataclass(frozen=True, slots=True)
class Base:
    """The folder that everything lies below, and who is asked each time whether it still is that one.

    `guard` is called with the descriptor that is then walked from, so that nothing can be mounted over the
    folder or taken from it in between. Raises BackendUnavailable where nothing may be done.
    """

    path: str
    guard: Callable[[int], None] | None = None

    def __str__(self) -> str:
        return self.path


def split(path: str) -> tuple[tuple[str, ...], str]:
    """The folders and the name of a relative path; ObjectRejected for one that could lead elsewhere."""
    *folders, name = path.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in (*folders, name)):
        raise ObjectRejected(f"{path!r} is not a plain relative path")
    return tuple(folders), name


@contextmanager
def base_folder(base: Base) -> Iterator[int]:
    """A descriptor of the base itself, the right one; BackendUnavailable(bucket) where there is none."""
    try:
        descriptor = os.open(base.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise BackendUnavailable(
            f"the folder {base} is missing (create it, or mount what belongs there)", reason="bucket"
        ) from exc
    try:
        if base.guard is not None:
            base.guard(descriptor)
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def folder(base: Base, names: tuple[str, ...], *, create: bool = False) -> Iterator[int]:
    """A descriptor of the folder `names` below `base`; made durably where `create` asks for it."""
    with base_folder(base) as top, contextlib.ExitStack() as opened:
        inner = top
        for name in names:
            inner = _step(inner, name, create=create)
            opened.callback(os.close, inner)
        yield inner


def remove_empty(base: Base, names: tuple[str, ...]) -> None:
    """Remove the innermost folders as far as they are empty; somebody using one keeps it."""
    for depth in range(len(names), 0, -1):
        try:
            with folder(base, names[: depth - 1]) as parent:
                os.rmdir(names[depth - 1], dir_fd=parent)
        except (
            OSError,
            BackendUnavailable,
        ):  # not empty, or gone already, or not ours to remove: all the same to us
            return


def _step(parent: int, name: str, *, create: bool) -> int:
    try:
        return os.open(name, _OPEN_FOLDER, dir_fd=parent)
    except FileNotFoundError:
        if not create:
            raise
    with contextlib.suppress(FileExistsError):  # made meanwhile, by a put beside this one
        os.mkdir(name, FOLDER_MODE, dir_fd=parent)
        os.fsync(parent)
    descriptor = os.open(name, _OPEN_FOLDER, dir_fd=parent)
    os.fchmod(descriptor, FOLDER_MODE)  # whatever the umask made of it
    return descriptor
