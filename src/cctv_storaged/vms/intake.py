"""Which copies a round of proving looks at: a bounded number, the urgent and the newest first.

What was put off again and again may be a hundred thousand: of that a little is asked for at a time, and ever
more as long as it brings something. Looking through the others for what nobody announced has a budget.
"""

import math
from collections.abc import Callable, Collection
from dataclasses import replace
from uuid import UUID

from cctv_storaged.journal.vouchdue import Found, Search
from cctv_storaged.journal.vouched import Waiting, Which
from cctv_storaged.vms.attendance import NAME
from cctv_storaged.vms.ground import Ground

ENOUGH = 3000
"""Due copies in one round."""
PAGES = 32
"""Pages of the backlog looked through in one round."""
NEWEST_PAGES = 6
"""Pages from the new end, with all of the backlog to be taken from there."""
URGENT_PAGES = 6
"""Pages of urgent ones, the first and those behind the last round's."""
AGAIN_PAGES = 2
"""Pages of those that were put off, in one round."""
FEW, MANY = 2, 64
"""So many that were put off together are taken in one round: while that brings nothing, and at most."""
BUDGET = 0.005
"""Share of the time that goes into looking through what is not due, at most."""
PASSED_S, BEHIND_S, READ_S = 0.7e-6, 2e-6, 25e-6
"""What it costs to pass over a copy, over one whose segment is looked at, and to read one."""
LONGEST_REST_S = 60.0


class Intake:
    """Reads on where the last round ended, and from the start again behind the end."""

    def __init__(
        self,
        ground: Ground,
        newest_share: float,
        wanted: Callable[[Waiting], bool] = lambda each: True,
        *,
        again_in_s: float = 5.0,
    ) -> None:
        """`wanted`: whether anything can be done about a copy now. Others have no place among those taken.

        `again_in_s`: how much later more of those that were put off are taken, where some brought nothing.
        """
        self._wanted = wanted
        self._due = ground.journal.vouch_due
        self._clock = ground.clock
        self.newest_share = newest_share
        self._after: tuple[int, int] | None = None
        self._urgent_after: tuple[int, int] | None = None
        self._again_after: tuple[int, int] | None = None
        self._again_in_s = again_in_s
        self._again_s = -math.inf  # before, none that were put off are taken; monotonic
        self._again: set[UUID] = set()  # those taken last
        self._few, self._tried = FEW, FEW
        self._rests_until_s = -math.inf  # before, nothing is looked for that nobody announced; monotonic

    def start_over(self) -> None:
        """What lies behind may have come due."""
        self._after = None
        self._again_s = self._rests_until_s = -math.inf

    def brought(self, segment_ids: Collection[UUID]) -> None:
        """Something came of these. Are they of those that were put off, twice as many are tried at once."""
        if not self._again.isdisjoint(segment_ids):
            self._few = min(MANY, 2 * self._tried)
            self.try_again()

    def try_again(self) -> None:
        """Those that were put off need not wait for their turn."""
        self._again_s = -math.inf

    async def some(self, *, unhashed: bool = False) -> list[Waiting]:
        """Each due copy once, at most some thousands; `unhashed`: those to be hashed alone."""
        found: dict[UUID, Waiting] = {}
        await self._take_urgent(found, unhashed)
        if not await self._take_newest(found, unhashed):
            await self._take_put_off(found, unhashed)
            await self._look_through(found, unhashed)
        return list(found.values())

    async def _take_urgent(self, found: dict[UUID, Waiting], unhashed: bool) -> None:
        """The first of them, and on from where the last round ended: what waits must not hide the others."""
        search = Search(which=Which.URGENT, unhashed=unhashed)
        first = await self._page(search)
        self._take(found, first)
        if first.after is None:
            self._urgent_after = None
            return
        after = max(self._urgent_after or first.after, first.after)
        for _ in range(URGENT_PAGES - 1):
            page = await self._page(replace(search, after=after))
            self._take(found, page)
            self._urgent_after = page.after
            if page.after is None:
                return
            after = page.after

    async def _take_newest(self, found: dict[UUID, Waiting], unhashed: bool) -> bool:
        """Whether that was all there is."""
        search = Search(newest_first=True, unhashed=unhashed)
        for _ in range(round(self.newest_share * NEWEST_PAGES + 0.499)):
            page = await self._page(search)
            self._take(found, page)
            if page.after is None:
                self._after = None
                return True
            search = replace(search, after=page.after)
        return False

    async def _take_put_off(self, found: dict[UUID, Waiting], unhashed: bool) -> None:
        """As many as are worth a try; those for which nothing can be done now are passed over."""
        now_s = self._clock.monotonic()
        if now_s < self._again_s:
            return
        self._again_s, self._tried, self._few = now_s + self._again_in_s, self._few, FEW
        self._again.clear()
        taken = 0
        for _ in range(AGAIN_PAGES):
            page = await self._due.came_due(NAME, self._clock.now(), self._again_after, unhashed=unhashed)
            for together in page:
                wanted = {each.id: each for each in together.rows if self._wanted(each)}
                found.update(wanted)
                self._again |= wanted.keys()
                taken += bool(wanted)
                self._again_after = together.place
                if taken >= self._tried:
                    return
            if not page:
                self._again_after = None
                return

    async def _look_through(self, found: dict[UUID, Waiting], unhashed: bool) -> None:
        """For what was never put off, and is neither new nor urgent. Rests where nothing was found."""
        if self._clock.monotonic() < self._rests_until_s:
            return
        known, spent_s = len(found), 0.0
        for _ in range(PAGES):
            page = await self._page(Search(after=self._after, put_off_too=False, unhashed=unhashed))
            self._take(found, page)
            self._after = page.after
            spent_s += page.passed * (BEHIND_S if unhashed else PASSED_S) + len(page.rows) * READ_S
            if page.after is None or len(found) >= ENOUGH:
                break
        if len(found) == known:
            self._rests_until_s = self._clock.monotonic() + min(LONGEST_REST_S, spent_s / BUDGET)

    async def _page(self, search: Search) -> Found:
        return await self._due.page(NAME, search, self._clock.now())

    def _take(self, found: dict[UUID, Waiting], page: Found) -> None:
        found.update((each.id, each) for each in page.rows if self._wanted(each))
