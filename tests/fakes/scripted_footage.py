"""Footage of a scripted site: groups of pictures, as XProtect tells of them and gives them."""

from collections.abc import Sequence
from datetime import timedelta

from cctv_storaged.backends.milestone.base import Gop, Picture
from cctv_storaged.clock import from_us
from cctv_storaged.model import TimeSpan
from tests.fakes.xprotect.pictures import Group, ms


def sequences(groups: Sequence[Group], pause: timedelta) -> list[TimeSpan]:
    """As XProtect tells recordings: those that follow each other soon are one."""
    found: list[TimeSpan] = []
    for group in groups:
        own = TimeSpan(from_us(1000 * group.start_ms), from_us(1000 * group.last_ms + 1000))
        if found and own.start - found[-1].end <= pause:
            own = TimeSpan(found.pop().start, own.end)
        found.append(own)
    return found


def overlapping(groups: Sequence[Group], span: TimeSpan) -> list[Group]:
    """Those that begin in the span, and the one before it that leads to its start."""
    start, end = ms(span.start), ms(span.end)
    before = [group for group in groups if group.start_ms <= start]
    leading = [group for group in before[-1:] if group.last_ms >= start - 3000]
    return leading + [group for group in groups if start < group.start_ms < end]


def gop_of(group: Group, *, bunched: bool) -> Gop:
    """As the ImageServer gives it; `bunched`: with the times at which pictures arrived there."""
    times = group.arrivals_ms() if bunched else [picture.time_ms for picture in group.pictures]
    return Gop(
        previous_ms=group.start_ms,
        current_ms=group.start_ms,
        next_ms=group.start_ms,
        pictures=tuple(
            Picture(time_ms=time_ms, key=picture.key, codec=group.codec, data=picture.data)
            for time_ms, picture in zip(times, group.pictures, strict=True)
        ),
    )
