"""Places that are folders: recorder roots and the store named FILESYSTEM."""

import asyncio
import os
import threading
from collections.abc import Callable
from itertools import islice
from typing import TypeVar

from cctv_storaged.errors import BackendUnavailable
from cctv_storaged.guarding.identity import NAME, WEAK, Mark, Standing, judged
from cctv_storaged.guarding.marks import found_in, laid_in, opened_folder, own_identity
from cctv_storaged.guarding.place import MOST_ENTRIES, Keeping, Place, PlaceKind, Seen

T = TypeVar("T")

PATIENCE_S = 5.0
"""A look that takes longer is left to itself: a network mount may hang for ever."""


class FolderPlace(Place):
    """Looked at by a thread of its own, one at a time."""

    def __init__(self, kind: PlaceKind, location: str, keeping: Keeping, *, marked: bool = True) -> None:
        """Not `marked`: nothing is laid down there."""
        super().__init__(kind, location, keeping)
        self._marked = marked
        self._look: asyncio.Future[Seen] | None = None

    def by_descriptor(self, folder: int) -> None:
        """For whoever is about to act inside the folder of this descriptor. From any thread; blocking.

        Raises BackendUnavailable, OSError.
        """
        known = self.known
        if known is None:
            raise self.wrong(Standing.UNSEEN)
        weak = known.startswith(WEAK)
        own, mark = (own_identity(self.location, folder), None) if weak else (None, found_in(folder))
        standing = judged(known, mark, own)
        if standing is not Standing.RIGHT:
            raise self.wrong(standing)

    async def require(self, since: float | None = None) -> None:
        """Acts are guarded by their own descriptor; only an identity has to be known."""
        if self.known is None:
            await self.check()

    async def _seen(self) -> Seen:
        if self._look is None:
            self._look = in_its_own_thread(lambda: _looked_at(self.location, self.known))
        await asyncio.wait([self._look], timeout=PATIENCE_S)
        if not self._look.done():
            return Seen(silent=True)
        look, self._look = self._look, None
        return look.result()

    async def _laid(self, mark: Mark) -> str:
        if not self._marked:
            raise PermissionError("nothing is laid down there")
        return await in_its_own_thread(lambda: _laid_down(self.location, mark))

    async def _own(self) -> str | None:
        return await in_its_own_thread(lambda: _own_of(self.location))

    async def _entries(self) -> int | None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await in_its_own_thread(lambda: _counted(self.location))
        except (OSError, TimeoutError):
            return None

    def _stale_before(self) -> float:
        return float("-inf")

    def _told_away(self) -> str | None:
        return None if self.known is None else f"{self.location} cannot be looked at: {self._failure}"


def in_its_own_thread(work: Callable[[], T]) -> asyncio.Future[T]:
    """What the work comes to; a thread that hangs keeps nothing from ending, nor others from their turn."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]  # without an error there is one

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except Exception as exc:  # noqa: BLE001 - handed over to whoever waits
            error = exc
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="place", daemon=True).start()
    return future


def _looked_at(path: str, known: str | None) -> Seen:
    try:
        with opened_folder(path) as folder:
            if known is not None and known.startswith(WEAK):
                return Seen(own=own_identity(path, folder))
            return Seen(mark=found_in(folder))
    except OSError as exc:
        absent = isinstance(exc, FileNotFoundError | NotADirectoryError)
        reason = "bucket" if absent else "server"
        return Seen(absent=absent, trouble=BackendUnavailable(f"{path}: {exc.strerror}", reason=reason))


def _laid_down(path: str, mark: Mark) -> str:
    with opened_folder(path) as folder:
        return laid_in(folder, mark)


def _counted(path: str) -> int:
    with os.scandir(path) as entries:
        return sum(1 for _ in islice((entry for entry in entries if entry.name != NAME), MOST_ENTRIES))


def _own_of(path: str) -> str:
    with opened_folder(path) as folder:
        return own_identity(path, folder)
