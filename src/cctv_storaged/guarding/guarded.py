"""A backend that does nothing at a place that is not the right one.

What it can do besides a `Backend` (list, lock, be presigned …) the guarded one can as well, guarded alike:
the methods are taken over one by one, so that `isinstance` of the runtime protocols says what it said.
"""

import inspect
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from typing import Any

from cctv_storaged.backends.base import Capabilities, ObjectFacts, Payload, StoredObject
from cctv_storaged.backends.shelf import ShelfBackend
from cctv_storaged.errors import BackendError, ObjectMissing
from cctv_storaged.guarding.place import Place
from cctv_storaged.pacing import ByteBudget

BELIEVED_S = 1.0
"""A deletion, of which nobody ever asks again, wants a look this young."""
READING = frozenset({"presign"})
"""What only reads, and is refused by the store itself if need be."""


class GuardedBackend:
    """`ShelfBackend` over another one at a place. An object that is missing is believed only there."""

    def __init__(self, backend: ShelfBackend, place: Place) -> None:
        self._backend = backend
        self._place = place
        for name, method in _extras(backend):
            setattr(self, name, method if name in READING else self._guarded(method))

    @property
    def name(self) -> str:
        return self._backend.name

    @property
    def location(self) -> str:
        return self._backend.location

    async def probe(self) -> Capabilities:
        if self._place.known is not None:
            await self._place.require()
            return await self._backend.probe()
        found = await self._backend.probe()  # what keeps it from being used is told in the store's words
        await self._place.require()
        return found

    async def put(self, path: str, payload: Payload, budget: ByteBudget) -> StoredObject:
        await self._place.require()
        return await self._backend.put(path, payload, budget)

    async def verify(self, expected: StoredObject) -> None:
        await self._believed(self._backend.verify, expected)

    async def stat(self, path: str) -> ObjectFacts:
        facts: ObjectFacts = await self._believed(self._backend.stat, path)
        return facts

    def open(
        self, path: str, start: int = 0, length: int | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        return self._open(path, start, length)

    async def delete(self, path: str) -> None:
        await self._place.require(time.monotonic() - BELIEVED_S)
        await self._backend.delete(path)

    async def delete_many(self, paths: Sequence[str]) -> Mapping[str, BackendError]:
        await self._place.require(time.monotonic() - BELIEVED_S)
        return await self._backend.delete_many(paths)

    async def sweep(self, older_than_s: float) -> int:
        await self._place.require()
        return await self._backend.sweep(older_than_s)

    async def ensure_bucket(self) -> None:
        """Only at first sight: one that is known and gone must not be hidden by a new one."""
        if self._place.known is not None:
            await self._place.check()
            self._place.require_right()
            return
        await self._backend.ensure_bucket()
        await self._place.check()

    async def close(self) -> None:
        await self._backend.close()

    # Guarding

    async def _believed(self, method: Callable[..., Awaitable[Any]], *args: Any, **named: Any) -> Any:
        await self._place.require()
        try:
            return await method(*args, **named)
        except ObjectMissing:
            await self._place.require(time.monotonic())
            raise

    @asynccontextmanager
    async def _open(self, path: str, start: int, length: int | None) -> AsyncIterator[AsyncIterator[bytes]]:
        async with AsyncExitStack() as stack:
            try:
                blocks = await stack.enter_async_context(self._backend.open(path, start, length))
            except ObjectMissing:
                await self._place.require(time.monotonic())
                raise
            yield blocks

    def _guarded(self, method: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.isasyncgenfunction(method):
            return self._listing(method)

        async def guarded(*args: Any, **named: Any) -> Any:
            return await self._believed(method, *args, **named)

        return guarded

    def _listing(self, method: Callable[..., AsyncGenerator[Any, None]]) -> Callable[..., Any]:
        """What a listing does not name is missing: so it has to be the right place up to its end."""

        async def listing(*args: Any, **named: Any) -> AsyncIterator[Any]:
            await self._place.require(time.monotonic() - BELIEVED_S)
            async with aclosing(method(*args, **named)) as pages:
                async for page in pages:
                    yield page
            await self._place.require(time.monotonic())

        return listing


def _extras(backend: ShelfBackend) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Its public methods that not every backend has."""
    for name, _ in inspect.getmembers(type(backend), inspect.isfunction):
        if not name.startswith("_") and not hasattr(GuardedBackend, name):
            yield name, getattr(backend, name)
