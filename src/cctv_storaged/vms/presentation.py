"""When each picture of XProtect's is shown and decoded. Pure: groups of pictures in, times out.

Its times are those of recording. Of streams whose pictures are not decoded in the order they are shown they
come bunched (seen on 2025 R3: all of a mini group carry about the time of the last), so that the order is
taken from the picture order count. Times here are microseconds since 1970-01-01T00:00Z.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from cctv_storaged.backends.milestone.base import Picture
from cctv_storaged.mpegts.poc import PictureOrder

MOST_REORDERED = 16
"""Pictures that a decoder holds back at most (H.264 A.3.1, H.265 A.4.2): what claims more is not believed."""
_USUAL_STEP_US = 40_000
_LEAST_STEP_US = 100  # nine ticks of 90 kHz
_MOST_STEPS = 2  # between two pictures of a bunch: more is a hole
_SET_BACK_US = 1_000_000  # less is a bunch, or a recorder whose clock is kept in step


@dataclass(frozen=True, slots=True)
class Timed:
    """A picture, in decoding order."""

    picture: Picture
    shown_us: int
    decoded_us: int  # never after it is shown, always after the one before


class Timeline:
    """One stream; groups go through it in order."""

    def __init__(self, codec: str) -> None:
        """`codec` as ffmpeg names it."""
        self._order = PictureOrder(codec)
        self._depth = 0  # how many pictures are decoded before one that is shown earlier
        self._before: deque[int] = deque(maxlen=MOST_REORDERED)  # when the last ones were shown
        self._decoded_us: int | None = None
        self.set_back_us = 0
        """How far a group began before the end of those before it, at most: the recorder's clock was set
        back, and its pictures are shown close behind those."""

    def timed(self, pictures: Sequence[Picture]) -> list[Timed]:
        """A group of pictures, the first of them a key picture.

        Of the first group, what is shown before its key picture refers to pictures that are not here: it is
        left out.
        """
        places = [self._order.of(picture.data) for picture in pictures]
        order = _order(places, [picture.time_ms for picture in pictures])
        if not self._before and order and (leading := set(order[: order.index(0)])):
            pictures = [picture for at, picture in enumerate(pictures) if at not in leading]
            kept = [at for at in range(len(places)) if at not in leading]
            order = [kept.index(at) for at in order if at not in leading]
        if not pictures:
            return []
        shown = self._shown(pictures, order)
        return self._decoded(pictures, shown, order)

    def _shown(self, pictures: Sequence[Picture], order: Sequence[int]) -> list[int]:
        """When each is shown, in the order of presentation."""
        told = [1000 * pictures[at].time_ms for at in order]
        last_us = self._before[-1] if self._before else None
        if last_us is not None and min(told) < last_us - _SET_BACK_US:
            self.set_back_us = max(self.set_back_us, last_us - min(told))
        if all(a < b for a, b in pairwise(told)) and (last_us is None or last_us < told[0]):
            return told
        return _spread(sorted(told), last_us, bunched=_depth(order) > 0)

    def _decoded(self, pictures: Sequence[Picture], shown: list[int], order: Sequence[int]) -> list[Timed]:
        self._depth = max(self._depth, _depth(order))
        step_us = _step_us(shown)
        decoded: list[int] = []
        for at in range(len(pictures)):
            due_us = self._due(shown, at - self._depth, step_us)
            if self._decoded_us is not None:
                due_us = max(due_us, self._decoded_us + _LEAST_STEP_US)
            self._decoded_us = due_us
            decoded.append(due_us)
        ready = _when_ready(shown, [decoded[at] for at in order])
        shown_of = dict(zip(order, ready, strict=True))
        self._before.extend(ready)
        return [Timed(picture, shown_of[at], decoded[at]) for at, picture in enumerate(pictures)]

    def _due(self, shown: Sequence[int], rank: int, step_us: int) -> int:
        """When the picture of a rank is shown; of one before these (negative) as near as can be."""
        if rank >= 0:
            return shown[rank]
        least_us = shown[0] + rank * _MOST_STEPS * step_us
        if -rank <= len(self._before):
            return max(self._before[rank], least_us)
        return shown[0] + rank * step_us


def _when_ready(shown: Sequence[int], decoded: Sequence[int]) -> list[int]:
    """Both in the order of presentation: none is shown before it is decoded, and no two together."""
    ready: list[int] = []
    for shown_us, decoded_us in zip(shown, decoded, strict=True):
        behind_us = ready[-1] + _LEAST_STEP_US if ready and shown_us <= ready[-1] else shown_us
        ready.append(max(behind_us, decoded_us))
    return ready


def _order(places: Sequence[tuple[int, int] | None], times_ms: Sequence[int]) -> list[int]:
    """Positions in the order of presentation: by count, else by time, else as they are decoded."""
    known = [place for place in places if place is not None]
    as_decoded = list(range(len(places)))
    by_time = sorted(as_decoded, key=lambda at: times_ms[at])
    candidates = [by_time, as_decoded]
    if len(known) == len(places) == len(set(known)):
        candidates.insert(0, sorted(as_decoded, key=lambda at: known[at]))
    return next(order for order in candidates if _depth(order) <= MOST_REORDERED)


def _depth(order: Sequence[int]) -> int:
    return max((at - rank for rank, at in enumerate(order)), default=0)


def _step_us(times: Sequence[int]) -> int:
    """From one picture to the next, on the whole."""
    if len(times) < 2 or times[-1] <= times[0]:
        return _USUAL_STEP_US
    return max(_LEAST_STEP_US, (times[-1] - times[0]) // (len(times) - 1))


def _spread(times: Sequence[int], last_us: int | None, *, bunched: bool) -> list[int]:
    """Times that increase: each bunch is spread over the time since the one before.

    A camera sends first the picture that is shown last: the bunch's earliest time is the last one's.
    `last_us`: when the picture before these was shown.
    """
    step_us = _step_us(times)
    slack_us = step_us // 2 if bunched else 0
    spread: list[int] = []
    begin = 0
    for end in range(1, len(times) + 1):
        if end < len(times) and times[end] - times[end - 1] <= slack_us:
            continue
        count, until_us = end - begin, times[begin]
        since_us = spread[-1] if spread else last_us
        if since_us is None:
            since_us = until_us - count * step_us
        until_us = max(until_us, since_us + count * _LEAST_STEP_US)
        apart_us = min((until_us - since_us) // count, _MOST_STEPS * step_us)
        spread += [until_us - (end - 1 - at) * apart_us for at in range(begin, end)]
        begin = end
    return spread
