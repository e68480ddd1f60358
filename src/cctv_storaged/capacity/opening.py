"""Keeping room put together from the daemon's parts."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from cctv_storaged.alarms import Alarms
from cctv_storaged.bringing import Bringing
from cctv_storaged.capacity.ageing import AgeingParts, all_weighed
from cctv_storaged.capacity.forecasting import Forecasting
from cctv_storaged.capacity.givingup import GivingUp
from cctv_storaged.capacity.levels import Limit, Limits
from cctv_storaged.capacity.rates import Rates
from cctv_storaged.capacity.room import Cache, Plan, RoomKeeper, RoomParts
from cctv_storaged.capacity.volumes import Looks, places_of
from cctv_storaged.clock import Clock
from cctv_storaged.config import Settings
from cctv_storaged.events import EventHub
from cctv_storaged.guarding.roots import Roots
from cctv_storaged.journal.journal import Journal
from cctv_storaged.metrics import Metrics
from cctv_storaged.model import BackendKind, Camera
from cctv_storaged.prune import Pruner
from cctv_storaged.removal import Remover
from cctv_storaged.retention.rules import Policy, policy_of


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityNeeds:
    """What the daemon hands over."""

    plan: Plan
    store_backend: str | None  # the backend whose store is a folder
    journal: Journal
    pruner: Pruner
    remover: Remover
    deliveries: Sequence[Bringing]
    caches: Sequence[Cache]
    guard: Callable[[frozenset[str]], str | None]
    roots: Roots
    clock: Clock
    distrust: Callable[[], str | None]
    spares: Callable[[datetime, timedelta], bool] = lambda end, limit: False
    unweighed: Callable[[Policy, Iterable[Camera]], Awaitable[frozenset[UUID]]] = all_weighed
    holds_unknown: Callable[[], str | None] = lambda: None
    metrics: Metrics
    hub: EventHub
    alarms: Alarms
    looks: Looks = field(default_factory=Looks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """Who keeps room, and who tells for how long it lasts."""

    keeper: RoomKeeper
    forecasting: Forecasting


def open_capacity(needs: CapacityNeeds) -> Capacity:
    """Everything of capacity; it touches no disk before it looks."""
    giving_up = GivingUp(
        needs.journal.capacity,
        needs.deliveries,
        needs.pruner.pins,
        needs.clock,
        needs.metrics,
        needs.hub,
        needs.alarms,
        policy=lambda: keeper.plan.policy,
        roots=needs.roots,
        holds_unknown=needs.holds_unknown,
    )
    parts = RoomParts(
        journal=needs.journal,
        pruner=needs.pruner,
        giving_up=giving_up,
        deliveries=needs.deliveries,
        caches=needs.caches,
        store_backend=needs.store_backend,
        rates=Rates(needs.journal.capacity),
        guard=needs.guard,
        clock=needs.clock,
        distrust=needs.distrust,
        ageing=AgeingParts(
            rows=needs.journal.capacity,
            remover=needs.remover,
            pins=needs.pruner.pins,
            clock=needs.clock,
            distrust=needs.distrust,
            spares=needs.spares,
            unweighed=needs.unweighed,
        ),
        metrics=needs.metrics,
        alarms=needs.alarms,
        looks=needs.looks,
    )
    keeper = RoomKeeper(parts, needs.plan)
    return Capacity(keeper=keeper, forecasting=Forecasting(keeper, parts))


def plan_of(settings: Settings) -> Plan:
    """What the settings say of room."""
    capacity = settings.capacity
    store = str(settings.filesystem.path) if store_backend_of(settings) is not None else None
    roots = [str(recorder.path) for recorder in settings.recorders]
    return Plan(
        places=places_of(roots, store, str(settings.data_dir)),
        limits=Limits(
            warn=Limit(capacity.warn_free, capacity.warn_left),
            clean=Limit(capacity.clean_free, capacity.clean_left),
            emergency=Limit(capacity.emergency_free, capacity.emergency_left),
        ),
        gives_up=capacity.on_full == "delete_oldest_undelivered",
        links=settings.filesystem.link,
        policy=policy_of(settings.retention),
    )


def store_backend_of(settings: Settings) -> str | None:
    """The backend whose store is a folder of this host."""
    return settings.backend if settings.backend is BackendKind.FILESYSTEM else None
