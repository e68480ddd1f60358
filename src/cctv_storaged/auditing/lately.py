"""What was told lately and need not be again, and how many lines whom are left. Counted, never searched."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

from cctv_storaged.model import TimeSpan

HOUR_S = 3600.0
MOST_REMEMBERED = 10_000
"""More keys than this: the oldest is forgotten, and told again, which is no harm."""


@dataclass(slots=True)
class Lately:
    """The spans that were told under a key within the hour."""

    monotonic: Callable[[], float]
    _told: dict[Hashable, list[tuple[float, TimeSpan]]] = field(default_factory=dict)

    def untold(self, key: Hashable, span: TimeSpan) -> TimeSpan | None:
        """What of it is to be told yet; None: nothing. Told in its midst only, it is told as a whole."""
        after = self.monotonic() - HOUR_S
        return rest_of(span, [known for at, known in self._told.get(key, ()) if at > after])

    def add(self, key: Hashable, span: TimeSpan) -> None:
        now_s = self.monotonic()
        known = [each for each in self._told.pop(key, ()) if each[0] > now_s - HOUR_S]
        self._told[key] = [*known, (now_s, span)]
        while len(self._told) > MOST_REMEMBERED:
            del self._told[next(iter(self._told))]


def rest_of(span: TimeSpan, told: Sequence[TimeSpan]) -> TimeSpan | None:
    """The span without what was told of its begin and of its end. Pure."""
    start, end = span.start, span.end
    for each in sorted(told, key=lambda known: known.start):
        if each.start <= start:
            start = max(start, each.end)
    for each in sorted(told, key=lambda known: known.end, reverse=True):
        if each.end >= end:
            end = min(end, each.start)
    return TimeSpan(start, end) if start < end else None


@dataclass(slots=True)
class Quota:
    """So many lines an hour for each."""

    most: int
    monotonic: Callable[[], float]
    _spent: dict[Hashable, tuple[float, int]] = field(default_factory=dict)  # since when, and how many

    def left(self, whose: Hashable) -> int:
        """How many are still to be had in this hour."""
        begun, count = self._spent.get(whose, (self.monotonic(), 0))
        return self.most if self.monotonic() - begun >= HOUR_S else self.most - count

    def spend(self, whose: Hashable) -> None:
        now_s = self.monotonic()
        begun, count = self._spent.pop(whose, (now_s, 0))
        self._spent[whose] = (begun, count + 1) if now_s - begun < HOUR_S else (now_s, 1)
        while len(self._spent) > MOST_REMEMBERED:
            del self._spent[next(iter(self._spent))]
