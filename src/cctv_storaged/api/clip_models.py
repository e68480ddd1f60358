"""What is asked of clips; as in models.py."""

from cctv_storaged.api.models import Incoming, Moment


class ClipQuery(Incoming):
    """Which span of a camera's footage, at most `playback.max_clip`."""

    start: Moment
    """Begin of the span; the clip begins at the key frame at or before it."""
    end: Moment
    """End of the span, exclusive."""
