"""What playback is asked; as in models.py."""

from cctv_storaged.api.models import Incoming, Moment


class PlaylistQuery(Incoming):
    """Which span of a camera's footage, at most `playback.max_span`."""

    start: Moment | None = None
    """Begin of the span to play. Alone: from then until now (24 h where it lies ahead)."""
    end: Moment | None = None
    """End of the span, exclusive. Alone: the 24 h before it. With neither: the last 24 h."""
