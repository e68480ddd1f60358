"""Marks in folders: read, laid down, or stood in for by the file system. By descriptor; blocking.

Whoever reads a mark and acts, both by one descriptor of the folder, cannot have the disk changed in between.
"""

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from cctv_storaged.guarding.identity import LONGEST_BYTES, NAME, Mark, identity_in
from cctv_storaged.recorder.mounts import mount_of

_TEMPORARY = f"{NAME}.new-"
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a FIFO must not hold a thread
_MODE = 0o644


@contextmanager
def opened_folder(path: str) -> Iterator[int]:
    """A descriptor of the folder. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def found_in(folder: int) -> str | None:
    """The identity by the folder's mark, None where there is none. Raises OSError where it cannot be read.

    The very file counts on the folder's own file system: one mounted over it says nothing of the disk.
    """
    try:
        descriptor = os.open(NAME, _READ, dir_fd=folder)
    except FileNotFoundError:
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_dev != os.fstat(folder).st_dev:
            return None
        return identity_in(os.read(descriptor, LONGEST_BYTES))
    finally:
        os.close(descriptor)


def laid_in(folder: int, mark: Mark) -> str:
    """Lays the mark down, durably and never over another; the identity that the folder has then.

    Raises OSError; nothing is left behind then.
    """
    name = f"{_TEMPORARY}{secrets.token_hex(8)}"
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE, dir_fd=folder)
    try:
        try:
            os.write(descriptor, mark.document())
            os.fchmod(descriptor, _MODE)  # whatever the umask made of it: other hosts and users read it
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        _name(folder, name)
        os.fsync(folder)
    finally:
        with contextlib.suppress(FileNotFoundError):  # renamed where there are no links
            os.unlink(name, dir_fd=folder)
    return found_in(folder) or mark.place


def own_identity(path: str, folder: int) -> str:
    """What the file system tells of itself, weaker than a mark: for folders where none can be laid down.

    Of a network mount where it comes from; else the file system's id (statfs(2), f_fsid; its device number
    where it has none) and the folder's inode. Raises OSError.
    """
    mount, status = mount_of(path), os.fstat(folder)
    if mount.remote and mount.source:
        return f"net:{mount.type}:{mount.source}:{status.st_ino}"
    file_system = os.fstatvfs(folder).f_fsid or status.st_dev
    return f"fs:{file_system:x}:{status.st_ino}"


def _name(folder: int, temporary: str) -> None:
    """link(2) never replaces; where there are no links (FAT), nobody else lays a mark in that moment."""
    try:
        os.link(temporary, NAME, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except FileExistsError:
        return  # another host was faster: its mark is the one
    except OSError:
        if found_in(folder) is None:
            os.rename(temporary, NAME, src_dir_fd=folder, dst_dir_fd=folder)
