"""FILESYSTEM: objects as files below one folder, on this host's disk or anything mounted there.

What flows through: payloads in, blocks out. On the recorder's own file system a put is a reflink or a hard
link and moves no bytes; elsewhere it is a copy. It does not know who reads the folder, or whether the
right disk is mounted there.

The order of a put, so that a crash at any point leaves nothing wrong under the object's name:
1. the bytes under a temporary name (or the source's own inode), 2. fsync of the file, 3. the final name by
link(2), which never replaces anything, 4. fsync of the folder, 5. the temporary name goes.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, replace

from cctv_storaged.backends.base import (
    Capabilities,
    ListedObject,
    ObjectFacts,
    Payload,
    StoredObject,
)
from cctv_storaged.backends.body import (
    BLOCK_BYTES,
    MIB,
    PACED_BLOCK_BYTES,
    Body,
    Deadline,
    read_blocks,
    whole,
)
from cctv_storaged.backends.files import (
    FILE_MODE,
    NO_LINK,
    TEMPORARY,
    describe,
    description,
    is_taken,
    name_if_free,
    open_object,
    opened_object,
    remove_if_old,
    temporary_file,
    write_all,
)
from cctv_storaged.backends.folders import FOLDER_MODE, Base, base_folder, folder, split
from cctv_storaged.backends.oserrors import translated
from cctv_storaged.backends.proof import is_sampled
from cctv_storaged.backends.unlinking import unlink_object, unlink_objects
from cctv_storaged.backends.walking import walk
from cctv_storaged.backends.workers import Workers
from cctv_storaged.errors import (
    BackendError,
    ObjectMismatch,
    ObjectRejected,
    SourceChanged,
)
from cctv_storaged.model import FileIdentity, identity_of
from cctv_storaged.pacing import ByteBudget

_COPY_CHUNK_BYTES = 8 * MIB
_FORGET_FROM_BYTES = 8 * MIB  # larger copies would push the recorder's pages out of memory
_FICLONE = 0x40049409  # linux/fs.h; missing in Python's fcntl before 3.12
_ROUNDS = 5
_QUIET_NS = 100_000_000
_QUIET_COARSE_NS = 2_100_000_000
_NO_CLONE = frozenset({errno.EXDEV, errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.ENOSYS, errno.EPERM})
_NO_COPY_CALL = _NO_CLONE | {errno.EBADF}


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesystemSettings:
    """`path` is absolute and must exist. Without `link` bytes are always copied."""

    path: str
    link: bool = True
    threads: int = 8
    object_base_s: float = 30.0
    readback_share: float = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class _Put:
    """One put on its way: names, bytes, and the limits they go under."""

    name: str
    payload: Payload
    identity: FileIdentity  # of the source when it had the hashed bytes
    budget: ByteBudget
    deadline: Deadline


class FilesystemBackend:
    """`Backend` named FILESYSTEM."""

    def __init__(self, settings: FilesystemSettings, guard: Callable[[int], None] | None = None) -> None:
        """`guard`: whether the folder of this descriptor is the right one (`folders.Base`)."""
        self._settings = settings
        self._base = Base(settings.path, guard)
        self._workers = Workers(self.name, settings.threads)
        self._clones: dict[int, bool] = {}  # by device: whether FICLONE was seen to work there

    @property
    def name(self) -> str:
        return "FILESYSTEM"

    @property
    def location(self) -> str:
        return self._settings.path

    async def probe(self) -> Capabilities:
        return await self._workers.run(self._probe)

    async def put(self, path: str, payload: Payload, budget: ByteBudget) -> StoredObject:
        return await self._workers.run_with(payload, lambda own: self._put(path, own, budget))

    async def verify(self, expected: StoredObject) -> None:
        await self._workers.run(self._verify, expected)

    async def stat(self, path: str) -> ObjectFacts:
        return await self._workers.run(self._stat, path)

    def open(
        self, path: str, start: int = 0, length: int | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        return self._workers.reading(lambda: self._read(path, start, length))

    async def listed(self, prefix: str, after: str = "") -> AsyncIterator[Sequence[ListedObject]]:
        pages = walk(self._base, prefix, after, _mark_of)
        try:
            while page := await self._workers.run(next, pages, ()):
                yield page
        finally:
            with contextlib.suppress(ValueError):  # a thread is in the middle of a page: it ends there
                pages.close()

    async def delete(self, path: str) -> None:
        await self._workers.run(unlink_object, self._base, path)

    async def delete_many(self, paths: Sequence[str]) -> Mapping[str, BackendError]:
        return await self._workers.run(unlink_objects, self._base, paths)

    async def sweep(self, older_than_s: float) -> int:
        return await self._workers.run(self._sweep, older_than_s)

    async def ensure_bucket(self) -> None:
        await self._workers.run(self._make_base)

    async def close(self) -> None:
        self._workers.close()

    # -- in threads -------------------------------------------------------------------------------------

    def _probe(self) -> Capabilities:
        """A file can be made, named, and removed; link(2) or what stands for it keeps the first."""
        name = f"{TEMPORARY}probe-{secrets.token_hex(8)}"
        with translated(f"try the folder {self.location}"), base_folder(self._base) as top:
            with temporary_file(top) as (temporary, descriptor):
                write_all(descriptor, b"cctv-storaged tries what this folder can do\n", 0)
                os.fsync(descriptor)
                try:
                    first = name_if_free(top, temporary, name)
                    second = name_if_free(top, temporary, name)
                finally:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(name, dir_fd=top)
            os.fsync(top)
        return Capabilities(conditional_put=first and not second)

    def _put(self, path: str, payload: Payload, budget: ByteBudget) -> StoredObject:
        names, name = split(path)
        put = _Put(
            name=name,
            payload=payload,
            identity=_settled(payload),
            budget=budget,
            deadline=Deadline.for_bytes(payload.size_bytes, self._settings.object_base_s),
        )
        with translated(f"put {path} below {self.location}"):
            mark = self._place_in(names, put)
        return StoredObject(path=path, size_bytes=payload.size_bytes, sha256=payload.sha256, etag=mark)

    def _place_in(self, names: tuple[str, ...], put: _Put) -> str:
        for _ in range(_ROUNDS):
            try:
                with folder(self._base, names, create=True) as inside:
                    return self._place(inside, put)
            except FileNotFoundError:
                continue  # a deletion beside us found the folder empty and removed it
        raise ObjectRejected(f"the folder of {put.name} is removed again and again")

    def _place(self, inside: int, put: _Put) -> str:
        if self._settings.link and os.fstat(inside).st_dev == put.identity.device:
            if self._clones.get(put.identity.device, True) and (mark := self._place_clone(inside, put)):
                return mark
            if mark := self._place_link(inside, put):
                return mark
        if is_taken(inside, put.name):  # rather than copy for nothing
            return self._compare(inside, put)
        return self._place_copy(inside, put)

    def _place_clone(self, inside: int, put: _Put) -> str | None:
        """A reflink: its own inode, shared blocks. None where the file system has none."""
        with temporary_file(inside) as (temporary, descriptor):
            try:
                fcntl.ioctl(descriptor, _FICLONE, put.payload.descriptor)
            except OSError as exc:
                if exc.errno not in _NO_CLONE:
                    raise
                self._clones[put.identity.device] = False
                return None
            return self._finish(inside, temporary, descriptor, put)

    def _place_link(self, inside: int, put: _Put) -> str | None:
        """A hard link to the very inode that was hashed. None where there can be none."""
        os.fsync(put.payload.descriptor)  # the recorder may not have; also when the name is there already
        source = f"/proc/self/fd/{put.payload.descriptor}"
        try:
            os.link(source, put.name, dst_dir_fd=inside, follow_symlinks=True)
        except FileExistsError:
            return self._compare(inside, put)
        except FileNotFoundError:
            if os.fstat(put.payload.descriptor).st_nlink:
                raise  # the folder is gone
            return None  # the source was unlinked: its bytes are here still, its inode gets no new name
        except OSError as exc:
            if exc.errno not in NO_LINK:
                raise
            return None
        if identity_of(os.fstat(put.payload.descriptor)) != put.identity:
            os.unlink(put.name, dir_fd=inside)  # our own second name for it, a moment old
            raise SourceChanged("the file was written to while it was linked")
        describe(put.payload.descriptor, put.payload.metadata)
        os.fsync(inside)
        return _mark(put.identity, trusted=_is_quiet(put.identity))

    def _place_copy(self, inside: int, put: _Put) -> str:
        with temporary_file(inside) as (temporary, descriptor):
            _copy(put, descriptor)
            mark = self._finish(inside, temporary, descriptor, put)
            if put.payload.size_bytes >= _FORGET_FROM_BYTES:
                for forgotten in (put.payload.descriptor, descriptor):
                    os.posix_fadvise(forgotten, 0, 0, os.POSIX_FADV_DONTNEED)
            return mark

    def _finish(self, inside: int, temporary: str, descriptor: int, put: _Put) -> str:
        """Make the temporary file durable and give it the object's name."""
        if identity_of(os.fstat(put.payload.descriptor)) != put.identity:
            raise SourceChanged("the file was written to while it was copied")
        os.fchmod(descriptor, FILE_MODE)
        describe(descriptor, put.payload.metadata)
        os.fsync(descriptor)
        if not name_if_free(inside, temporary, put.name):
            return self._compare(inside, put)
        os.fsync(inside)
        return _mark(identity_of(os.fstat(descriptor)), trusted=False)

    def _compare(self, inside: int, put: _Put) -> str:
        """The name is taken: by the same bytes (then it is made durable), or ObjectMismatch."""
        with opened_object(inside, put.name) as descriptor:
            found = identity_of(os.fstat(descriptor))
            same_inode = found == put.identity
            if not same_inode and not _has(
                descriptor, put.payload.size_bytes, put.payload.sha256, put.deadline
            ):
                raise ObjectMismatch(f"{put.name} holds other bytes already ({found.size_bytes} bytes)")
            os.fsync(descriptor)
        os.fsync(inside)
        return _mark(found, trusted=same_inode and _is_quiet(found))

    def _verify(self, expected: StoredObject) -> None:
        names, name = split(expected.path)
        doing = f"verify {expected.path} below {self.location}"
        deadline = Deadline.for_bytes(expected.size_bytes, self._settings.object_base_s)
        with (
            translated(doing),
            folder(self._base, names) as inside,
            opened_object(inside, name) as descriptor,
        ):
            found = identity_of(os.fstat(descriptor))
            if found.size_bytes != expected.size_bytes:
                raise ObjectMismatch(f"{doing}: {found.size_bytes} bytes, not {expected.size_bytes}")
            read_back = expected.doubted or is_sampled(expected.path, self._settings.readback_share)
            if not read_back and expected.etag == _mark(found, trusted=True):
                return  # the inode that was hashed, unchanged since
            if not _has(descriptor, expected.size_bytes, expected.sha256, deadline):
                raise ObjectMismatch(f"{doing}: its SHA-256 is not {expected.sha256.hex()}")

    def _stat(self, path: str) -> ObjectFacts:
        names, name = split(path)
        with (
            translated(f"look at {path} below {self.location}"),
            folder(self._base, names) as inside,
            opened_object(inside, name) as descriptor,
        ):
            found = identity_of(os.fstat(descriptor))
            return ObjectFacts(
                path=path,
                size_bytes=found.size_bytes,
                sha256=None,
                etag=_mark(found, trusted=False),
                metadata=description(descriptor),
            )

    @contextmanager
    def _read(self, path: str, start: int, length: int | None) -> Iterator[Iterator[bytes]]:
        names, name = split(path)
        with translated(f"read {path} below {self.location}"):
            with folder(self._base, names) as inside:
                descriptor = open_object(inside, name)
            try:
                yield _file_blocks(path, descriptor, start, length)
            finally:
                os.close(descriptor)

    def _sweep(self, older_than_s: float) -> int:
        """Temporary files only: by their name and kind, and old by their last change (ctime)."""
        limit_ns = time.time_ns() - int(older_than_s * 1e9)
        removed = 0
        if not os.path.lexists(self.location):
            return 0  # a store that was never used has no leftovers
        with translated(f"sweep {self.location}"), base_folder(self._base) as top:
            for _, _, files, inside in os.fwalk(".", dir_fd=top):
                ours = [name for name in files if name.startswith(TEMPORARY)]
                removed += sum(remove_if_old(inside, name, limit_ns) for name in ours)
        return removed

    def _make_base(self) -> None:
        with translated(f"make the folder {self.location}"):
            os.makedirs(self.location, FOLDER_MODE, exist_ok=True)


def _settled(payload: Payload) -> FileIdentity:
    """The source's identity with the hashed bytes; SourceChanged where it has moved on since."""
    found = identity_of(os.fstat(payload.descriptor))
    if found.size_bytes != payload.size_bytes or payload.identity not in (None, found):
        raise SourceChanged("the file is another one than was hashed")
    if payload.identity is None and not whole(replace(payload, data=None)).is_true():
        raise SourceChanged("the file no longer has the bytes that were hashed")
    return found


def _mark(identity: FileIdentity, *, trusted: bool) -> str:
    """The journal's etag. `linked` says: this inode was hashed, unread is proof while its stamp stays."""
    kind = "linked" if trusted else "file"
    return f"{kind}:{identity.device}:{identity.inode}:{identity.mtime_ns}"


def _mark_of(found: os.stat_result) -> str:
    return _mark(identity_of(found), trusted=False)


def _is_quiet(identity: FileIdentity) -> bool:
    """Whether a later write would show in mtime, which moves in steps of up to 10 ms (before Linux 6.13),
    and of whole seconds on some file systems.
    """
    coarse = identity.mtime_ns % 1_000_000_000 == 0
    return time.time_ns() - identity.mtime_ns > (_QUIET_COARSE_NS if coarse else _QUIET_NS)


def _has(descriptor: int, size_bytes: int, sha256: bytes, deadline: Deadline) -> bool:
    """Whether the file's bytes are these, by reading them."""
    if os.fstat(descriptor).st_size != size_bytes:
        return False
    digest = hashlib.sha256()
    try:
        for block in read_blocks(descriptor, 0, size_bytes):
            deadline.remaining_s()
            digest.update(block)
    except SourceChanged:  # shorter meanwhile
        return False
    return digest.digest() == sha256


def _copy(put: _Put, target: int) -> None:
    """All bytes of the source; in the kernel where it can, through our memory otherwise."""
    if put.payload.data is not None:
        return _copy_through_memory(put, target)
    position = 0
    try:
        while position < put.payload.size_bytes:
            position += _copy_chunk(put, target, position)
    except OSError as exc:
        if position or exc.errno not in _NO_COPY_CALL:
            raise
        _copy_through_memory(put, target)


def _copy_chunk(put: _Put, target: int, position: int) -> int:
    chunk = PACED_BLOCK_BYTES if put.budget.limited else _COPY_CHUNK_BYTES
    size = min(chunk, put.payload.size_bytes - position)
    put.deadline.pause(put.budget, size)
    put.deadline.remaining_s()
    copied = os.copy_file_range(put.payload.descriptor, target, size, position, position)
    if copied == 0:
        raise SourceChanged(f"the file ends at byte {position}")
    return copied


def _copy_through_memory(put: _Put, target: int) -> None:
    position = 0
    for block in Body(whole(put.payload), budget=put.budget, deadline=put.deadline, prove=False):
        write_all(target, block, position)
        position += len(block)


def _file_blocks(path: str, descriptor: int, start: int, length: int | None) -> Iterator[bytes]:
    size = os.fstat(descriptor).st_size
    if start > 0 and start >= size:
        raise ObjectRejected(f"{path} has {size} bytes, none from {start} on")
    position, end = start, size if length is None else min(size, start + length)
    while position < end:
        with translated(f"read {path}"):
            block = os.pread(descriptor, min(BLOCK_BYTES, end - position), position)
        if not block:
            raise ObjectMismatch(f"{path} became shorter while it was read")
        yield block
        position += len(block)
