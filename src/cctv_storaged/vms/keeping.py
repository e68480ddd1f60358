"""What came of asking XProtect, into the journal, however long that has no room; many rows in slices."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from cctv_storaged.errors import JournalFull
from cctv_storaged.journal.vouched import AT_MOST

T = TypeVar("T")
R = TypeVar("R")

FULL_PAUSE_S = 1.0


async def kept(write: Callable[[], Awaitable[T]]) -> T:
    """The answer of `write`, once the journal took it. Raises what it raises, but for JournalFull."""
    while True:
        try:
            return await write()
        except JournalFull:  # it has said so itself
            await asyncio.sleep(FULL_PAUSE_S)


async def in_slices(items: Sequence[T], write: Callable[[Sequence[T]], Awaitable[R]]) -> list[R]:
    """`write` for all items, so many at a time; handed in together, so that one commit takes them all."""

    async def one(some: Sequence[T]) -> R:
        return await kept(lambda: write(some))

    slices = [items[first : first + AT_MOST] for first in range(0, len(items), AT_MOST)]
    return await asyncio.gather(*(one(some) for some in slices))
