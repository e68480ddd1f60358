"""Keeping the watcher of one root alive, and knowing when its events cannot be relied upon."""

import asyncio
import logging
import time
from collections.abc import Callable

from cctv_storaged.recorder.watcher import Hint, Watcher, watches_held

log = logging.getLogger(__name__)

SUPERVISION_S = 2.0
"""How often the watcher's threads are checked."""
RENEWAL_S = 300.0
"""How often a watcher that is short of watches is replaced: there may be more by then."""


class FolderCensus:
    """Folders that scans have seen in watched roots, against the watches the kernel says we hold.

    watchdog swallows the error when a folder below the root cannot be watched (the user's limit is used up).
    """

    def __init__(self) -> None:
        self._folders: dict[str, int] = {}

    def count(self, root: str, folders: int) -> None:
        """A scan of a watched root saw so many folders; 0 when the root is not watched."""
        self._folders[root] = folders

    def complete(self) -> bool:
        """Whether every folder has its watch. Reads /proc; blocking."""
        return watches_held() >= sum(self._folders.values())


class WatcherSupervisor:
    """Starts the root's watcher, and another whenever it died; says when only scans find anything.

    `tell` gets hints on the event loop; `alert` gets a line for people at each change; `restarted` is called
    when a watcher begins to watch: whatever happened before then only a full scan can find.
    """

    def __init__(
        self,
        root: str,
        census: FolderCensus,
        tell: Callable[[Hint], None],
        alert: Callable[[str], None],
        restarted: Callable[[], None],
    ) -> None:
        self._root = root
        self._census = census
        self._tell = tell
        self._alert = alert
        self._restarted = restarted
        self._watcher: Watcher | None = None
        self._trouble: str | None = None
        self._short_of_watches = 0
        self._outdated: str | None = None
        self._started_at = 0.0

    @property
    def reliable(self) -> bool:
        """Whether events of every folder arrive."""
        return self._watcher is not None and self._trouble is None

    @property
    def watching(self) -> bool:
        """Whether a watcher is at work, if perhaps not in every folder."""
        return self._watcher is not None

    def renew(self, why: str) -> None:
        """The watches may lie on folders that nobody sees any more: others are to be set."""
        self._outdated = why

    async def run(self) -> None:
        """Checks until cancelled, then stops the watcher."""
        try:
            while True:
                await self.check()
                await asyncio.sleep(SUPERVISION_S)
        finally:
            await self._stop()

    async def check(self) -> None:
        """One round: start, restart, count."""
        if self._watcher is not None:
            await self._discard(self._watcher)
        if self._watcher is None:
            await self._start()
        else:
            await self._count_watches()

    async def _discard(self, watcher: Watcher) -> None:
        """Stops the watcher if another has to take its place."""
        if why := await self._why_another(watcher):
            self._alert(f"{why}; starting another")
            await self._stop()
        elif self._trouble is not None and time.monotonic() - self._started_at >= RENEWAL_S:
            await self._stop()

    async def _why_another(self, watcher: Watcher) -> str | None:
        if not watcher.healthy():
            return f"the watcher of {self._root} died"
        if not await asyncio.to_thread(watcher.in_place):
            return f"the watcher of {self._root} watches a folder that is elsewhere now"
        return self._outdated

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()
        watcher = Watcher([self._root], lambda hint: _to_loop(loop, self._tell, hint))
        try:
            await asyncio.to_thread(watcher.start)
        except FileNotFoundError:
            self._in_trouble(f"{self._root} is watched as soon as it is there; it is looked for often")
            return
        except OSError as exc:
            self._in_trouble(f"{self._root} cannot be watched ({exc}); scanning it often instead")
            return
        self._watcher = watcher
        self._outdated = None
        self._started_at = time.monotonic()
        if not self._short_of_watches:
            self._out_of_trouble()
        self._restarted()

    async def _count_watches(self) -> None:
        """A folder seen a moment ago may be gone or not yet watched: only a lasting shortage counts."""
        complete = await asyncio.to_thread(self._census.complete)
        self._short_of_watches = 0 if complete else self._short_of_watches + 1
        if self._short_of_watches >= 3:
            self._in_trouble(
                f"not every folder of {self._root} is watched: raise fs.inotify.max_user_watches; "
                "scanning it often meanwhile"
            )
        elif complete:
            self._out_of_trouble()

    def _in_trouble(self, text: str) -> None:
        if self._trouble is None:
            self._alert(text)
        self._trouble = text

    def _out_of_trouble(self) -> None:
        if self._trouble is not None:
            self._alert(f"{self._root} is watched again")
        self._trouble = None

    async def _stop(self) -> None:
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            await asyncio.shield(asyncio.to_thread(watcher.stop))


def _to_loop(loop: asyncio.AbstractEventLoop, call: Callable[[Hint], None], hint: Hint) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(call, hint)
