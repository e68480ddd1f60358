"""One round after the other over all that is watched."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from cctv_storaged.alarms import AlarmName, Alarms
from cctv_storaged.bringing import Bringing
from cctv_storaged.capacity.forecasting import Forecast
from cctv_storaged.cataloguing import Cataloguing
from cctv_storaged.clock import Clock
from cctv_storaged.journal.journal import Journal
from cctv_storaged.model import BackendKind
from cctv_storaged.quantities import lasting_text
from cctv_storaged.watchkeeping.cameras import CameraWatch
from cctv_storaged.watchkeeping.lasting import Lasting, watched_s
from cctv_storaged.watchkeeping.lostfootage import LostFootage
from cctv_storaged.watchkeeping.rules import AlertRules, waited

EVERY_S = 10.0
CATALOG = "POSTGRES"
CLEAR = 1.1
"""A disk's alarm ends with so many times what it begins with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchParts:
    """What it works with."""

    journal: Journal
    cameras: CameraWatch
    losses: LostFootage
    bringing: Sequence[Bringing]
    cataloguing: Cataloguing | None
    forecast: Callable[[], Forecast | None]  # the last that was made
    clock: Clock
    distrust: Callable[[], str | None]  # why ages mean nothing now
    alarms: Alarms


class Watchkeeping:
    """Looks, and sounds what nobody else tells."""

    def __init__(self, parts: WatchParts, rules: AlertRules) -> None:
        self._parts = parts
        self.rules = rules
        self._looked_s: float | None = None
        self._away = Lasting()

    async def run_once(self) -> None:
        """One round."""
        parts, now_s = self._parts, self._parts.clock.monotonic()
        watched = watched_s(self._looked_s, now_s, EVERY_S)
        self._looked_s = now_s
        await parts.cameras.look(watched, self.rules.silence)
        for each in parts.bringing:
            await self._look_at_delivery(each.name)
            if each.name != BackendKind.MILESTONE:  # of XProtect `vms` tells, and tells more
                self._look_at(AlarmName.BACKEND_DOWN, each.name, each.trouble, watched)
        if parts.cataloguing is not None:
            self._look_at(AlarmName.CATALOG_DOWN, CATALOG, parts.cataloguing.trouble, watched)
        trusted = parts.distrust() is None
        if trusted:
            self._look_at_disks()
        await parts.losses.look(parts.clock.now(), self.rules.loss, ages_count=trusted)

    def _look_at(self, name: AlarmName, subject: str, trouble: str | None, watched: float) -> None:
        """Something that may be away for a moment."""
        if trouble is None:
            self._away.back(subject)
            self._parts.alarms.end(name, subject)
            return
        away_s = self._away.away(subject, watched)
        if away_s >= self.rules.down.total_seconds():
            text = f"away for {lasting_text(away_s)} ({trouble}): {_REMEDIES[name]}"
            self._parts.alarms.sound(name, subject, text)

    async def _look_at_delivery(self, backend: str) -> None:
        parts, limit = self._parts, self.rules.longest_wait(backend)
        waiting = await parts.journal.watch_rows.waiting(backend)
        if limit is None or waiting is None:
            parts.alarms.end(AlarmName.UNDELIVERED, backend)
        elif parts.distrust() is None:
            age = waited(waiting.start, waiting.registered, parts.clock.now())
            if age > limit:
                parts.alarms.sound(AlarmName.UNDELIVERED, backend, _waiting_text(age, limit))
            else:
                parts.alarms.end(AlarmName.UNDELIVERED, backend)

    def _look_at_disks(self) -> None:
        """Ahead of `disk_low`, which has the word from its begin on."""
        alarms, forecast = self._parts.alarms, self._parts.forecast()
        if forecast is None:
            return
        low = frozenset(each.subject for each in alarms.standing if each.name is AlarmName.DISK_LOW)
        filling = {each.standing.volume.name: timedelta_of(each.days_left) for each in forecast.volumes}
        for name, left in filling.items():
            if left is not None and left < self.rules.disk_left and name not in low:
                alarms.sound(AlarmName.DISK_DAYS, name, _filling_text(left))
            elif left is None or left > CLEAR * self.rules.disk_left or name in low:
                alarms.end(AlarmName.DISK_DAYS, name)
        alarms.keep_only(AlarmName.DISK_DAYS, frozenset(filling))


LONGEST_DAYS = 1e6


def timedelta_of(days: float) -> timedelta | None:
    """None: never, or in the time of other people."""
    return None if days > LONGEST_DAYS else timedelta(days=days)


_REMEDIES = {
    AlarmName.BACKEND_DOWN: (
        "footage waits on this host meanwhile, and nothing is lost while its disk has room. Look at the "
        "store, the network, the keys and the clocks"
    ),
    AlarmName.CATALOG_DOWN: (
        "the fleet does not see this host's news meanwhile; the host itself misses nothing. Look at the "
        "server, the network and the password"
    ),
}


def _waiting_text(age: timedelta, limit: timedelta) -> str:
    return (
        f"a segment has waited for its copy for {lasting_text(age)}, {lasting_text(limit)} is "
        "allowed: look at GET /queue, the store and the uplink (delivery.rate_limit, delivery.workers)"
    )


def _filling_text(left: timedelta) -> str:
    return (
        f"full in {lasting_text(left)} at the measured rate: add a disk, keep less, or record less "
        "(GET /retention/forecast tells what each would do)"
    )
