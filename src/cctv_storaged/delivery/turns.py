"""When a backend is given the next segment: as window, breaker, pace, workers and the journal allow."""

import asyncio
import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from cctv_storaged.breaker import Breaker, Pace
from cctv_storaged.config import TimeWindow
from cctv_storaged.delivery.context import DeliveryContext, DeliverySettings
from cctv_storaged.delivery.telling import Telling
from cctv_storaged.errors import BackendThrottled, BackendUnavailable
from cctv_storaged.lanes import Lanes
from cctv_storaged.model import Segment

IDLE_S = 5.0
"""How often the journal is asked for what nobody announced: another part made it due, or urgent."""
LONGEST_WAIT_S = 60.0
"""No wait is longer without a look at what it waits for: the clock may have been set."""
MARKING = 64
"""Segments that may wait for their commit while others are put."""


@dataclass(slots=True)
class Turn:
    """One segment's turn at the backend: a worker of the few there are, and whether it tries a backend that
    was away. Given back before the commit is waited for.
    """

    give_back: Callable[["Turn"], None]
    trial: bool
    is_over: bool = False

    def over(self) -> None:
        if not self.is_over:
            self.is_over = True
            self.give_back(self)


class Turns:
    """One backend's. On the event loop only, and asked for the next turn by one task only."""

    def __init__(
        self, lanes: Lanes, settings: DeliverySettings, context: DeliveryContext, telling: Telling
    ) -> None:
        self._lanes = lanes
        self._window = settings.window
        self._context = context
        self._clock = context.clock
        self._telling = telling
        self._breaker = Breaker()
        self._pace = Pace(settings.workers)
        self._wake = asyncio.Event()
        self._look_at = 0.0  # when the journal is to be asked again, monotonic
        self._putting = 0
        self._draining = False

    @property
    def trouble(self) -> str | None:
        """Why the backend is left alone right now; None while it works."""
        return self._breaker.trouble

    @property
    def refuses_all(self) -> bool:
        """Whether the backend answers, and has taken nothing for long: no object is to blame."""
        return self._pace.refuses_all

    def change(self, window: TimeWindow | None) -> None:
        """Another window from now on."""
        self._window = window
        self.wake()

    def wake(self) -> None:
        """Whatever was waited for may have happened."""
        self._wake.set()

    def reopen(self) -> None:
        """Copies in the journal may have come due."""
        self._lanes.reopen()
        self.wake()

    def drain(self) -> None:
        """Nothing more is given a turn."""
        self._draining = True

    def looking_again_in(self, delay: timedelta) -> timedelta:
        """The journal is asked again by then; the delay as it came."""
        self._look_at = min(self._look_at, self._clock.monotonic() + delay.total_seconds())
        return delay

    # Handing out

    async def to_probe(self) -> None:
        """Waits until the backend may be asked what it can do; whoever does so is its trial."""
        while (wait_s := self._not_before_s()) > 0:
            self._wake.clear()
            await self._woken(wait_s)
        self._breaker.admit(self._clock.monotonic())

    async def next(self) -> tuple[Segment, Turn]:
        """The next segment, claimed for the caller, who gives it and its turn back."""
        while True:
            self._wake.clear()  # before looking: what happens from here on is not missed
            if (wait_s := max(self._not_before_s(), self._crowded_s(self._lanes.in_hand))) > 0:
                await self._woken(wait_s)
                continue
            self._look_again_in_time()
            segment = await self._lanes.take()
            if segment is None:
                await self._woken(self._look_at - self._clock.monotonic())
            elif max(self._not_before_s(), self._crowded_s(self._lanes.in_hand - 1)) > 0:  # meanwhile
                self._lanes.give_back(segment)
            else:
                return segment, self._begun()

    def _not_before_s(self) -> float:
        """How long window, breaker and pace want nothing to be put; infinite: until something happens."""
        now = self._clock.monotonic()
        if self._draining or self._breaker.trying:
            return math.inf
        return max(self._window_opens_in_s(), self._breaker.wait_s(now), self._pace.wait_s(now))

    def _window_opens_in_s(self) -> float:
        window = self._window
        if window is None:
            return 0.0
        today = self._clock.now()
        return 0.0 if window.contains(today) else (window.next_opening(today) - today).total_seconds()

    def _crowded_s(self, in_hand: int) -> float:
        """Infinite while no worker is free, or too much waits for the journal."""
        workers = self._pace.limit(self._clock.monotonic())
        if self._context.journal.full:
            return math.inf if in_hand else 0.0  # one goes on, and finds out when there is room
        crowded = self._putting >= workers or in_hand >= workers + MARKING
        return math.inf if crowded else 0.0

    def _look_again_in_time(self) -> None:
        now = self._clock.monotonic()
        if now >= self._look_at:
            self._look_at = now + IDLE_S
            self._lanes.look_again()

    async def _woken(self, timeout_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, min(timeout_s, LONGEST_WAIT_S))):
                await self._wake.wait()

    def _begun(self) -> Turn:
        self._putting += 1
        self._breaker.admit(self._clock.monotonic())
        return Turn(self._over, trial=self._breaker.trying)

    def _over(self, turn: Turn) -> None:
        self._putting -= 1
        if turn.trial:
            self._breaker.untried()
        self.wake()

    # What they showed of the backend

    def works(self) -> None:
        """It answered."""
        if self._breaker.succeeded():
            self._telling.up_again()
            self._lanes.start_over()  # those that were tried in vain have lost their places
            self.wake()

    def took(self) -> None:
        """It has the object."""
        self._pace.taken()
        self.works()

    def refused(self) -> None:
        """It answered, and does not have the object."""
        self._pace.refused(self._clock.monotonic())
        self.works()

    def failed(self, error: BackendUnavailable, *, trial: bool) -> None:
        """It did not, or wants nothing at all now."""
        self._telling.failed("put")
        if self._breaker.trying and not trial:
            return  # a put from before the trial: the trial's outcome is newer
        detail = self._context.star(str(error))
        if self._breaker.failed(error.reason, self._clock.monotonic(), detail):
            self._telling.away(error.reason, detail)

    def throttled(self, segment: Segment, error: BackendThrottled, turn: Turn) -> None:
        """It wants fewer at once."""
        self._pace.throttled(self._clock.monotonic(), error.retry_after_s)
        self.in_vain(segment, error, turn)

    def in_vain(self, segment: Segment, error: BackendUnavailable, turn: Turn) -> None:
        """It is due as before; but the next to find out whether the backend is back shall be another."""
        self.failed(error, trial=turn.trial)
        if turn.trial:
            self._lanes.others_first(segment)
        self._lanes.reopen()
