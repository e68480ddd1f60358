"""A shelf: where what this program makes itself (exports, thumbnails) is kept, beside the recordings.

What flows through: the same as through any backend, with every path below the shelf's prefix. The backend
behind it is opened at first need, so that a host that never exports pays nothing, and its bucket is made
where it is missing: unlike the recordings' bucket it hides no loss. Below a FILESYSTEM's folder the shelf
is a folder made by its first put; the store's own folder is never made, it may be a disk not mounted yet.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Protocol

from cctv_storaged.backends.base import (
    Backend,
    Capabilities,
    Describing,
    ObjectFacts,
    Payload,
    Preparing,
    Presigning,
    StoredObject,
)
from cctv_storaged.errors import BackendError, BackendUnavailable, ObjectMissing, ObjectRejected
from cctv_storaged.pacing import ByteBudget


class ShelfBackend(Backend, Describing, Preparing, Protocol):
    """What may stand behind a shelf."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShelfPlace:
    """Where a shelf is, known before its backend is opened."""

    name: str  # of the backend: MINIO, S3, FILESYSTEM
    location: str  # bucket or folder, for people and metric labels
    prefix: str  # put before every path: "" or ending in "/"
    own_bucket: bool  # made where it is missing
    swept: bool  # by the shelf; else with the recordings, whose folder it is in


class Shelf:
    """A `Backend` and `Describing` over another one."""

    def __init__(self, place: ShelfPlace, opening: Callable[[], ShelfBackend]) -> None:
        self._place = place
        self._opening = opening
        self._backend: ShelfBackend | None = None
        self._prepared = False
        self._closed = False
        self._lock = asyncio.Lock()

    @property
    def name(self) -> str:
        return self._place.name

    @property
    def location(self) -> str:
        return self._place.location

    @property
    def place(self) -> str:
        """Where its objects are, in one line: other settings are another place."""
        inside = f"/{self._place.prefix}".rstrip("/")
        return f"{self.name}:{self.location.removesuffix(inside)}{inside}"  # a folder's has it already

    async def probe(self) -> Capabilities:
        return await (await self._opened()).probe()

    async def put(self, path: str, payload: Payload, budget: ByteBudget) -> StoredObject:
        try:
            stored = await (await self._ready()).put(self._key(path), payload, budget)
        except BackendUnavailable as exc:
            if not self._may_make(exc):
                raise
            self._prepared = False  # somebody removed the bucket meanwhile
            stored = await (await self._ready()).put(self._key(path), payload, budget)
        return replace(stored, path=path)

    async def verify(self, expected: StoredObject) -> None:
        backend = await self._opened()
        with self._nothing_without_bucket(expected.path):
            await backend.verify(replace(expected, path=self._key(expected.path)))

    async def stat(self, path: str) -> ObjectFacts:
        backend = await self._opened()
        with self._nothing_without_bucket(path):
            return replace(await backend.stat(self._key(path)), path=path)

    @asynccontextmanager
    async def open(
        self, path: str, start: int = 0, length: int | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        backend = await self._opened()
        async with AsyncExitStack() as stack:
            with self._nothing_without_bucket(path):
                blocks = await stack.enter_async_context(backend.open(self._key(path), start, length))
            yield blocks

    async def delete(self, path: str) -> None:
        backend = await self._opened()
        with suppress(ObjectMissing), self._nothing_without_bucket(path):
            await backend.delete(self._key(path))

    async def delete_many(self, paths: Sequence[str]) -> Mapping[str, BackendError]:
        backend = await self._opened()
        named = {self._key(path): path for path in paths}
        with suppress(ObjectMissing), self._nothing_without_bucket(""):
            failures = await backend.delete_many(tuple(named))
            return {named[key]: error for key, error in failures.items()}
        return {}

    async def sweep(self, older_than_s: float) -> int:
        """Only what this process uses: an export that was interrupted goes on and opens the shelf again."""
        if self._backend is None or not self._place.swept:
            return 0
        with suppress(ObjectMissing), self._nothing_without_bucket(""):
            return await self._backend.sweep(older_than_s)
        return 0

    async def close(self) -> None:
        self._closed = True
        if self._backend is not None:
            await self._backend.close()

    def _key(self, path: str) -> str:
        return self._place.prefix + path

    async def _ready(self) -> ShelfBackend:
        """Opened, its bucket there, and known for what it does."""
        backend = await self._opened()
        async with self._lock:
            if not self._prepared:
                await self._prepare(backend)
                self._prepared = True
        return backend

    async def _prepare(self, backend: ShelfBackend) -> None:
        try:
            await backend.probe()
        except BackendUnavailable as exc:
            if not self._may_make(exc):
                raise
            await backend.ensure_bucket()
            await backend.probe()

    async def _opened(self) -> ShelfBackend:
        async with self._lock:
            if self._closed:
                raise BackendUnavailable(f"{self.name} is closed")
            if self._backend is None:
                self._backend = await asyncio.to_thread(self._opening)
            return self._backend

    def _may_make(self, error: BackendUnavailable) -> bool:
        return error.reason == "bucket" and self._place.own_bucket

    @contextmanager
    def _nothing_without_bucket(self, path: str) -> Iterator[None]:
        """A bucket that nobody made yet holds nothing."""
        try:
            yield
        except BackendUnavailable as exc:
            if not self._may_make(exc):
                raise
            raise ObjectMissing(f"{self.location} holds no {path}: {exc}") from exc


class PresigningShelf(Shelf):
    """A shelf on a store that others can be sent to."""

    async def presign(self, path: str, expires_s: int, filename: str | None = None) -> str:
        backend = await self._opened()
        if not isinstance(backend, Presigning):
            raise ObjectRejected(f"{self.name} has no URLs for others")
        return await backend.presign(self._key(path), expires_s, filename)
