"""What a delivery is told, and what all deliveries of a daemon share."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from cctv_storaged.clock import Clock
from cctv_storaged.config import TimeWindow
from cctv_storaged.events import EventHub
from cctv_storaged.guarding.roots import UNGUARDED, Roots
from cctv_storaged.journal.journal import Journal
from cctv_storaged.logs.redaction import Redactor
from cctv_storaged.metrics import Metrics
from cctv_storaged.model import Segment
from cctv_storaged.pacing import ByteBudget

STAR_SHAPES = Redactor()
"""Stars what looks like a secret; a daemon knows its own as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverySettings:
    """How one backend is delivered to."""

    workers: int
    prefix: str  # of object keys
    mode: str  # for the metric
    window: TimeWindow | None
    newest_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryContext:
    """What every delivery of a daemon shares."""

    journal: Journal
    clock: Clock
    metrics: Metrics
    hub: EventHub
    budget: ByteBudget
    look_again: Callable[[Segment], Awaitable[None]]  # the recorder side's look at a source that changed
    delivered: Callable[[Segment], None]  # a copy was verified
    roots: Roots = UNGUARDED  # which of them are the disks that they were
    star: Callable[[str], str] = STAR_SHAPES  # what a store says goes to clients too: no secrets in it
