"""Segments as media reads them: bytes on demand, under a name for messages."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from cctv_storaged.model import TimeSpan

Opening = Callable[[int, int | None], AbstractAsyncContextManager[AsyncIterator[bytes]]]
"""Bytes from an offset on, so many of them or (None) to the end; the end of the block ends the reading."""


Blocks = AsyncGenerator[bytes | bytearray]
"""A stream on its way into a child; whoever leaves it early closes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One segment's bytes."""

    name: str
    span: TimeSpan
    size_bytes: int
    open: Opening

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
