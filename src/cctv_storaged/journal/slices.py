"""How much of long work goes into one commit: as much as the journal does while others may wait."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

AIM_S = 0.008
STEP = 5
_NEWS = 0.25
"""Weight of the latest measurement: a single one may have waited for a disk or for a processor."""


class Slices:
    """Measures steps of work on rows; from any thread, one at a time."""

    def __init__(
        self, first: int, least: int, most: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._first, self._least, self._most = first, least, most
        self._clock = clock
        self._each_s: dict[str, float] = {}  # by step: what a row takes

    @property
    def size(self) -> int:
        """Rows of which the slowest step takes about AIM_S; one of few sizes, for each has its statements."""
        slowest_s = max(tuple(self._each_s.values()), default=0.0)
        if slowest_s <= 0.0:
            return self._first
        fitting = int(AIM_S / slowest_s)
        return max(self._least, min(self._most, fitting - fitting % STEP))

    @contextmanager
    def measured(self, step: str, rows: int) -> Iterator[None]:
        """The block does this step with so many rows."""
        begun = self._clock()
        yield
        if rows:
            each_s = (self._clock() - begun) / rows
            before = self._each_s.get(step, each_s)
            self._each_s[step] = before + _NEWS * (each_s - before)
