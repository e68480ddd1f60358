"""Which copies a round of proving looks at: a bounded number, the urgent and the newest first."""

from collections.abc import Callable

from cctv_storaged.journal.vouched import PAGE, Waiting, WaitingPage, Which
from cctv_storaged.vms.attendance import NAME
from cctv_storaged.vms.ground import Ground

ENOUGH = 3000
"""Due copies in one round."""
PAGES = 32
"""Pages of the backlog read in one round, where most of it is not due."""
NEWEST_PAGES = 6
"""Pages from the new end, with all of the backlog to be taken from there."""
URGENT_PAGES = 6
"""Pages of urgent ones, the first and those behind the last round's."""


class Intake:
    """Reads on where the last round ended, and from the start again behind the end."""

    def __init__(
        self, ground: Ground, newest_share: float, wanted: Callable[[Waiting], bool] = lambda each: True
    ) -> None:
        """`wanted`: whether anything can be done about a copy now. Others have no place among those taken."""
        self._wanted = wanted
        self._vouched = ground.journal.vouched
        self._clock = ground.clock
        self.newest_share = newest_share
        self._after: tuple[int, int] | None = None
        self._urgent_after: tuple[int, int] | None = None

    def start_over(self) -> None:
        """What lies behind may have come due."""
        self._after = None

    async def some(self) -> list[Waiting]:
        """Each copy once; at most some thousands."""
        found: dict[object, Waiting] = {}
        await self._take_urgent(found)
        after: tuple[int, int] | None = None
        for _ in range(round(self.newest_share * NEWEST_PAGES + 0.499)):
            page = await self._page(Which.UNDELIVERED, after, newest_first=True)
            self._take(found, page)
            if page.after is None:
                self._after = None
                return list(found.values())  # that was all there is
            after = page.after
        for _ in range(PAGES):
            page = await self._page(Which.UNDELIVERED, self._after)
            self._take(found, page)
            self._after = page.after
            if page.after is None or len(found) >= ENOUGH:
                break
        return list(found.values())

    async def _take_urgent(self, found: dict[object, Waiting]) -> None:
        """The first of them, and on from where the last round ended: what waits must not hide the others."""
        first = await self._page(Which.URGENT)
        self._take(found, first)
        if first.after is None:
            self._urgent_after = None
            return
        after = max(self._urgent_after or first.after, first.after)
        for _ in range(URGENT_PAGES - 1):
            page = await self._page(Which.URGENT, after)
            self._take(found, page)
            self._urgent_after = page.after
            if page.after is None:
                return
            after = page.after

    async def _page(
        self, which: Which, after: tuple[int, int] | None = None, *, newest_first: bool = False
    ) -> WaitingPage:
        return await self._vouched.page(
            NAME, which, self._clock.now(), after=after, newest_first=newest_first, limit=PAGE
        )

    def _take(self, found: dict[object, Waiting], page: WaitingPage) -> None:
        found.update((each.id, each) for each in page.rows if each.due and self._wanted(each))
