"""Writing down when a recorder root was looked at whole: only then does no footage mean a silent recorder.

The time goes on from one whole look to the next. Whatever keeps us from looking (the root away, a folder
that refuses, another disk, the host asleep, a clock that jumps, the daemon's end) ends it, and the next whole
look begins another. It is written seldom: a kill costs the last minute.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from cctv_storaged.clock import Clock
from cctv_storaged.errors import JournalFull
from cctv_storaged.journal.journal import Journal
from cctv_storaged.model import TimeSpan

log = logging.getLogger(__name__)

WRITTEN_S = 60.0
"""How often at most."""
DRIFT_S = 5.0
"""The two clocks differ by no more between two looks, or one of them jumped or stood still."""

Doubt = Callable[[str], str | None]
"""Of a root: why what lies there may not be its footage now; None while all is well."""


@dataclass(frozen=True, slots=True)
class Look:
    """When a look began, by both clocks."""

    at: datetime
    at_s: float


class Lookout:
    """The time for which one root has been looked at without a break."""

    def __init__(self, root: str, journal: Journal, clock: Clock, doubt: Doubt | None = None) -> None:
        self._root = root
        self._journal = journal
        self._clock = clock
        self._doubt = doubt
        self._since: datetime | None = None
        self._until: datetime | None = None
        self._looked_s = 0.0
        self._written: datetime | None = None
        self._written_s = 0.0

    def begins(self) -> Look:
        """Before a look: what is closed from now on it need not find."""
        return Look(self._clock.now(), self._clock.monotonic())

    async def saw_all(self, look: Look) -> None:
        """The look met every folder and every closed file of the root."""
        if self._doubt is not None and self._doubt(self._root) is not None:
            await self.broken()
            return
        if self._since is not None and self._until is not None and not self._goes_on(look):
            await self.broken()
        if self._since is None:
            self._since, self._written = look.at, None
        self._until, self._looked_s = look.at, look.at_s
        if self._written is None or look.at_s - self._written_s >= WRITTEN_S:
            await self._write()

    async def broken(self) -> None:
        """Not everything could be looked at."""
        if self._until is not None and self._until != self._written:
            await self._write()
        self._since = self._until = None

    def _goes_on(self, look: Look) -> bool:
        assert self._until is not None
        by_wall_s = (look.at - self._until).total_seconds()
        return abs(by_wall_s - (look.at_s - self._looked_s)) <= DRIFT_S

    async def _write(self) -> None:
        if self._since is None or self._until is None or self._until <= self._since:
            return
        try:
            await self._journal.watched.extend(self._root, TimeSpan(self._since, self._until))
        except JournalFull:
            return  # the journal has said it; the next look writes it
        self._written, self._written_s = self._until, self._looked_s
