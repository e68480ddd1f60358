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
    async def hold(self, *names: str) -> AsyncIterator[None]:
        """Waits for each name to be free, and has them until the block is left.

        Whoever wants several takes them in their order, so that no two wait for each other.
        """
        held: list[asyncio.Lock] = []
        wanted = sorted(set(names))
        for name in wanted:
            self._wanted[name] = self._wanted.get(name, 0) + 1
        try:
            for name in wanted:
                lock = self._locks.setdefault(name, asyncio.Lock())
                await lock.acquire()
                held.append(lock)
            yield
        finally:
            for lock in held:
                lock.release()
            for name in wanted:
                self._let_go(name)

    def _let_go(self, name: str) -> None:
        self._wanted[name] -= 1
        if not self._wanted[name]:
            del self._wanted[name]
            self._locks.pop(name, None)
