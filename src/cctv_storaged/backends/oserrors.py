"""What an operating system's refusal means for the FILESYSTEM backend: one table from errno to our errors."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from cctv_storaged.errors import BackendError, BackendUnavailable, ObjectMissing, ObjectRejected

_UNAVAILABLE = {
    errno.ENOSPC: ("space", "free some room"),
    errno.EDQUOT: ("space", "raise the quota or free some room"),
    errno.EROFS: ("server", "it is mounted read-only: was there an I/O error?"),
    errno.EACCES: ("auth", "give this service's user or group the right to it"),
    errno.EPERM: ("auth", "give this service's user or group the right to it"),
    errno.EMFILE: ("server", "too many open files: raise LimitNOFILE"),
    errno.ENFILE: ("server", "too many open files on this host"),
}
_REJECTED = {
    errno.ELOOP: "a symbolic link is on the way",
    errno.ENOTDIR: "something that is no folder is on the way",
    errno.EISDIR: "a folder is in its place",
    errno.ENAMETOOLONG: "the name is too long for this file system",
    errno.EINVAL: "this file system cannot have such a name",
    errno.EILSEQ: "this file system cannot have such a name",
    errno.EFBIG: "the file is too large for this file system",
}


def failure(doing: str, error: OSError) -> BackendError:
    """Our error for what was met while `doing` ("put PATH below FOLDER")."""
    code = error.errno or 0
    text = f"{doing}: {os.strerror(code) if code else error}"
    if code == errno.ENOENT:
        return ObjectMissing(text)
    if code in _REJECTED:
        return ObjectRejected(f"{text} ({_REJECTED[code]})")
    reason, remedy = _UNAVAILABLE.get(code, ("server", "look at the disk, the mount and the kernel's log"))
    return BackendUnavailable(f"{text} ({remedy})", reason=reason)


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """OSError as ours."""
    try:
        yield
    except OSError as exc:
        raise failure(doing, exc) from exc
