"""What is asked of places and of the clock, and answered; as in models.py."""

from typing import Annotated

from pydantic import Field

from cctv_storaged.api.models import Incoming, Moment, Outgoing
from cctv_storaged.guarding.identity import Standing
from cctv_storaged.guarding.place import MOST_ENTRIES, PlaceKind


class AcceptPlaceBody(Incoming):
    """A place whose disk or bucket is right from now on, as it is."""

    kind: PlaceKind
    """As `GET /places` tells it."""
    location: Annotated[str, Field(strict=True, min_length=1, max_length=4096)]
    """As `GET /places` tells it: a folder's path, or a bucket."""


class PlaceAnswer(Outgoing):
    """A recorder root, or a folder or bucket of the store."""

    kind: PlaceKind
    location: str
    identity: str | None
    """What the journal knows it by. Null: it was not seen yet."""
    found: str | None
    """The identity that was found there last."""
    standing: Standing
    """Whether it is the right one: only `right` lets anything be written, deleted or taken for missing."""
    trouble: str | None
    """What is wrong and what to do. Null: nothing, for all that was seen."""


class AcceptedPlaceAnswer(PlaceAnswer):
    """A place that is right from now on."""

    before: str | None
    """The identity that the journal knew until now. Null: none."""
    carried: str | None
    """The identity that it carried already. Null: it had none, and got one now."""
    entries: Annotated[int, Field(ge=0, le=MOST_ENTRIES)] | None
    """What lies there besides the mark: at the top of a folder, or objects; not counted further than 999.
    Null: it could not be counted."""


class PlacesAnswer(Outgoing):
    """Every place that the settings name."""

    places: list[PlaceAnswer]


class ClockStepAnswer(Outgoing):
    """The wall clock jumped."""

    at: Moment
    """By the clock after it."""
    by_seconds: float
    """Forward where it is more than 0."""


class ClockAnswer(Outgoing):
    """Whether ages mean anything on this host."""

    now: Moment
    """The wall clock."""
    distrust: str | None
    """Why nothing is deleted, expired or released by its age now. Null: it is."""
    synchronized: bool | None
    """Whether the clock follows a better one. Null: nobody tells."""
    trusted_from: Moment | None
    """Since when the clock is trusted without a break. Null: since the first start, or not at all."""
    steps: list[ClockStepAnswer]
    """The last steps, newest first."""
