"""What is asked of retention, and answered; as in models.py."""

from collections.abc import Mapping
from datetime import timedelta
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from cctv_storaged.api.models import Incoming, Moment, Outgoing, Uuid, whole_number
from cctv_storaged.config.units import parse_duration

MOST_RULES = 10_000


def _limit(value: object) -> timedelta:
    limit = parse_duration(value)
    if not limit:
        raise ValueError("must be more than 0")
    return limit


Limit = Annotated[
    timedelta,
    BeforeValidator(_limit),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9]{1,19}(\.[0-9]{1,30})? ?(ms|s|m|h|d)$"}),
]


class RetentionRuleBody(Incoming):
    """A rule, as in the settings."""

    at_least: Limit | None = None
    desired: Limit | None = None
    at_most: Limit | None = None
    priority: Literal["low", "normal", "high"] = "normal"

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        given = [(name, getattr(self, name)) for name in ("at_least", "desired", "at_most")]
        for (low, shorter), (high, longer) in pairwise(each for each in given if each[1] is not None):
            if shorter > longer:
                raise ValueError(f"{low} is longer than {high}")
        return self


class RetentionPreviewBody(Incoming):
    """Rules to try; what is left out is as it is in force. `{}`, or no body: the rules in force."""

    default: RetentionRuleBody | None = None
    per_camera: Annotated[Mapping[str, RetentionRuleBody], Field(max_length=MOST_RULES)] | None = None
    """By camera id or folder; takes the whole place of those in force."""


class AmountAnswer(Outgoing):
    """So much footage."""

    segments: int
    bytes: int
    camera_days: float
    """How long it lasts together, in days."""


class RetentionRuleAnswer(Outgoing):
    """A rule; null is no limit."""

    at_least: str | None
    desired: str | None
    at_most: str | None
    priority: Literal["low", "normal", "high"]


class ProtectedAnswer(Outgoing):
    """Footage past a limit that stays."""

    held: AmountAnswer
    """A hold is in force."""
    pinned: AmountAnswer
    """Somebody reads it, or an export needs it, at this moment."""
    locked: AmountAnswer
    """A lock of the store keeps it, or it lies at a former store that is away or not configured; all of its
    other bytes are gone."""


class CameraPreviewAnswer(Outgoing):
    """What becomes of one camera's footage under its rule, now."""

    camera_id: Uuid
    name: str
    rule: RetentionRuleAnswer
    at_most: AmountAnswer
    """Is deleted everywhere by the next pass."""
    desired: AmountAnswer
    """Past `desired`: goes when room is needed."""
    at_least: AmountAnswer
    """Past `at_least` only: goes when room is needed and nothing older is left."""
    protected: ProtectedAnswer
    waits_for_confirmation: bool
    """So much goes at once that a pass would wait for `POST /retention/confirm`."""


class RetentionPreviewAnswer(Outgoing):
    """What rules would delete; nothing was."""

    at: Moment
    cameras: list[CameraPreviewAnswer]
    at_most: AmountAnswer
    """Of all cameras together."""
    unknown: list[str]
    """Keys of `per_camera` that are no camera's id or folder: nothing is kept by them."""


class StoppedCameraAnswer(Outgoing):
    """A camera of which nothing is deleted by age until somebody says yes."""

    camera_id: Uuid
    at_most: str
    surprise: AmountAnswer
    """What would go and is not explained by time alone."""


class RetentionAnswer(Outgoing):
    """Where retention stands."""

    waiting: str | None
    """Why nothing is deleted by age right now: the clock, a disk, or holds that are not known yet."""
    last_pass: Moment | None
    """When the last pass over all cameras ended; null: none did since the start, or since rules changed."""
    next_pass: Moment | None
    """About when the next begins; null: the first begins within seconds of the start."""
    kept: int
    """Segments that should be gone and are not, counted up to 100,000; `GET /retention/locked` lists them."""
    stopped: list[StoppedCameraAnswer]


class ConfirmBody(Incoming):
    """Lets a pass delete what was stopped: of one camera, or `{"all": true}` of all that are stopped now."""

    camera_id: Uuid | None = None
    all: Annotated[bool, Field(strict=True)] = False
    until: Moment | None = None
    """The yes is good for passes until then; left out: for a day. It is used up by the pass that follows."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.camera_id is None) is not self.all:
            raise ValueError("name either camera_id or all")
        return self


class ConfirmAnswer(Outgoing):
    """Cameras over which a pass goes that begins in seconds."""

    camera_ids: list[Uuid]


class LockedQuery(Incoming):
    """Which segments."""

    limit: Annotated[int, BeforeValidator(whole_number), Field(ge=1, le=1000)] = 100
    """Most segments in one answer."""
    cursor: Annotated[str, Field(pattern=r"^[0-9]{1,18}-[0-9]{1,18}$")] | None = None
    """`next_cursor` of the answer before."""


class KeptCopyAnswer(Outgoing):
    """Where its bytes still are."""

    backend: str
    path: str | None
    error: str | None
    """What the backend said."""


class KeptSegmentAnswer(Outgoing):
    """A segment that should be gone. Nobody else is told of it any more."""

    segment_id: Uuid
    camera_id: Uuid
    start_time: Moment
    end_time: Moment
    size_bytes: int
    cause: str
    """Why it should be gone."""
    copies: list[KeptCopyAnswer]
    tried_again_at: Moment


class LockedAnswer(Outgoing):
    """Segments that are kept, in the order in which they are tried again."""

    segments: list[KeptSegmentAnswer]
    next_cursor: str | None
    """Where to go on; null when these were the last."""
