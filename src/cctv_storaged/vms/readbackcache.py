"""Footage read back from XProtect, kept on the host's own disk for a while; nothing in the folder is needed.

A bounded number of bytes, those of files in the making too; what was asked for longest ago goes first, and
never what is being read. A file's name tells whose it is, what it shows and the SHA-256 of its bytes.
"""

import asyncio
import contextlib
import errno
import hashlib
import logging
import os
import shutil
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar
from uuid import UUID

from cctv_storaged.clock import from_us, to_us
from cctv_storaged.errors import NoPlace
from cctv_storaged.model import StreamStart, TimeSpan

log = logging.getLogger(__name__)

FOLDER_MODE, FILE_MODE = 0o700, 0o600
BLOCK_BYTES = 256 * 1024
_ENDING, _UNFINISHED = ".ts", ".part"

_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Remuxed:
    """A file of footage that was read back."""

    segment_id: UUID
    span: TimeSpan  # of what it shows, which may be more or less than the segment's
    stream: StreamStart  # how it begins
    size_bytes: int
    sha256: bytes
    whole: bool = True  # False: the VMS gave less than the segment, and may give more the next time


class OpenRemuxed:
    """One that is being read, and stays until then."""

    def __init__(self, facts: Remuxed, descriptor: int) -> None:
        self.facts = facts
        self._descriptor = descriptor

    async def blocks(self, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from `start`, `length` of them or to the end."""
        end = self.facts.size_bytes if length is None else min(start + length, self.facts.size_bytes)
        for at in range(start, end, BLOCK_BYTES):
            yield await asyncio.to_thread(os.pread, self._descriptor, min(BLOCK_BYTES, end - at), at)


class ReadbackCache:
    """On the event loop; files are touched in threads."""

    def __init__(self, folder: Path, most_bytes: int, reserve_bytes: int) -> None:
        """`reserve_bytes` stay free on its disk."""
        self._folder = folder
        self._most_bytes = most_bytes
        self._reserve_bytes = reserve_bytes
        self._entries: OrderedDict[UUID, Remuxed] = OrderedDict()  # what was asked for last stands last
        self._readers: Counter[UUID] = Counter()
        self._size_bytes = 0  # with what is being made

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    async def open(self) -> None:
        """Finds what an earlier process left, and removes what it left half-done, or in part.

        A folder that cannot be read is taken for an empty one: whoever reads back is told then (NoPlace).
        """
        try:
            found = await asyncio.to_thread(_swept, self._folder)
        except OSError as exc:
            log.warning("footage that was read back earlier cannot be found: %s", exc)
            found = []
        self._entries = OrderedDict((each.segment_id, each) for each in found)
        self._size_bytes = sum(each.size_bytes for each in self._entries.values())
        for each in found:
            if self._entries[each.segment_id] is not each:  # an earlier file of the same segment
                await asyncio.to_thread(_remove, self._path(each))
        await self._make_room(0)

    def known(self, segment_id: UUID) -> Remuxed | None:
        """What there is of the segment."""
        return self._entries.get(segment_id)

    @asynccontextmanager
    async def reading(self, segment_id: UUID) -> AsyncIterator[OpenRemuxed | None]:
        """The segment's file, kept while the block lasts; None where there is none."""
        facts = self._entries.get(segment_id)
        if facts is None:
            yield None
            return
        self._entries.move_to_end(segment_id)
        self._readers[segment_id] += 1
        descriptor: int | None = None
        try:
            try:
                descriptor = await _descriptor(_opened, self._path(facts), facts.size_bytes)
            except OSError as exc:
                log.info("a file that was read back is not there any more: %s", exc)
                await self._forget(facts)
            yield None if descriptor is None else OpenRemuxed(facts, descriptor)
        finally:
            self._readers[segment_id] -= 1
            if not self._readers[segment_id]:
                del self._readers[segment_id]
            if descriptor is not None:
                os.close(descriptor)

    @asynccontextmanager
    async def making(self, segment_id: UUID) -> AsyncIterator["RemuxedFile"]:
        """A file in the making; nothing of it stays unless it is kept. Raises NoPlace."""
        part = self._folder / f"{segment_id}.{os.urandom(4).hex()}{_UNFINISHED}"
        try:
            file = RemuxedFile(self, segment_id, part, await _descriptor(_begun, part))
        except asyncio.CancelledError:
            await _in_thread(_remove, part)
            raise
        try:
            yield file
        finally:
            await file.close()

    async def forget(self, segment_id: UUID) -> None:
        """Its file goes; who reads it reads on."""
        facts = self._entries.get(segment_id)
        if facts is not None:
            await self._forget(facts)

    async def shrink(self, by_bytes: int) -> int:
        """Room is needed on the disk: files of so many bytes go, those not read; how many bytes went."""
        before = self._size_bytes
        while before - self._size_bytes < by_bytes and (oldest := self._oldest()) is not None:
            await self._forget(oldest)
        return before - self._size_bytes

    # For files in the making

    async def grow(self, by_bytes: int) -> None:
        """So many bytes more are to be written. Raises NoPlace."""
        self._size_bytes += by_bytes
        try:
            await self._make_room(by_bytes)
        except BaseException:
            self._size_bytes -= by_bytes
            raise

    def shrunk(self, by_bytes: int) -> None:
        """So many bytes were given up."""
        self._size_bytes -= by_bytes

    async def keep(self, part: Path, facts: Remuxed) -> None:
        """The file is whole and on the disk. Raises NoPlace."""
        await asyncio.to_thread(_renamed, part, self._path(facts))
        other = self._entries.pop(facts.segment_id, None)
        self._entries[facts.segment_id] = facts
        if other is not None:
            self._size_bytes -= other.size_bytes
            if self._path(other) != self._path(facts):
                await asyncio.to_thread(_remove, self._path(other))

    async def _make_room(self, for_bytes: int) -> None:
        while self._size_bytes > self._most_bytes:
            oldest = self._oldest()
            if oldest is None:
                raise NoPlace(
                    f"footage read back takes more than {self._most_bytes} bytes (milestone.cache.max_bytes),"
                    " and all of it is being read: ask again later, or for less"
                )
            await self._forget(oldest)
        if for_bytes:
            await asyncio.to_thread(_require_free, self._folder, for_bytes, self._reserve_bytes)

    def _oldest(self) -> Remuxed | None:
        return next((each for id_, each in self._entries.items() if not self._readers[id_]), None)

    async def _forget(self, facts: Remuxed) -> None:
        if self._entries.get(facts.segment_id) is facts:
            del self._entries[facts.segment_id]
            self._size_bytes -= facts.size_bytes
            await asyncio.to_thread(_remove, self._path(facts))

    def _path(self, facts: Remuxed) -> Path:
        return self._folder / _name(facts)


class RemuxedFile:
    """One in the making."""

    def __init__(self, cache: ReadbackCache, segment_id: UUID, part: Path, descriptor: int) -> None:
        self._cache = cache
        self._segment_id = segment_id
        self._part = part
        self._descriptor: int | None = descriptor
        self._digest = hashlib.sha256()
        self._kept = False
        self.size_bytes = 0

    async def write(self, data: bytes) -> None:
        """Raises NoPlace where the cache or its disk has too little."""
        assert self._descriptor is not None
        await self._cache.grow(len(data))
        self.size_bytes += len(data)
        await _in_thread(self._written, self._descriptor, data)

    def facts(self, span: TimeSpan, stream: StreamStart, *, whole: bool = True) -> Remuxed:
        """What was written so far, if it is all."""
        return Remuxed(
            segment_id=self._segment_id,
            span=span,
            stream=stream,
            size_bytes=self.size_bytes,
            sha256=self._digest.digest(),
            whole=whole,
        )

    async def keep(self, facts: Remuxed) -> None:
        """It is whole: from now on it is found. Raises NoPlace."""
        await _to_the_end(self._keep(facts))

    async def _keep(self, facts: Remuxed) -> None:
        assert self._descriptor is not None
        await asyncio.to_thread(_synced, self._descriptor)
        await self._cache.keep(self._part, facts)
        self._kept = True

    async def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        if not self._kept:
            self._cache.shrunk(self.size_bytes)
            await _in_thread(_remove, self._part)

    def _written(self, descriptor: int, data: bytes) -> None:
        view = memoryview(data)
        with _told():
            while view:
                view = view[os.write(descriptor, view) :]
        self._digest.update(data)


def _begun(part: Path) -> int:
    with _told():
        part.parent.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
        return os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)


def _synced(descriptor: int) -> None:
    """A name that tells a SHA-256 is given to bytes that are there."""
    with _told():
        os.fdatasync(descriptor)


def _renamed(part: Path, path: Path) -> None:
    with _told():
        part.rename(path)


def _opened(path: Path, size_bytes: int) -> int:
    """Raises OSError, also for a file of another size."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_size != size_bytes:
            raise OSError(errno.EIO, "it has another size", str(path))
        with contextlib.suppress(OSError):
            os.utime(descriptor)  # so that the next process knows as well
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise NoPlace(f"footage cannot be read back to this host's disk: {exc.strerror}") from exc


def _require_free(folder: Path, for_bytes: int, reserve_bytes: int) -> None:
    with _told():
        free = shutil.disk_usage(folder).free
    if free < for_bytes + reserve_bytes:
        raise NoPlace(
            f"footage cannot be read back to {folder}: {free} bytes are free there, and {reserve_bytes} stay"
            " so (capacity.reserve)"
        )


def _name(facts: Remuxed) -> str:
    start, end = to_us(facts.span.start), to_us(facts.span.end)
    stream = f"{facts.stream.ticks}.{facts.stream.fingerprint.hex()}"
    ending = _ENDING if facts.whole else f"{_ENDING}{_UNFINISHED}"  # which no later process takes for whole
    return f"{facts.segment_id}.{start}.{end}.{stream}.{facts.sha256.hex()}{ending}"


def _facts(name: str, size_bytes: int) -> Remuxed | None:
    """What a file's name says; None where it is none of ours."""
    try:
        segment_id, start, end, ticks, fingerprint, sha256 = name.removesuffix(_ENDING).split(".")
        facts = Remuxed(
            segment_id=UUID(segment_id),
            span=TimeSpan(from_us(int(start)), from_us(int(end))),
            stream=StreamStart(int(ticks), bytes.fromhex(fingerprint)),
            size_bytes=size_bytes,
            sha256=bytes.fromhex(sha256),
        )
    except (ValueError, OverflowError):
        return None
    return facts if _name(facts) == name and size_bytes else None


def _swept(folder: Path) -> list[Remuxed]:
    """Every whole file, the one used longest ago first. Raises OSError, but not for one that vanishes."""
    found: list[tuple[int, Remuxed]] = []
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as files:
        for file in files:
            with contextlib.suppress(FileNotFoundError):
                status = file.stat(follow_symlinks=False)
                facts = _facts(file.name, status.st_size) if file.is_file(follow_symlinks=False) else None
                if facts is not None:
                    found.append((status.st_mtime_ns, facts))
                elif file.name.endswith((_UNFINISHED, _ENDING)):
                    _remove(Path(file.path))
    return [facts for _, facts in sorted(found, key=lambda each: each[0])]


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


async def _to_the_end(work: Coroutine[object, object, _T]) -> _T:
    """Whoever is cancelled waits for it: it must not go on by itself."""
    working = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait([working])
        raise


async def _in_thread(action: Callable[_P, _T], *arguments: _P.args, **named: _P.kwargs) -> _T:
    return await _to_the_end(asyncio.to_thread(action, *arguments, **named))


async def _descriptor(action: Callable[_P, int], *arguments: _P.args, **named: _P.kwargs) -> int:
    """What the action opens, in a thread; closed again where nobody waits for it any more."""
    opening = asyncio.ensure_future(asyncio.to_thread(action, *arguments, **named))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        await asyncio.wait([opening])
        if opening.exception() is None:
            os.close(opening.result())
        raise
