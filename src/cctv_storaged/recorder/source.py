"""Opening a recorder's file safely: beneath its root, through no link, and knowing whether it is closed.

Nothing here writes or deletes; unlinking.py is the only place that removes a source.
"""

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

from cctv_storaged.errors import NotASegment, SourceChanged
from cctv_storaged.model import FileIdentity, identity_of


class Writer(Enum):
    """Whether some process of this host has a file open for writing."""

    NONE = "none"
    PRESENT = "present"
    UNKNOWN = "unknown"  # the kernel tells only the file's owner and root


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSource:
    """A source open for reading; the descriptor is closed by `open_source`."""

    descriptor: int
    identity: FileIdentity

    def read(self, offset: int, size_bytes: int) -> bytes:
        """Up to `size_bytes` from `offset`; fewer only at the end of the file."""
        parts = []
        while size_bytes > 0 and (part := os.pread(self.descriptor, size_bytes, offset)):
            parts.append(part)
            offset += len(part)
            size_bytes -= len(part)
        return b"".join(parts)

    def writer(self) -> Writer:
        """Asks the kernel: a read lease is granted only on a file that nobody has open for writing.

        fcntl(2), F_SETLEASE. The lease is given back at once. Another process that opens the file for
        writing in between waits that long; its SIGIO to us is ignored (daemon.py).
        """
        try:
            fcntl.fcntl(self.descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except OSError as exc:
            return Writer.PRESENT if exc.errno == errno.EAGAIN else Writer.UNKNOWN
        fcntl.fcntl(self.descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return Writer.NONE

    def unchanged(self) -> bool:
        """Whether the open file still is what it was when it was opened."""
        return identity_of(os.fstat(self.descriptor)) == self.identity


@contextmanager
def open_source(root: str, path: str) -> Iterator[OpenSource]:
    """The regular file `path` beneath `root`, open for reading.

    Raises SourceChanged if there is no such file, NotASegment if it is no regular file or a symbolic link
    lies on the way, and OSError for what the disk or the rights have against it.
    """
    descriptor = _open_beneath(root, path)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NotASegment("not_a_file", f"{path!r} is no regular file")
        yield OpenSource(descriptor=descriptor, identity=identity_of(status))
    finally:
        os.close(descriptor)


@contextmanager
def open_folder(root: str, folder: str) -> Iterator[int]:
    """A descriptor of the directory `folder` beneath `root`; errors as for `open_source`."""
    descriptor = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for component in _components(folder):
            inner = _open_at(component, os.O_PATH | os.O_DIRECTORY, descriptor, folder)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def _open_beneath(root: str, path: str) -> int:
    folder, name = os.path.split(path)
    if not _components(path):
        raise NotASegment("bad_path", f"{path!r} names no file")
    try:
        with open_folder(root, folder) as parent:
            return _open_at(name, os.O_RDONLY | os.O_NONBLOCK, parent, path)  # a FIFO must not block us
    except FileNotFoundError as exc:
        raise SourceChanged(f"{path!r} is not there (any more)") from exc


def _components(path: str) -> list[str]:
    """The path's names; refuses what could lead out of the root."""
    names = path.split("/") if path else []
    if any(name in ("", ".", "..") or "\0" in name for name in names):
        raise NotASegment("bad_path", f"{path!r} is no plain relative path")
    return names


def _open_at(name: str, flags: int, parent: int, path: str) -> int:
    """openat(2) that follows no link; without touching atime where we may."""
    flags |= os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        if not flags & os.O_PATH:
            try:
                return os.open(name, flags | os.O_NOATIME, dir_fd=parent)
            except PermissionError:  # only the owner may leave atime alone
                return os.open(name, flags, dir_fd=parent)
        return os.open(name, flags, dir_fd=parent)
    except OSError as exc:
        if exc.errno == errno.ELOOP and not flags & os.O_PATH:
            raise NotASegment("symlink", f"{path!r} is a symbolic link") from exc
        if exc.errno in (errno.ELOOP, errno.ENOTDIR):
            raise NotASegment("symlink", f"a symbolic link or a file lies on the way to {path!r}") from exc
        if exc.errno == errno.ENXIO:
            raise NotASegment("not_a_file", f"{path!r} is no regular file") from exc
        raise
