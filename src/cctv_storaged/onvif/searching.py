"""Searches under way: bounded in number and in life, each giving its results in parts. Knows no XML.

ONVIF Recording Search Specification, "Search Session".
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from datetime import timedelta

from cctv_storaged.clock import Clock
from cctv_storaged.errors import StoragedError
from cctv_storaged.onvif.soap import SoapFault, invalid

MOST_SEARCHES = 32
SHORTEST_LIFE = timedelta(seconds=10)
LONGEST_LIFE = timedelta(minutes=2)
MOST_AT_ONCE = 500
LONGEST_WAIT = timedelta(seconds=5)
SOON_S = 0.1
"""With some results there, the next is waited for no longer."""


@dataclass(frozen=True, slots=True)
class Part:
    """Results, each as its XML, and whether there are no more."""

    results: tuple[str, ...]
    completed: bool


@dataclass(slots=True)
class _Search:
    kind: str
    results: AsyncGenerator[str]
    left: int  # results that may still be given
    life_s: float
    until_s: float
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    coming: asyncio.Task[str | None] | None = None  # the next result, looked for also between two requests


class Searches:
    """By their tokens."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._searches: dict[str, _Search] = {}

    def __len__(self) -> int:
        return len(self._searches)

    async def begin(
        self, kind: str, results: AsyncGenerator[str], *, most: int | None, life: timedelta
    ) -> str:
        """The new search's token. Raises SoapFault where there are too many."""
        await self._sweep()
        if len(self._searches) >= MOST_SEARCHES:
            await results.aclose()
            message = f"{MOST_SEARCHES} searches are under way: end one, or wait until one expires"
            raise SoapFault(message, "ter:Action", "ter:ResourceProblem", receiver=True)
        token = f"search-{secrets.token_hex(8)}"
        life_s = min(max(life, SHORTEST_LIFE), LONGEST_LIFE).total_seconds()
        until_s = self._clock.monotonic() + life_s
        left = 2**31 if most is None else most
        self._searches[token] = _Search(kind, results, left, life_s, until_s)
        return token

    async def part(self, token: str, kind: str, most: int, wait: timedelta) -> Part:
        """The next results. Raises SoapFault for a search that there is not (any more)."""
        await self._sweep()
        search = self._searches.get(token)
        if search is None or search.kind != kind:
            raise invalid(f"there is no such search {token[:64]!r}", "ter:InvalidToken")
        async with search.lock:
            search.until_s = self._clock.monotonic() + search.life_s + wait.total_seconds()
            try:
                found, completed = await _taken(search, min(most, MOST_AT_ONCE), wait)
            except StoragedError:
                await self._forget(token)  # asked again it would look complete
                raise
            search.left -= len(found)
            search.until_s = self._clock.monotonic() + search.life_s
            completed = completed or search.left <= 0
        if completed:
            await self._forget(token)
        return Part(tuple(found), completed)

    async def end(self, token: str) -> None:
        """Raises SoapFault for one that there is not."""
        if not await self._forget(token):
            raise invalid(f"there is no such search {token[:64]!r}", "ter:InvalidToken")

    async def close(self) -> None:
        """Ends all of them."""
        while self._searches:
            await self._forget(next(iter(self._searches)))

    async def _sweep(self) -> None:
        now_s = self._clock.monotonic()
        for token in [token for token, search in self._searches.items() if search.until_s < now_s]:
            await self._forget(token)

    async def _forget(self, token: str) -> bool:
        """Whether there was one."""
        search = self._searches.pop(token, None)
        if search is not None:
            await _closed(search)
        return search is not None


async def _taken(search: _Search, most: int, wait: timedelta) -> tuple[list[str], bool]:
    """As many as there are in time, and whether that was all. A year without a gap is searched for long."""
    found: list[str] = []
    loop = asyncio.get_running_loop()
    until_s = loop.time() + wait.total_seconds()
    while len(found) < min(most, search.left):
        search.coming = search.coming or asyncio.create_task(_next(search.results))
        left_s = max(0.0, until_s - loop.time())
        done, _ = await asyncio.wait({search.coming}, timeout=min(left_s, SOON_S) if found else left_s)
        if not done:
            break
        coming, search.coming = search.coming, None
        if coming.cancelled():  # the search was ended meanwhile
            return found, True
        result = coming.result()
        if result is None:
            return found, True
        found.append(result)
    return found, False


async def _next(results: AsyncGenerator[str]) -> str | None:
    return await anext(results, None)


async def _closed(search: _Search) -> None:
    if search.coming is not None:
        search.coming.cancel()
        await asyncio.gather(search.coming, return_exceptions=True)
    await search.results.aclose()
