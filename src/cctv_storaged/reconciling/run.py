"""A run, as the journal keeps it: where it is, what it found, how it ended."""

import logging
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from cctv_storaged.reconciling.brake import Braked
from cctv_storaged.reconciling.differences import Findings, SectionAccount

log = logging.getLogger(__name__)


class Phase(StrEnum):
    """What a run is doing."""

    FINDING = "finding"
    ACTING = "acting"
    ENDED = "ended"


class Outcome(StrEnum):
    """How it ended."""

    COMPLETED = "completed"
    INCOMPLETE = "incomplete"  # something could not be looked at
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(slots=True, kw_only=True)
class Run:
    """One run. On the event loop only."""

    id: UUID
    apply: bool
    force: bool
    why: str  # who or what began it
    started_at: datetime
    resumed: int = 0  # how often another process went on with it
    phase: Phase = Phase.FINDING
    section: str | None = None  # the one under way
    cursor: str | None = None  # in it, None at its begin
    sections: list[SectionAccount] = field(default_factory=list)
    findings: Findings = field(default_factory=Findings)
    braked: list[Braked] = field(default_factory=list)
    finished_at: datetime | None = None
    outcome: Outcome | None = None
    error: str | None = None

    @property
    def ended(self) -> bool:
        return self.phase is Phase.ENDED

    @property
    def troubles(self) -> list[str]:
        return [f"{each.name}: {each.trouble}" for each in self.sections if each.trouble is not None]

    def start_over(self) -> None:
        """Forgets what was found so far."""
        self.phase, self.section, self.cursor = Phase.FINDING, None, None
        self.sections, self.findings, self.braked = [], Findings(), []

    def is_braked(self, section: str, camera_id: UUID | None) -> bool:
        return any(each.section == section and each.camera_id in (None, camera_id) for each in self.braked)


_RUN = TypeAdapter(Run)


def written(run: Run) -> str:
    """For the journal."""
    return _RUN.dump_json(run).decode()


def read(document: str | None) -> Run | None:
    """What the journal kept; None for what another version wrote."""
    if document is None:
        return None
    try:
        return _RUN.validate_json(document)
    except ValidationError:
        log.warning("the last reconcile's account is not understood: it is begun anew")
        return None
