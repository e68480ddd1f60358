"""What proving, retrieving and reviewing stand on."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol
from uuid import UUID

from cctv_storaged.alarms import Alarms
from cctv_storaged.backends.milestone.base import Vms
from cctv_storaged.clock import Clock
from cctv_storaged.config import TimeWindow
from cctv_storaged.events import EventHub
from cctv_storaged.guarding.roots import UNGUARDED, Roots
from cctv_storaged.journal.journal import Journal
from cctv_storaged.logs.redaction import Redactor
from cctv_storaged.metrics import Metrics
from cctv_storaged.model import Mode, Segment
from cctv_storaged.vms.attendance import Backoff
from cctv_storaged.vms.verdict import Rules

STAR_SHAPES = Redactor()
"""Stars what looks like a secret; a daemon knows its own as well."""


class Mapping(Protocol):
    """Which XProtect camera is ours (`vms.mapping.CameraMapping`)."""

    async def device_of(self, camera_id: UUID) -> UUID | None:
        """Its GUID there; None: it has none, and `why_not` says why. Raises BackendError."""

    def why_not(self, camera_id: UUID) -> str | None:
        """Why it has none, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvingSettings:
    """The `milestone` block, as far as proving goes."""

    rules: Rules
    window_max: timedelta
    tolerance: timedelta
    max_retrievals: int
    event_id: UUID | None  # for `event_retrieval`
    backoff: Backoff
    mode: str  # for the metric
    window: TimeWindow | None  # when footage may be fetched; looking costs nothing, and is done at all times
    newest_share: float

    @property
    def wanted(self) -> bool:
        """Whether new segments need a copy there."""
        return self.mode != Mode.LOCAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """The parts of a daemon that all of them use."""

    journal: Journal
    vms: Vms
    mapping: Mapping
    clock: Clock
    metrics: Metrics
    hub: EventHub
    alarms: Alarms
    look_again: Callable[[Segment], Awaitable[None]]  # the recorder side's look at a source that changed
    delivered: Callable[[Segment], None]  # a copy was verified
    roots: Roots = UNGUARDED
    star: Callable[[str], str] = STAR_SHAPES
    doubt: Callable[[timedelta], str | None] = lambda span: None
    """Why an age of that length may be another one although the clock says so."""
