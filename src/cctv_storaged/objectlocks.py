"""One at a time under one object's name: two twins' puts, and a put and a deletion, must not cross.

In memory, for one backend of one process; whoever holds a name while the process dies holds nothing after.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class ObjectLocks:
    """Locks by name that exist only while somebody wants them; used on the event loop only."""

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}
        self._wanted: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._locks)

    @asynccontextmanager
    async def hold(self, name: str) -> AsyncIterator[None]:
        """Waits for the name to be free, and has it until the block is left."""
        lock = self._locks.setdefault(name, asyncio.Lock())
        self._wanted[name] = self._wanted.get(name, 0) + 1
        try:
            async with lock:
                yield
        finally:
            self._wanted[name] -= 1
            if not self._wanted[name]:
                del self._wanted[name], self._locks[name]
