"""What looks after footage once it is delivered: retention, room, holds, proof. See assembly/upkeep.py."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass

from cctv_storaged.alarms import Alarms
from cctv_storaged.auditing.opening import EVERY_S, Auditing
from cctv_storaged.capacity.forecasting import EVERY_S as FORECAST_EVERY_S
from cctv_storaged.capacity.opening import Capacity, plan_of
from cctv_storaged.capacity.room import LOOK_S as ROOM_EVERY_S
from cctv_storaged.clockguard import ClockGuard
from cctv_storaged.config import Settings
from cctv_storaged.errors import StoragedError
from cctv_storaged.guarding.place import Place, PlaceKind
from cctv_storaged.guarding.places import CHECK_S, Places
from cctv_storaged.holding.holding import Holding
from cctv_storaged.holding.losses import EVERY_S as LOSSES_EVERY_S
from cctv_storaged.holding.losses import HeldLossWatch
from cctv_storaged.holding.mirror import Mirror
from cctv_storaged.rebuilding.freshness import Freshness
from cctv_storaged.rebuilding.keeping import HoldKeeper
from cctv_storaged.reconciling.reconciler import Reconciling
from cctv_storaged.reporting.report import EVERY_S as REPORT_EVERY_S
from cctv_storaged.reporting.report import Reporting
from cctv_storaged.retention.rules import policy_of
from cctv_storaged.retention.runs import EVERY_S as RETENTION_EVERY_S
from cctv_storaged.retention.runs import Retention
from cctv_storaged.scrubbing.opening import EVERY_S as SCRUB_EVERY_S
from cctv_storaged.scrubbing.opening import scrub_rules
from cctv_storaged.scrubbing.scrub import Scrub
from cctv_storaged.vms.conditionwatch import EVERY_S as CONDITION_EVERY_S
from cctv_storaged.vms.parts import VmsParts
from cctv_storaged.vms.review import EVERY_S as REVIEW_EVERY_S
from cctv_storaged.watchkeeping.rounds import EVERY_S as WATCH_EVERY_S
from cctv_storaged.watchkeeping.rounds import Watchkeeping
from cctv_storaged.watchkeeping.rules import alert_rules

log = logging.getLogger(__name__)

ACCEPTED_S = 10.0
"""Whoever accepts a store waits no longer for either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Something done by the schedule."""

    name: str
    run: Callable[[], Awaitable[object]]
    every_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Upkeep:
    """All of it, open."""

    alarms: Alarms
    clock_guard: ClockGuard
    holding: Holding
    held_losses: HeldLossWatch
    mirror: Mirror
    places: Places
    reporting: Reporting
    auditing: Auditing
    reconciling: Reconciling
    retention: Retention
    capacity: Capacity
    keepers: tuple[HoldKeeper, ...]
    freshness: Freshness
    scrub: Scrub
    watchkeeping: Watchkeeping
    vms: VmsParts | None

    def holds_unknown(self) -> str | None:
        """Why there may be holds in force that the journal does not know."""
        return next(filter(None, (keeper.doubt() for keeper in self.keepers)), None)

    async def accepted(self, place: Place) -> None:
        """What has to be in any store is put into one that was accepted, at once; else the schedule does."""
        if place.kind is not PlaceKind.STORE:
            return
        holds = (keeper.put_again for keeper in self.keepers)
        for put_again in (*holds, self.auditing.heads.put_again, self.auditing.archiver.put_again):
            try:
                async with asyncio.timeout(ACCEPTED_S):
                    await put_again()
            except (StoragedError, OSError, TimeoutError) as exc:
                log.warning("%s: what belongs in any store waits for the schedule: %s", place.location, exc)

    def jobs(self) -> Iterator[Job]:
        """What the schedule does."""
        yield Job(name="looking at the places", run=self.places.check, every_s=CHECK_S)
        yield Job(name="the retention report", run=self.reporting.refresh, every_s=REPORT_EVERY_S)
        yield Job(name="holds", run=self.holding.run_once, every_s=30)
        yield Job(name="losses under a hold", run=self.held_losses.run_once, every_s=LOSSES_EVERY_S)
        yield Job(name="retention", run=self.retention.run_once, every_s=RETENTION_EVERY_S)
        yield Job(name="looking at the disks", run=self.capacity.keeper.look, every_s=ROOM_EVERY_S)
        yield Job(name="the forecast", run=self.capacity.forecasting.refresh, every_s=FORECAST_EVERY_S)
        yield Job(name="keeping watch", run=self.watchkeeping.run_once, every_s=WATCH_EVERY_S)
        yield Job(name="reconciling", run=self.reconciling.reconciler.run_due, every_s=60)
        yield Job(name="storing the ledger's head", run=self.auditing.heads.run_once, every_s=EVERY_S)
        yield Job(name="archiving the ledger", run=self.auditing.archiver.run_once, every_s=EVERY_S)

        for keeper in self.keepers:
            yield Job(name="keeping holds in the store", run=keeper.run_once, every_s=10)
        if self.vms is not None:
            yield Job(name="looking at XProtect", run=self.vms.watch.run_once, every_s=CONDITION_EVERY_S)
            yield Job(
                name="looking again at XProtect's", run=self.vms.proof.review.run_once, every_s=REVIEW_EVERY_S
            )
        yield Job(name="looking for unknown footage", run=self.freshness.run_once, every_s=3600)
        yield Job(name="reading back", run=self.scrub.run_once, every_s=SCRUB_EVERY_S)

    def duties(self) -> Iterator[Coroutine[object, object, None]]:
        """What runs all the time."""
        yield self.clock_guard.run()
        yield self.holding.run()
        yield self.mirror.run()
        yield self.retention.run()
        yield self.capacity.keeper.run()
        yield self.auditing.heads.run()
        yield self.reconciling.reconciler.run()
        if self.vms is not None:
            yield self.vms.marking.run()

    def apply(self, settings: Settings) -> None:
        """Takes over settings that a reload changed."""
        self.reporting.policy = policy_of(settings.retention)
        self.auditing.archiver.keep = settings.ledger.keep
        self.reconciling.apply(settings)
        self.retention.change(policy_of(settings.retention))
        self.capacity.keeper.change(plan_of(settings))
        self.scrub.rules = scrub_rules(settings)
        self.watchkeeping.rules = alert_rules(settings)
