"""Which site it is and how far its clock is from ours, asked anew every minute: nothing is proven without.

A site whose clock differs from ours by more than a moment shows other footage than ours under our times.
"""

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from cctv_storaged.backends.milestone.base import Site, Vms
from cctv_storaged.clock import Clock
from cctv_storaged.errors import BackendError, BackendUnavailable

BELIEVED_S = 60.0
"""How long an answer counts."""
REFUSED_S = 2.0
"""How long a failure does: several who ask at once do not wait for one time-out after the other."""
LEAST_SKEW = timedelta(seconds=2)
"""Clocks are compared to the second."""


def most_skew(tolerance: timedelta) -> timedelta:
    """How far the site's clock may be from ours, for a tolerance of coverage."""
    return max(LEAST_SKEW, tolerance)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What came of asking."""

    site: Site | BackendError
    asked_s: float  # monotonic, before the question was sent
    until_s: float


class Standing:
    """Of one site. On the event loop only."""

    def __init__(self, vms: Vms, clock: Clock, tolerance: timedelta) -> None:
        self._vms = vms
        self._clock = clock
        self._most_skew = most_skew(tolerance)
        self._asking = asyncio.Lock()
        self._answer: _Answer | None = None

    async def site(self, *, anew: bool = False) -> Site:
        """As of a minute ago at most; `anew`: of a question that is sent from now on.

        Raises BackendUnavailable where it is away, or its clock is not ours.
        """
        begun_s = self._clock.monotonic()
        async with self._asking:
            found = self._answer
            if found is None or not self._counts(found, begun_s, anew=anew):
                found = self._answer = await self._ask()
        if isinstance(found.site, BackendError):
            raise found.site
        self._check_clock(found.site)
        return found.site

    def _counts(self, answer: _Answer, begun_s: float, *, anew: bool) -> bool:
        return answer.asked_s >= begun_s if anew else self._clock.monotonic() < answer.until_s

    async def _ask(self) -> _Answer:
        asked_s = self._clock.monotonic()
        try:
            site = await self._vms.site()
        except BackendError as exc:
            return _Answer(exc, asked_s, self._clock.monotonic() + REFUSED_S)
        until_s = asked_s + (BELIEVED_S if self._is_right(site) else REFUSED_S)
        return _Answer(site, asked_s, until_s)

    def _is_right(self, site: Site) -> bool:
        return site.clock_skew is None or abs(site.clock_skew) <= self._most_skew

    def _check_clock(self, site: Site) -> None:
        if self._is_right(site) or site.clock_skew is None:
            return
        most_s = self._most_skew.total_seconds()
        raise BackendUnavailable(
            f"its clock is {site.clock_skew.total_seconds():+.1f} s from ours, and nothing is proven with"
            f" more than {most_s:g} s between them: set both by NTP",
            reason="clock",
        )
