"""Stage `EARLY`: sources whose copies are all verified go before their grace is over."""

from collections import deque
from itertools import islice

from cctv_storaged.capacity.stages import NOTHING_LEFT, Taken, enough_of
from cctv_storaged.clock import Clock
from cctv_storaged.journal.capacity import Candidate, CapacityRows
from cctv_storaged.prune import Pruner

PAGES = 10
"""Slices of the journal looked at for one batch, where all sources of other disks stand before ours."""
LINKED = "the sources are links of what the store on the same disk holds, and free nothing"


class EarlyPruning:
    """The sources below some roots; what was considered is not looked at again before `begin_anew`."""

    def __init__(
        self, rows: CapacityRows, pruner: Pruner, clock: Clock, roots: frozenset[str], *, store_beside: bool
    ) -> None:
        """`store_beside`: a store on the same disk may hold links of the sources."""
        self._rows = rows
        self._pruner = pruner
        self._clock = clock
        self._roots = roots
        self._store_beside = store_beside
        self._waiting: deque[Candidate] = deque()
        self._after: tuple[int, int] | None = None
        self._linked = False
        self._more = True

    def begin_anew(self) -> None:
        """What was left alone may go now."""
        self._waiting.clear()
        self._after, self._linked, self._more = None, False, True

    async def take(self, most: int, need_bytes: int) -> Taken:
        """Those verified longest ago, at most so many and no more than needed."""
        for _ in range(PAGES):
            if self._waiting or not await self._read_on():
                break
        chosen = enough_of(self._waiting, most, need_bytes)
        if not chosen:
            return Taken(0, 0, None if self._more else LINKED if self._linked else NOTHING_LEFT)
        result = await self._pruner.prune_early([each.id for each in chosen])
        if result.why is None:
            self._waiting = deque(islice(self._waiting, len(chosen), None))
        tried = len(result.pruned) + len(result.refused)
        size_bytes = sum(each.size_bytes for each in result.pruned)
        return Taken(tried, size_bytes, result.why, gone=result.pruned)

    async def _read_on(self) -> bool:
        """Another slice of candidates; whether there may be more behind it."""
        page = await self._rows.verified_sources(self._roots, self._after, self._clock.now())
        self._after, self._more = page.last or self._after, page.more
        for each in page.candidates:
            if self._store_beside and each.linked:
                self._linked = True
            else:
                self._waiting.append(each)
        return page.more
