"""What is asked of the forecast, and answered; as in models.py."""

from typing import Annotated, Literal

from pydantic import Field

from cctv_storaged.api.models import Incoming, Moment, Outgoing, Uuid


class ForecastQuery(Incoming):
    """What would be if."""

    rate_factor: Annotated[float, Field(gt=0, le=100)] = 1.0
    """All cameras record so many times as much as was measured."""


class FolderAnswer(Outgoing):
    """A folder of ours on a volume."""

    path: str
    use: Literal["root", "store", "data"]


class ShortfallAnswer(Outgoing):
    """Why a stage of making room ended without enough of it."""

    stage: Literal["caches", "verified_elsewhere", "expired", "shortened", "given_up"]
    why: str


class VolumeForecastAnswer(Outgoing):
    """One disk, how full it is and for how long it lasts."""

    name: str
    folders: list[FolderAnswer]
    level: Literal["well", "low", "clean", "emergency"]
    read_only: bool
    total_bytes: int
    free_bytes: int
    warn_bytes: int
    """Free bytes below which each level begins now."""
    clean_bytes: int
    emergency_bytes: int
    bytes_per_second: float | None
    """Recorded onto it over the last hour, by what ended then; null: not known yet, or the clock is not
    trusted."""
    day_bytes_per_second: float
    """Over the last day, times `rate_factor`: what the forecast reckons with."""
    expiring_bytes_per_second: float
    """Of it, what goes by its age."""
    filling_bytes_per_second: float | None
    """How fast its free room really went over the last hour, whoever wrote; null in the first ten minutes."""
    days_left: float | None
    """Until it is full; null: it never is."""
    shortfall: list[ShortfallAnswer]
    """Of the last round of making room."""


class CameraForecastAnswer(Outgoing):
    """What a camera keeps once the disk that its store lies on is full."""

    camera_id: Uuid
    name: str
    bytes_per_second: float
    """Over the last day, times `rate_factor`."""
    at_least_days: float | None
    desired_days: float | None
    at_most_days: float | None
    kept_days: float | None
    """Null: nothing ends it."""
    meets_at_least: bool | None
    """Null where nothing was asked for."""
    meets_desired: bool | None


class ForecastAnswer(Outgoing):
    """How things go on if nothing changes."""

    at: Moment
    rate_factor: float
    volumes: list[VolumeForecastAnswer]
    cameras: list[CameraForecastAnswer]
