"""Which questions to ask XProtect: segments of a camera, side by side, are one window. Pure."""

from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from cctv_storaged.journal.vouched import Waiting
from cctv_storaged.model import TimeSpan

NEIGHBOURS = timedelta(seconds=60)
"""Segments further apart are no neighbours: a window is asked for, and perhaps fetched, as a whole."""
MOST_WAIT = timedelta(seconds=60)
"""The longest that a segment waits for neighbours to come, so that it is one question for several."""
WAITS = 4
"""So many times the settle time it waits for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Neighbouring segments of one camera."""

    camera_id: UUID
    segments: tuple[Waiting, ...]  # by start

    @property
    def span(self) -> TimeSpan:
        """From the first start to the last end."""
        return spanning(each.span for each in self.segments)

    @property
    def urgent(self) -> bool:
        return any(each.urgent for each in self.segments)


def spanning(spans: Iterable[TimeSpan]) -> TimeSpan:
    """The smallest span with all of them in it; there must be one."""
    known = tuple(spans)
    return TimeSpan(min(each.start for each in known), max(each.end for each in known))


def windows(waiting: Iterable[Waiting], longest: timedelta) -> list[Window]:
    """Each segment in one window of its camera, by start; only a longer segment exceeds `longest`."""
    found: list[Window] = []
    for camera_id, segments in _by_camera(waiting).items():
        found += [Window(camera_id=camera_id, segments=some) for some in _neighbours(segments, longest)]
    return found


def _neighbours(segments: Sequence[Waiting], longest: timedelta) -> Iterator[tuple[Waiting, ...]]:
    some: list[Waiting] = []
    for each in sorted(segments, key=lambda each: (each.span, each.no)):
        if some:
            end = max(one.span.end for one in some)
            apart = each.span.start - end > NEIGHBOURS
            if apart or max(end, each.span.end) - some[0].span.start > longest:
                yield tuple(some)
                some = []
        some.append(each)
    if some:
        yield tuple(some)


def _by_camera(waiting: Iterable[Waiting]) -> dict[UUID, list[Waiting]]:
    by_camera: dict[UUID, list[Waiting]] = defaultdict(list)
    for each in {each.id: each for each in waiting}.values():
        by_camera[each.camera_id].append(each)
    return by_camera


def ripe(waiting: Iterable[Waiting], settle: timedelta, longest: timedelta, now: datetime) -> list[Waiting]:
    """Those to ask for now: settled, and of a camera where one has waited long enough for neighbours.

    What is urgent waits for nobody, nor does what already fills a window.
    """
    found: list[Waiting] = []
    for segments in _by_camera(waiting).values():
        settled = [each for each in segments if each.span.end + settle <= now]
        if settled and _asked_for(settled, settle, longest, now):
            found += settled
    return found


def _asked_for(settled: Sequence[Waiting], settle: timedelta, longest: timedelta, now: datetime) -> bool:
    first_end = min(each.span.end for each in settled)
    long_ago = first_end + settle + min(MOST_WAIT, WAITS * settle) <= now
    return long_ago or any(each.urgent for each in settled) or _fills(settled, longest)


def _fills(settled: Sequence[Waiting], longest: timedelta) -> bool:
    return spanning(each.span for each in settled).duration >= longest


def ripens_in(waiting: Iterable[Waiting], settle: timedelta, now: datetime) -> timedelta | None:
    """When the next camera is ripe, if nothing is added; None with nothing that waits for its time."""
    moments = [each.span.end + settle + min(MOST_WAIT, WAITS * settle) - now for each in waiting]
    ahead = [each for each in moments if each > timedelta(0)]
    return min(ahead) if ahead else None


def in_turn(found: Iterable[Window], newest_share: float = 0.0, last: Collection[UUID] = ()) -> list[Window]:
    """Urgent ones first, then the cameras take turns; those of `last` (they failed before) come behind all.

    A camera's own come oldest first, but for the share that is taken from the new end.
    """
    groups: dict[tuple[bool, bool], dict[UUID, list[Window]]] = defaultdict(lambda: defaultdict(list))
    for window in sorted(found, key=lambda window: window.span):
        groups[window.camera_id in last, not window.urgent][window.camera_id].append(window)
    ordered: list[Window] = []
    for key in sorted(groups):
        queues = [deque(_from_both_ends(some, newest_share)) for some in groups[key].values()]
        ordered += _taking_turns(queues)
    return ordered


def _from_both_ends(some: Sequence[Window], newest_share: float) -> Iterator[Window]:
    queue, credit = deque(some), 0.0
    while queue:
        credit += newest_share
        if credit >= 1.0 - 1e-9:
            credit -= 1.0
            yield queue.pop()
        else:
            yield queue.popleft()


def _taking_turns(queues: list[deque[Window]]) -> Iterator[Window]:
    while queues:
        for queue in queues:
            yield queue.popleft()
        queues = [queue for queue in queues if queue]
