"""Recording sequences by REST: what XProtect holds of a span.

`GetSequences` looks around a moment, so far and so many each way (MIP VMS Config API). What is not published
is made no use of: sequences may come clipped or whole, in any order, and fewer than there are. A stretch
counts as empty when an answer that reached over it had something on either side, or nothing at all in it.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from cctv_storaged.backends.milestone.answers import Unreadable
from cctv_storaged.backends.milestone.jsontree import Fields, rfc3339_ms
from cctv_storaged.backends.milestone.rest import path_of
from cctv_storaged.backends.milestone.tasks import Tasks
from cctv_storaged.model import TimeSpan

COUNT = 100
"""Sequences asked for on either side."""
ANSWER_MAX = 5000
QUESTIONS_MAX = 400
SEQUENCES_MAX = 20_000
_SHORTEST = timedelta(seconds=2)  # an empty stretch below it is not asked for again
_SECOND = timedelta(seconds=1)
_TICK = timedelta(microseconds=1)


class RestSequences:
    """Asks cameras' `GetSequences`."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks

    async def recorded(self, camera: UUID, span: TimeSpan) -> Sequence[TimeSpan]:
        """Clipped to the span, sorted, disjoint. Refused (400) and NotThere (404): see `refusals`."""
        held: list[TimeSpan] = []
        to_ask, asked = [span], 0
        while to_ask:
            stretch = to_ask.pop()
            if (asked := asked + 1) > QUESTIONS_MAX:
                raise Unreadable(f"recordings of camera {camera}: more than {QUESTIONS_MAX} answers of them")
            found = await self._around(camera, stretch, inside=asked > 1)
            held = merged([*held, *clipped(found, span)])
            if len(held) > SEQUENCES_MAX:
                raise Unreadable(f"recordings of camera {camera}: more than {SEQUENCES_MAX} sequences")
            if inside := clipped(found, stretch):
                to_ask += doubtful(stretch, inside)
            elif found and asked == 1:
                to_ask.append(stretch)  # its neighbours may have left no room in the answer for what is in it
        return tuple(held)

    async def _around(self, camera: UUID, stretch: TimeSpan, *, inside: bool) -> Sequence[TimeSpan]:
        reach = _reach(stretch, inside=inside)
        body = {
            "sequenceType": "RecordingSequence",
            "time": rfc3339_ms(stretch.start + stretch.duration / 2),
            "timeBefore": reach,
            "timeAfter": reach,
            "maxCountBefore": COUNT,
            "maxCountAfter": COUNT,
        }
        return _sequences(await self._tasks.ask(path_of("cameras", camera), "GetSequences", body))


def merged(spans: Iterable[TimeSpan]) -> list[TimeSpan]:
    """Sorted and disjoint: those that touch or overlap are one."""
    result: list[TimeSpan] = []
    for span in sorted(spans):
        if result and span.start <= result[-1].end:
            result[-1] = TimeSpan(result[-1].start, max(result[-1].end, span.end))
        else:
            result.append(span)
    return result


def clipped(spans: Iterable[TimeSpan], to: TimeSpan) -> list[TimeSpan]:
    """What of them lies in `to`, in their order."""
    return [part for span in spans if (part := span.clipped_to(to)) is not None]


def doubtful(stretch: TimeSpan, found: Sequence[TimeSpan]) -> list[TimeSpan]:
    """Where a stretch may hold more than was told: at both ends, and next to the moment it was asked around.

    Whatever limit cuts an answer short, it cuts there. `found` is not empty and lies in the stretch.
    """
    held = merged(found)
    middle = stretch.start + stretch.duration / 2
    at_middle = next(
        (span for span in held if span.start <= middle <= span.end), TimeSpan(middle, middle + _TICK)
    )
    return [
        gap
        for gap in gaps_between(stretch, held)
        if gap.duration >= _SHORTEST
        and (
            gap.start == stretch.start
            or gap.end == stretch.end
            or (gap.start <= at_middle.end and gap.end >= at_middle.start)
        )
    ]


def gaps_between(stretch: TimeSpan, held: Sequence[TimeSpan]) -> list[TimeSpan]:
    """What of the stretch is not held; `held` is sorted, disjoint and lies in it."""
    edges: list[datetime] = [stretch.start]
    for span in held:
        edges += [span.start, span.end]
    edges.append(stretch.end)
    return [TimeSpan(start, end) for start, end in zip(edges[::2], edges[1::2], strict=True) if start < end]


def _reach(stretch: TimeSpan, *, inside: bool) -> str:
    """Half of the stretch as `ddd.HH:mm:ss`: whole seconds, over its ends, or not quite to them."""
    half = stretch.duration / 2
    seconds = (half - timedelta(milliseconds=2)) // _SECOND if inside else half // _SECOND + 2
    minutes, second = divmod(max(seconds, 1), 60)
    hours, minute = divmod(minutes, 60)
    day, hour = divmod(hours, 24)
    return f"{day:03d}.{hour:02d}:{minute:02d}:{second:02d}"


def _sequences(told: Fields) -> Sequence[TimeSpan]:
    """Those that have a length. Unreadable where it is not told whether there are any."""
    listed = told.each("sequences")
    if listed is None:
        if told.text("state").lower() == "success":
            return ()
        raise Unreadable("GetSequences: the answer has no sequences")
    if len(listed) > ANSWER_MAX:
        raise Unreadable(f"GetSequences: {len(listed)} sequences in one answer")
    spans = []
    for each in listed:
        begin, end = each.moment("timeBegin"), each.moment("timeEnd")
        if begin is not None and end is not None and begin < end:
            spans.append(TimeSpan(begin, end))
    return spans
