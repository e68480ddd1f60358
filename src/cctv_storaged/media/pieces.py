"""Segments as media reads them: bytes on demand, under a name for messages."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from cctv_storaged.model import TimeSpan

Opening = Callable[[int, int | None], AbstractAsyncContextManager[AsyncIterator[bytes]]]
"""Bytes from an offset on, so many of them or (None) to the end; the end of the block ends the reading."""


_AHEAD_BLOCKS = 16

Blocks = AsyncGenerator[bytes | bytearray]
"""A stream on its way into a child; whoever leaves it early closes it."""


MOST_BYTES_PER_S = 8_000_000
"""Of footage that is still to be read back, and whose size nobody knows: no camera sends as much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One segment's bytes."""

    name: str
    span: TimeSpan
    size_bytes: int
    open: Opening
    remuxed: bool = False
    """Not the recorder's stream: its neighbours may show the same pictures; its span is the pictures' own."""
    settle: Callable[[], Awaitable["Piece"]] | None = None
    """What is only known once it is about to be read: the piece with its true span and size."""
    most_bytes: int = 0
    """For limits, where the size is not known yet."""

    async def settled(self) -> "Piece":
        """As it is read. Raises what opening it raises."""
        return self if self.settle is None else await self.settle()

    async def read(self, offset: int, length: int) -> bytes:
        """A stretch; `mpegts.seek.Read`."""
        if length <= 0:
            return b""
        async with self.open(offset, length) as blocks:
            return b"".join([block async for block in blocks])


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedPiece:
    """A segment of which nothing could be used, and why."""

    name: str
    span: TimeSpan
    reason: str


async def ahead(blocks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """Reads on while what was read is worked on: a store's answer takes its time."""
    queue: asyncio.Queue[bytes | None] = asyncio.Queue(_AHEAD_BLOCKS)

    async def fill() -> None:
        try:
            async for block in blocks:
                await queue.put(block)
        finally:
            await queue.put(None)

    filling = asyncio.create_task(fill())
    try:
        while (block := await queue.get()) is not None:
            yield block
        await filling
    finally:
        filling.cancel()
        while not queue.empty():
            queue.get_nowait()
        await asyncio.gather(filling, return_exceptions=True)
