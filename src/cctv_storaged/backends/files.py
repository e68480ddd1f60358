"""One file in one folder, by descriptor: made under a temporary name, named, opened, described.

What flows through: descriptors and plain names. It does not know what an object is or where a folder lies.
"""

import contextlib
import errno
import json
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from cctv_storaged.errors import ObjectRejected

TEMPORARY = ".cctv-put-"
"""How the names of unfinished puts begin; nothing else is ever swept."""
FILE_MODE = 0o640
NO_LINK = frozenset({errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS})
_METADATA = "user.cctv-storaged"


@contextmanager
def temporary_file(inside: int) -> Iterator[tuple[str, int]]:
    """A new file under a name that the sweep knows; the name is gone at the end, whatever happened."""
    name = f"{TEMPORARY}{secrets.token_hex(8)}"
    descriptor = os.open(
        name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE, dir_fd=inside
    )
    try:
        yield name, descriptor
    finally:
        os.close(descriptor)
        with contextlib.suppress(FileNotFoundError):  # renamed where there are no links
            os.unlink(name, dir_fd=inside)


def name_if_free(inside: int, temporary: str, name: str) -> bool:
    """Give the file its name in the same folder; False where the name is taken."""
    try:
        os.link(temporary, name, src_dir_fd=inside, dst_dir_fd=inside, follow_symlinks=False)
    except FileExistsError:
        return False
    except OSError as exc:
        if exc.errno not in NO_LINK:
            raise
        return _rename_if_free(inside, temporary, name)
    return True


def is_taken(inside: int, name: str) -> bool:
    """Whether anything, be it a link to nowhere, has the name."""
    try:
        os.stat(name, dir_fd=inside, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _rename_if_free(inside: int, temporary: str, name: str) -> bool:
    """For file systems without links (FAT, some network ones), where nobody else writes between the two."""
    if is_taken(inside, name):
        return False
    os.rename(temporary, name, src_dir_fd=inside, dst_dir_fd=inside)
    return True


def open_object(inside: int, name: str) -> int:
    """O_NONBLOCK, so that a planted FIFO cannot hold a thread; regular files only."""
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=inside)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ObjectRejected(f"{name} is not a regular file")
    return descriptor


@contextmanager
def opened_object(inside: int, name: str) -> Iterator[int]:
    descriptor = open_object(inside, name)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes | memoryview, position: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, position)
        view, position = view[written:], position + written


def describe(descriptor: int, metadata: Mapping[str, str]) -> None:
    """Keep the metadata beside the bytes, where the file system has room for such (xattr(7)).

    The path alone is enough to find camera and time again; this is a help, so a refusal is no failure.
    """
    with contextlib.suppress(OSError):
        os.setxattr(descriptor, _METADATA, json.dumps(dict(metadata)).encode())


def description(descriptor: int) -> Mapping[str, str]:
    try:
        found = json.loads(os.getxattr(descriptor, _METADATA))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {str(name).lower(): str(text) for name, text in found.items()}


def remove_if_old(inside: int, name: str, limit_ns: int) -> bool:
    try:
        found = os.stat(name, dir_fd=inside, follow_symlinks=False)
        if not stat.S_ISREG(found.st_mode) or found.st_ctime_ns > limit_ns:
            return False
        os.unlink(name, dir_fd=inside)
    except FileNotFoundError:  # its put ended just now
        return False
    return True
