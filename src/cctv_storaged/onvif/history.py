"""When a recording's track had data, as changes of its state in order of time: what FindEvents gives.

The journal is read in slices; changes are not made up at the edges of the time that is asked for.
"""

from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta

from cctv_storaged.causes import TOLERANCE
from cctv_storaged.clock import EPOCH
from cctv_storaged.coverage import LATEST
from cctv_storaged.journal.replayable import Position, Replayable
from cctv_storaged.model import TimeSpan
from cctv_storaged.onvif.inventory import Recorded

STEP = 200
"""Segments looked at in one go; of each recording that is searched so many are in memory."""
MOST_BACKWARDS = 5_000
"""Changes kept of a search that goes back in time: those nearest to where it starts."""


@dataclass(frozen=True, slots=True)
class Change:
    """From this moment on there is data, or there is none."""

    time: datetime
    recorded: Recorded
    present: bool
    start_state: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """What a search wants."""

    start: datetime
    end: datetime  # before the start: back in time
    start_state: bool

    @property
    def backwards(self) -> bool:
        return self.end < self.start

    @property
    def span(self) -> TimeSpan:
        first, last = sorted((self.start, self.end))
        return TimeSpan(first, max(last, first + timedelta(microseconds=1)))


async def changes(
    replayable: Replayable, recordings: Sequence[Recorded], asked: Asked
) -> AsyncGenerator[Change]:
    """Of all the recordings together."""
    if asked.start_state:
        for each in recordings:
            present = await _is_present(replayable, each, asked.start)
            yield Change(asked.start, each, present, start_state=True)
    if not asked.backwards:
        async with AsyncExitStack() as stack:
            ways = [
                await stack.enter_async_context(aclosing(_edges(replayable, each, asked.span)))
                for each in recordings
            ]
            async with aclosing(_merged(ways)) as merged:
                async for change in merged:
                    yield change
        return
    kept: deque[Change] = deque(maxlen=MOST_BACKWARDS)
    for each in recordings:
        async with aclosing(_edges(replayable, each, asked.span)) as edges:
            nearest: deque[Change] = deque(maxlen=MOST_BACKWARDS)
            async for change in edges:
                nearest.append(change)
        kept = deque(sorted([*kept, *nearest], key=lambda change: change.time), maxlen=MOST_BACKWARDS)
    for change in reversed(kept):
        yield change


async def _merged(ways: list[AsyncGenerator[Change]]) -> AsyncGenerator[Change]:
    """The earliest of what each has next."""
    heads = [(change, way) for way in ways if (change := await anext(way, None)) is not None]
    while heads:
        at = min(range(len(heads)), key=lambda index: heads[index][0].time)
        change, way = heads[at]
        yield change
        following = await anext(way, None)
        if following is None:
            del heads[at]
        else:
            heads[at] = (following, way)


async def _edges(replayable: Replayable, recorded: Recorded, span: TimeSpan) -> AsyncGenerator[Change]:
    """Where stretches of footage begin and end within the span."""
    async with aclosing(_stretches(replayable, recorded, span)) as stretches:
        async for stretch in stretches:
            for moment, present in ((stretch.start, True), (stretch.end, False)):
                if span.start <= moment <= span.end:
                    yield Change(moment, recorded, present)


async def _stretches(replayable: Replayable, recorded: Recorded, span: TimeSpan) -> AsyncGenerator[TimeSpan]:
    """Footage that touches the span, joined over less than TOLERANCE, each as long as it is known to be."""
    camera_id, wide = recorded.channel.camera.id, _widened(span)
    last: TimeSpan | None = None
    after: Position | None = None
    while True:
        part = await replayable.rows(camera_id, wide, STEP, after)
        for row in part.rows:
            this = row.span
            if last is not None and this.start <= last.end + TOLERANCE:
                last = TimeSpan(last.start, max(last.end, this.end))
                continue
            if last is not None:
                yield last
            last = this
        if part.next is None:
            break
        after = part.next
    if last is not None:
        yield last


async def _is_present(replayable: Replayable, recorded: Recorded, moment: datetime) -> bool:
    instant = TimeSpan(moment, moment + timedelta(microseconds=1))
    after: Position | None = None
    while True:
        part = await replayable.rows(recorded.channel.camera.id, instant, STEP, after)
        if part.rows or part.next is None:
            return bool(part.rows)
        after = part.next


def _widened(span: TimeSpan) -> TimeSpan:
    """What touches the span from outside is no change at its edge."""
    return TimeSpan(max(span.start - TOLERANCE, EPOCH), min(span.end, LATEST) + TOLERANCE)
