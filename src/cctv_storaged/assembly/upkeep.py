"""Opening what looks after footage: retention, room, holds, guards, reconciliation, the ledger."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cctv_storaged.assembly.inflow import Inflow
from cctv_storaged.assembly.reading import ReadingSide
from cctv_storaged.auditing.opening import Auditing, AuditingNeeds, open_auditing
from cctv_storaged.capacity.opening import (
    Capacity,
    CapacityNeeds,
    open_capacity,
    plan_of,
    store_backend_of,
)
from cctv_storaged.capacity.room import Cache
from cctv_storaged.evidence.keys import HostKey
from cctv_storaged.foundation import Foundation
from cctv_storaged.holding.holding import Holding, HoldingParts
from cctv_storaged.holding.losses import HeldLossWatch
from cctv_storaged.holding.mirror import Mirror
from cctv_storaged.prune import Pruner
from cctv_storaged.rebuilding.freshness import Freshness
from cctv_storaged.rebuilding.keeping import HoldKeeper
from cctv_storaged.reconciling.opening import ReconcilingNeeds, open_reconciling
from cctv_storaged.reconciling.reconciler import Reconciling
from cctv_storaged.removal import Remover
from cctv_storaged.reporting.report import Reporting
from cctv_storaged.retention.rules import policy_of
from cctv_storaged.retention.runs import Retention, RetentionParts
from cctv_storaged.scrubbing.opening import ScrubNeeds, open_scrub
from cctv_storaged.scrubbing.scrub import Scrub
from cctv_storaged.upkeep import Upkeep
from cctv_storaged.watchkeeping.opening import WatchNeeds, open_watchkeeping
from cctv_storaged.watchkeeping.rounds import Watchkeeping
from cctv_storaged.wiring import delivery_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class UpkeepNeeds:
    """What upkeep works with."""

    foundation: Foundation
    inflow: Inflow
    reading: ReadingSide
    pruner: Pruner
    remover: Remover
    signing: HostKey

    @property
    def caches(self) -> tuple[Cache, ...]:
        """What may be emptied where room is short, in this order."""
        clips, thumbnails, vms = self.reading.clips, self.reading.thumbnails, self.inflow.vms
        return (clips, thumbnails) if vms is None else (clips, vms.readback, thumbnails)


async def open_upkeep(needs: UpkeepNeeds) -> Upkeep:
    """Builds it."""
    foundation = needs.foundation
    mirror = _mirror(foundation)
    keepers = await _keepers(foundation)
    unknown, on_full = _holds_unknown(keepers), _holds_unknown_on_full(keepers)
    needs.remover.holds_unknown = needs.pruner.holds_unknown = mirror.holds_unknown = unknown
    needs.pruner.holds_unknown_on_full = on_full
    if needs.inflow.vms is not None:
        needs.inflow.vms.marking.holds_unknown = unknown
    distrust = _nothing_by_age(foundation, unknown)
    retention = _retention(needs, distrust, unknown)
    capacity = _capacity(needs, retention, distrust, on_full)
    upkeep = Upkeep(
        alarms=foundation.alarms,
        clock_guard=foundation.clock_guard,
        holding=_holding(needs, mirror),
        held_losses=HeldLossWatch(foundation.journal, foundation.alarms),
        mirror=mirror,
        places=foundation.places,
        reporting=_reporting(foundation),
        auditing=_auditing(needs),
        reconciling=_reconciling(needs),
        retention=retention,
        capacity=capacity,
        keepers=keepers,
        freshness=_freshness(foundation),
        scrub=_scrub(needs),
        watchkeeping=_watchkeeping(needs, capacity),
        vms=needs.inflow.vms,
    )
    foundation.places.on_accepted = upkeep.accepted
    return upkeep


def _auditing(needs: UpkeepNeeds) -> Auditing:
    foundation = needs.foundation
    return open_auditing(
        AuditingNeeds(
            journal=foundation.journal,
            store=foundation.backends[0],
            prefix=delivery_settings(foundation.settings).prefix,
            data_dir=foundation.settings.data_dir,
            keep=foundation.settings.ledger.keep,
            key=needs.signing,
            alarms=foundation.alarms,
            clock=foundation.clock,
        )
    )


def _retention(
    needs: UpkeepNeeds, distrust: Callable[[], str | None], holds_unknown: Callable[[], str | None]
) -> Retention:
    foundation = needs.foundation
    return Retention(
        RetentionParts(
            rows=foundation.journal.retention,
            deletions=foundation.journal.deletions,
            remover=needs.remover,
            pins=needs.pruner.pins,
            clock=foundation.clock,
            alarms=foundation.alarms,
            distrust=distrust,
            holds_unknown=holds_unknown,
            trouble=foundation.places.trouble,
            spares=foundation.clock_guard.spares,
            trusted_from=lambda: foundation.clock_guard.state().trusted_from,
        ),
        policy_of(foundation.settings.retention),
    )


def _capacity(
    needs: UpkeepNeeds,
    retention: Retention,
    distrust: Callable[[], str | None],
    holds_unknown: Callable[[], str | None],
) -> Capacity:
    foundation = needs.foundation
    places = foundation.places

    def trouble_at(folders: frozenset[str]) -> str | None:
        troubles = (place.trouble for place in places.all() if place.location in folders)
        return next(filter(None, troubles), None)

    return open_capacity(
        CapacityNeeds(
            plan=plan_of(foundation.settings),
            store_backend=store_backend_of(foundation.settings),
            journal=foundation.journal,
            pruner=needs.pruner,
            remover=needs.remover,
            deliveries=needs.inflow.bringing,
            caches=needs.caches,
            guard=trouble_at,
            roots=places.roots,
            clock=foundation.clock,
            distrust=distrust,
            spares=needs.foundation.clock_guard.spares,
            unweighed=retention.unweighed,
            holds_unknown=holds_unknown,
            metrics=foundation.metrics,
            hub=foundation.hub,
            alarms=foundation.alarms,
        )
    )


def _reconciling(needs: UpkeepNeeds) -> Reconciling:
    foundation = needs.foundation
    return open_reconciling(
        ReconcilingNeeds(
            settings=foundation.settings,
            prefix=delivery_settings(foundation.settings).prefix,
            journal=foundation.journal,
            clock=foundation.clock,
            alarms=foundation.alarms,
            metrics=foundation.metrics,
            hub=foundation.hub,
            places=foundation.places,
            backends=foundation.backends,
            catalog=foundation.catalog,
            cameras=needs.inflow.cameras,
            watches=needs.inflow.watches,
            deliveries=needs.inflow.deliveries,
            cataloguing=needs.inflow.cataloguing,
        )
    )


def _reporting(foundation: Foundation) -> Reporting:
    return Reporting(
        journal=foundation.journal,
        clock=foundation.clock,
        clock_guard=foundation.clock_guard,
        alarms=foundation.alarms,
        metrics=foundation.metrics,
        policy=policy_of(foundation.settings.retention),
    )


def _mirror(foundation: Foundation) -> Mirror:
    journal = foundation.journal
    return Mirror(journal.hold_marks, journal.holds, foundation.backends, foundation.clock, foundation.alarms)


def _holding(needs: UpkeepNeeds, mirror: Mirror) -> Holding:
    foundation = needs.foundation
    return Holding(
        HoldingParts(
            journal=foundation.journal,
            cameras=needs.inflow.cameras,
            mirror=mirror,
            clock=foundation.clock,
            clock_guard=foundation.clock_guard,
            alarms=foundation.alarms,
            metrics=foundation.metrics,
            marking=None if needs.inflow.vms is None else needs.inflow.vms.marking,
        )
    )


async def _keepers(foundation: Foundation) -> tuple[HoldKeeper, ...]:
    journal, prefix = foundation.journal, delivery_settings(foundation.settings).prefix
    keepers = (HoldKeeper(journal, backend, prefix, foundation.clock) for backend in foundation.backends)
    return tuple([await keeper.open() for keeper in keepers])


def _holds_unknown(keepers: Sequence[HoldKeeper]) -> Callable[[], str | None]:
    """Why there may be holds in force that the journal does not know."""
    return lambda: next(filter(None, (keeper.doubt() for keeper in keepers)), None)


def _holds_unknown_on_full(keepers: Sequence[HoldKeeper]) -> Callable[[], str | None]:
    """The same where recording would have to stop else."""
    return lambda: next(filter(None, (keeper.doubt_on_full() for keeper in keepers)), None)


def _nothing_by_age(
    foundation: Foundation, holds_unknown: Callable[[], str | None]
) -> Callable[[], str | None]:
    """Why nothing may be deleted by its age now."""
    return lambda: foundation.clock_guard.distrust() or holds_unknown()


def _freshness(foundation: Foundation) -> Freshness:
    prefix = delivery_settings(foundation.settings).prefix
    return Freshness(foundation.journal, foundation.backends, prefix, foundation.alarms)


def _watchkeeping(needs: UpkeepNeeds, capacity: Capacity) -> Watchkeeping:
    foundation = needs.foundation
    return open_watchkeeping(
        WatchNeeds(
            journal=foundation.journal,
            hearing=needs.inflow.hearing,
            watches=needs.inflow.watches,
            doubt=foundation.places.doubt,
            bringing=needs.inflow.bringing,
            cataloguing=needs.inflow.cataloguing,
            forecasting=capacity.forecasting,
            clock=foundation.clock,
            clock_guard=foundation.clock_guard,
            metrics=foundation.metrics,
            alarms=foundation.alarms,
        ),
        foundation.settings,
    )


def _scrub(needs: UpkeepNeeds) -> Scrub:
    foundation = needs.foundation
    return open_scrub(
        ScrubNeeds(
            journal=foundation.journal,
            deliveries=needs.inflow.deliveries,
            alarms=foundation.alarms,
            clock=foundation.clock,
            metrics=foundation.metrics,
            hub=foundation.hub,
        ),
        foundation.settings,
    )
