"""The journal follows a change of `mode` or `backend`, in the background: new segments have it right at once.

Nothing waits for it: a source goes only when all that is required now have it (prune.py).
"""

import asyncio
import logging
from collections.abc import Callable, Sequence

from cctv_storaged.errors import JournalFull
from cctv_storaged.journal.requiring import Requirement

log = logging.getLogger(__name__)

FULL_PAUSE_S = 5.0
EVERY = 100
"""Slices after which deliveries are told that there is something for them."""


class Requiring:
    """Goes through the journal once after a change; at every other start a look-up."""

    def __init__(
        self, requirement: Requirement, required: Sequence[str], due: Callable[[], None] = lambda: None
    ) -> None:
        """`due` is called when copies became due."""
        self._requirement = requirement
        self._required = tuple(required)
        self._due = due

    async def run(self) -> None:
        """Returns when the journal is in line."""
        if await self._requirement.is_settled(self._required):
            return
        added, number, more = 0, 0, True
        while more:
            try:
                settled = await self._requirement.settle(self._required)
            except JournalFull:  # it has said so itself
                await asyncio.sleep(FULL_PAUSE_S)
                continue
            added, number, more = added + settled.due, number + 1, settled.more
            if settled.due and number % EVERY == 1:
                self._due()
        if added:
            where = " and ".join(map(str, self._required))
            log.info("%d copies of what was there before are now due at %s", added, where)
            self._due()
