"""What is asked of the retention report, and answered; as in models.py."""

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from cctv_storaged.api.models import Incoming, Moment, Outgoing, SpanAnswer, Uuid
from cctv_storaged.model import GapCause
from cctv_storaged.reporting.figures import State

DAY = r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$"


def _day(value: object) -> object:
    if isinstance(value, str) and not re.match(DAY, value):
        raise ValueError("must be a day as YYYY-MM-DD, such as 2026-01-23")
    return value


class ReportQuery(Incoming):
    """Which figures."""

    start: Moment | None = None
    """Gaps and coverage of the days from that one on; else from the oldest footage on."""
    end: Moment | None = None
    """And before that moment; else until now."""
    day: Annotated[str, BeforeValidator(_day), Field(pattern=DAY)] | None = None
    """What was noted on that day (UTC) instead of what is so now."""
    format: Literal["json", "csv"] | None = None
    """Else `Accept` decides, and JSON is the answer to whoever takes both."""

    @model_validator(mode="after")
    def _one_thing(self) -> "ReportQuery":
        if self.day is not None and (self.start is not None or self.end is not None):
            raise ValueError("day goes with neither start nor end")
        return self


class LongestGapAnswer(Outgoing):
    """Time without footage in one piece."""

    start: Moment
    end: Moment
    cause: GapCause
    """The one that explains most of it."""
    seconds_by_cause: dict[GapCause, float]


class ReportCameraAnswer(Outgoing):
    """One camera. docs/reference/retention-report.md says how each figure is reckoned."""

    id: Uuid
    name: str
    state: State | None
    """Null for a day of the past whose rule required nothing that is known."""
    since: Moment | None
    """Since when it is told that the camera is `short`; a restart begins anew."""
    why: str | None
    """What is missing of what is required, and why; for `short`."""
    at_least_days: float | None
    desired_days: float | None
    at_most_days: float | None
    installed_at: Moment | None
    """Start of the first footage that this host ever had of it; null where the journal that knew was lost."""
    required_days: float | None
    """`at_least_days`, or the time since the first footage known where that is less."""
    achieved_days: float | None
    """What is kept, to be held against `required_days`."""
    oldest_days: float | None
    """Age of the oldest footage; what only a hold keeps does not count."""
    oldest_held: Moment | None
    """Start of older footage that is there for a hold only."""
    examined: SpanAnswer | None
    """What the following figures are of; null, as they are: nothing was examined yet."""
    covered_days: float | None
    """Time with footage."""
    gone_days: float | None
    """Time of which footage was lost, deleted, or taken by retention or for room."""
    unknown_days: float | None
    """Time of which nobody can tell whether there was footage."""
    seconds_by_cause: dict[GapCause, float] | None
    """All time without footage."""
    gaps: int | None
    longest_gap: LongestGapAnswer | None
    longest_gap_seconds: float


class ReportAnswer(Outgoing):
    """Every camera, by name."""

    generated_at: Moment
    day: str | None
    """The day of the past that was asked for."""
    distrust: str | None
    """Why ages mean nothing now (the host's clock); null while they do."""
    cameras: list[ReportCameraAnswer]
