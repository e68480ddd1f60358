"""A backend's own threads, and reading an object block by block through them.

What flows through: blocking work in, results out. Threads of their own, because a backend that hangs must
not starve those that hash, resolve names or serve the journal. It does not know what the work is.
"""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import replace
from typing import TypeVar

from cctv_storaged.backends.base import Payload
from cctv_storaged.errors import BackendUnavailable

T = TypeVar("T")


class Workers:
    """Named threads; cancelling a caller does not stop the thread that works for it."""

    def __init__(self, name: str, threads: int) -> None:
        self._name = name
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name.lower())

    async def run(self, work: Callable[..., T], *args: object) -> T:
        return await asyncio.wrap_future(self._submit(work, *args))

    async def run_with(self, payload: Payload, work: Callable[[Payload], T]) -> T:
        """Run with a payload that outlives its caller.

        A cancelled caller closes its descriptor while the thread may still read, and the number may come
        back as another file: so the thread gets a descriptor of its own.
        """
        own = replace(payload, descriptor=os.dup(payload.descriptor))
        try:
            future = self._submit(work, own)
        except BackendUnavailable:
            os.close(own.descriptor)
            raise
        future.add_done_callback(lambda _: os.close(own.descriptor))
        return await asyncio.wrap_future(future)

    @asynccontextmanager
    async def reading(
        self, opening: Callable[[], AbstractContextManager[Iterator[bytes]]]
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The blocks of what `opening` opens; it is closed however the caller leaves."""
        reader = _Reader(opening)
        try:
            await self.run(reader.begin)
            yield self._blocks(reader)
        finally:
            try:
                await asyncio.shield(self.run(reader.end))
            except BackendUnavailable:  # closed meanwhile: no thread is left to do it
                reader.end_soon()

    async def _blocks(self, reader: "_Reader") -> AsyncIterator[bytes]:
        while block := await self.run(reader.block):
            yield block

    def close(self) -> None:
        """Take no more work and forget what has not begun; what has begun ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _submit(self, work: Callable[..., T], *args: object) -> Future[T]:
        try:
            return self._pool.submit(work, *args)
        except RuntimeError as exc:  # the pool was shut down
            raise BackendUnavailable(f"{self._name} is closed") from exc


class _Reader:
    """A read that is opened, advanced and ended from whichever thread is free, one at a time."""

    def __init__(self, opening: Callable[[], AbstractContextManager[Iterator[bytes]]]) -> None:
        self._opening = opening
        self._lock = threading.Lock()
        self._manager: AbstractContextManager[Iterator[bytes]] | None = None
        self._blocks: Iterator[bytes] = iter(())
        self._ended = False

    def begin(self) -> None:
        with self._lock:
            if not self._ended:
                manager = self._opening()
                self._blocks = manager.__enter__()
                self._manager = manager

    def block(self) -> bytes:
        """The next block, empty at the end."""
        with self._lock:
            block = next(self._blocks, b"")
            if self._ended:
                self._leave()
            return block

    def end(self) -> None:
        with self._lock:
            self._ended = True
            self._leave()

    def end_soon(self) -> None:
        """End without waiting: now, or by the thread that is in the middle of a block."""
        self._ended = True
        if self._lock.acquire(blocking=False):
            try:
                self._leave()
            finally:
                self._lock.release()

    def _leave(self) -> None:
        manager, self._manager = self._manager, None
        if manager is not None:
            manager.__exit__(None, None, None)
