"""Where a connection of the ImageServer stands in a camera's footage, and where a method takes it."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from tests.fakes.xprotect.media import MediaDatabase
from tests.fakes.xprotect.pictures import Group


@dataclass(frozen=True, slots=True)
class Place:
    """A group with its neighbours' times, ms; all 0 and no group in an empty database."""

    prev_ms: int
    current_ms: int
    next_ms: int
    group: Group | None


NOWHERE = Place(0, 0, 0, None)


@dataclass(slots=True)
class Cursor:
    """Moves by times: of groups that begin at the same moment, the last one counts."""

    database: MediaDatabase
    camera: UUID
    _at_ms: int | None = None
    _starts: list[int] = field(default_factory=list)
    _groups: Sequence[Group] = ()

    def goto(self, time_ms: int) -> Place:
        """The group that the time lies in, or the last one before it."""
        if not self._look():
            return NOWHERE
        at = bisect_right(self._starts, time_ms) - 1
        if at < 0 and self.database.assumptions.before_first == "empty":
            return NOWHERE
        if at >= 0 and self.database.assumptions.gap_goto == "after" and self._in_gap(at, time_ms):
            at += 1
        return self._stand(max(at, 0), time_ms)

    def step(self, by: int) -> Place:
        """The next group (1) or the previous one (-1); at an end that which was there."""
        if not self._look():
            return NOWHERE
        at = self._index()
        if at is None:
            return self._stand(0)
        if 0 <= at + by < len(self._starts):
            return self._stand(at + by)
        place = self._stand(at)
        if self.database.assumptions.end_repeats:
            return place
        return Place(place.prev_ms, place.current_ms, place.next_ms, None)

    def edge(self, *, last: bool) -> Place:
        """The first or the last group."""
        return self._stand(len(self._starts) - 1 if last else 0) if self._look() else NOWHERE

    def sequence(self, by: int) -> Place:
        """The first group of the next (1) or the previous sequence (-1); where there is none, as `step`."""
        if not self._look():
            return NOWHERE
        at = self._index()
        begins = [stretch.start_ms for stretch in self.database.sequences(self.camera)]
        if at is None:
            return self._stand(0)
        wanted = bisect_right(begins, self._starts[at]) - 1 + by
        if not 0 <= wanted < len(begins):
            return self._stand(at)
        return self._stand(bisect_right(self._starts, begins[wanted]) - 1)

    def _look(self) -> bool:
        """The groups as they are now: retention and new footage move beneath a connection."""
        by_start = (
            {}
            if self.database.faults.database_empty
            else {group.start_ms: group for group in self.database.groups(self.camera)}
        )
        self._starts, self._groups = list(by_start), list(by_start.values())
        return bool(by_start)

    def _index(self) -> int | None:
        if self._at_ms is None:
            return None
        return max(bisect_right(self._starts, self._at_ms) - 1, 0)

    def _in_gap(self, at: int, time_ms: int) -> bool:
        group = self._groups[at]
        if at + 1 == len(self._starts) or time_ms <= group.last_ms:
            return False
        return self._starts[at + 1] - group.last_ms > self.database.assumptions.sequences_gap_ms

    def _stand(self, at: int, asked_ms: int | None = None) -> Place:
        current = self._at_ms = self._starts[at]
        following = self._starts[at + 1] if at + 1 < len(self._starts) else current
        if following == current and asked_ms is not None and self.database.assumptions.end_next == "asked":
            following = asked_ms
        return Place(self._starts[max(at - 1, 0)], current, following, self._groups[at])
