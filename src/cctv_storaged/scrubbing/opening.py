"""Opening the scrub."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cctv_storaged.alarms import Alarms
from cctv_storaged.clock import Clock
from cctv_storaged.config import Settings
from cctv_storaged.delivery import Delivery
from cctv_storaged.events import EventHub
from cctv_storaged.journal.journal import Journal
from cctv_storaged.metrics import Metrics
from cctv_storaged.pacing import ByteBudget
from cctv_storaged.scrubbing.repair import Repairing
from cctv_storaged.scrubbing.scrub import Scrub, ScrubContext, ScrubRules

EVERY_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubNeeds:
    """What it works with."""

    journal: Journal
    deliveries: Sequence[Delivery]
    alarms: Alarms
    clock: Clock
    metrics: Metrics
    hub: EventHub


def open_scrub(needs: ScrubNeeds, settings: Settings) -> Scrub:
    """Builds it."""
    repairing = Repairing(
        needs.journal,
        {delivery.name: delivery.backend for delivery in needs.deliveries},
        {delivery.name: delivery for delivery in needs.deliveries},
        needs.clock,
        ByteBudget(None),  # what is put anew is little, and already late
        Path(settings.data_dir),
    )
    context = ScrubContext(
        journal=needs.journal,
        deliveries=needs.deliveries,
        repairing=repairing,
        alarms=needs.alarms,
        clock=needs.clock,
        metrics=needs.metrics,
        hub=needs.hub,
    )
    return Scrub(context, scrub_rules(settings))


def scrub_rules(settings: Settings) -> ScrubRules:
    """What the settings say of it."""
    return ScrubRules(rotation=settings.scrub.rotation or None, rate_limit=settings.scrub.rate_limit)
