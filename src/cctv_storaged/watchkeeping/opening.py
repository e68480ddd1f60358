"""The watch put together from the daemon's parts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cctv_storaged.alarms import Alarms
from cctv_storaged.bringing import Bringing
from cctv_storaged.capacity.forecasting import Forecasting
from cctv_storaged.cataloguing import Cataloguing
from cctv_storaged.clock import Clock
from cctv_storaged.clockguard import ClockGuard
from cctv_storaged.config import Settings
from cctv_storaged.journal.journal import Journal
from cctv_storaged.metrics import Metrics
from cctv_storaged.watching import RootWatch
from cctv_storaged.watchkeeping.cameras import CameraWatch
from cctv_storaged.watchkeeping.hearing import Hearing
from cctv_storaged.watchkeeping.lostfootage import LostFootage
from cctv_storaged.watchkeeping.rounds import Watchkeeping, WatchParts
from cctv_storaged.watchkeeping.rules import alert_rules


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchNeeds:
    """What the daemon hands over."""

    journal: Journal
    hearing: Hearing
    watches: Sequence[RootWatch]
    doubt: Callable[[str], str | None]  # of a root: why what lies there says nothing
    bringing: Sequence[Bringing]
    cataloguing: Cataloguing | None
    forecasting: Forecasting
    clock: Clock
    clock_guard: ClockGuard
    metrics: Metrics
    alarms: Alarms


def open_watchkeeping(needs: WatchNeeds, settings: Settings) -> Watchkeeping:
    """Builds it."""
    watches = {watch.root.path: watch for watch in needs.watches}

    def away(root: str) -> bool:
        watch = watches.get(root)
        if watch is None:  # registered from an allowed path, which nobody scans
            return False
        return watch.away or not watch.scans or needs.doubt(root) is not None

    cameras = CameraWatch(needs.journal, needs.hearing, needs.alarms, needs.metrics, needs.clock, away)
    return Watchkeeping(
        WatchParts(
            journal=needs.journal,
            cameras=cameras,
            losses=LostFootage(needs.journal, needs.alarms),
            bringing=needs.bringing,
            cataloguing=needs.cataloguing,
            forecast=lambda: needs.forecasting.latest,
            clock=needs.clock,
            distrust=needs.clock_guard.distrust,
            alarms=needs.alarms,
        ),
        alert_rules(settings),
    )
