"""What thumbnails and storyboards are asked; as in models.py."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from cctv_storaged.api.models import Incoming, Moment, whole_number
from cctv_storaged.media.picture import MOST_TILES


class ThumbnailQuery(Incoming):
    """Which moment."""

    at: Moment | None = None
    """The key frame nearest to it is shown. Left out: the newest footage."""


class StoryboardQuery(Incoming):
    """Which span, and in how many pictures."""

    start: Moment
    """Begin of the span."""
    end: Moment
    """End of the span, exclusive; a second to 31 days after its begin."""
    tiles: Annotated[int, BeforeValidator(whole_number), Field(ge=1, le=MOST_TILES)] = MOST_TILES
    """Parts of the span, each with a picture; fewer where they would be shorter than a second."""
