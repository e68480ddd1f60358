"""The `milestone` block and a site → what proves, fetches and reviews its copies."""

from dataclasses import dataclass
from datetime import timedelta

from cctv_storaged.backends.milestone.base import Vms
from cctv_storaged.clock import Clock
from cctv_storaged.config import Milestone, Settings
from cctv_storaged.vms.attendance import Backoff
from cctv_storaged.vms.ground import Ground, Mapping, ProvingSettings
from cctv_storaged.vms.proving import Proving
from cctv_storaged.vms.review import Review
from cctv_storaged.vms.store import MilestoneStore
from cctv_storaged.vms.verdict import Rules


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """All of it, open and not running: `proving.run()` is a duty, `review.run_once` a job."""

    proving: Proving
    review: Review


def open_store(block: Milestone, vms: Vms, clock: Clock, mapping: Mapping) -> MilestoneStore:
    """The site as a backend."""
    return MilestoneStore(
        vms,
        clock,
        mapping,
        window=timedelta(seconds=block.window_max_s),
        settle=timedelta(seconds=block.settle_s),
        tolerance=timedelta(milliseconds=block.coverage_tolerance_ms),
    )


def proving_settings(settings: Settings, block: Milestone) -> ProvingSettings:
    """What the settings say of proving."""
    return ProvingSettings(
        rules=Rules(
            ingest=block.ingest,
            settle=timedelta(seconds=block.settle_s),
            deadline=timedelta(seconds=block.deadline_s),
        ),
        window_max=timedelta(seconds=block.window_max_s),
        tolerance=timedelta(milliseconds=block.coverage_tolerance_ms),
        max_retrievals=block.max_retrievals,
        event_id=block.retrieval_event_id,
        backoff=Backoff(
            initial=timedelta(seconds=block.retry.initial_s), longest=timedelta(seconds=block.retry.max_s)
        ),
        mode=settings.mode,
        window=settings.delivery.window,
        newest_share=settings.delivery.backlog_newest_share,
    )


def open_proof(store: MilestoneStore, settings: ProvingSettings, ground: Ground) -> Proof:
    """Who proves the copies at the store."""
    proving = Proving(store, settings, ground)
    return Proof(proving=proving, review=Review(proving, settings, ground))
