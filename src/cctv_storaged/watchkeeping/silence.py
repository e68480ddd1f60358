"""When a camera has been silent for too long, by how often its segments come. Pure."""

import fnmatch
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from cctv_storaged.model import Camera

LEAST = timedelta(minutes=2)
"""No silence is shorter: where the kernel does not tell that a file is closed, it is known 90 s later."""
HISTORY = 5
"""Intervals that a cadence is known from; of a camera with fewer nothing is expected."""
MOST_OF_THEM = 0.9
"""So many of the intervals are no longer than the expected one: an outage does not stretch it."""


IRREGULAR = 2
"""So many times the median is more than the jitter of a recorder that cuts by the clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SilenceRules:
    """What the settings say."""

    intervals: int = 3
    after: Mapping[str, timedelta] | None = None
    """Camera id, folder or pattern of folders to the silence that counts instead of the measured; 0: none."""

    def own_limit(self, camera: Camera) -> timedelta | None:
        """What is said of this camera: by its id, its folder, else the first pattern that fits."""
        said = self.after or {}
        for key in (str(camera.id), camera.folder):
            if key in said:
                return said[key]
        return next((limit for key, limit in said.items() if fnmatch.fnmatchcase(camera.folder, key)), None)


def expected_interval(starts: Sequence[datetime], longest: timedelta = timedelta(0)) -> timedelta | None:
    """From one segment's start to the next, as most of them are; None with too few to tell from.

    By the time in the footage, not when it was found: scans find many at once. Where they come so irregularly
    as on motion, the longest interval of all is no surprise. `longest`: the length of segments now, which may
    be another since yesterday.
    """
    intervals = sorted(later - earlier for earlier, later in pairwise(sorted(starts)) if later > earlier)
    if len(intervals) < HISTORY:
        return None
    most, median = _share(intervals, MOST_OF_THEM), _share(intervals, 0.5)
    return max(longest, intervals[-1] if most > IRREGULAR * median else most)


def _share(ordered: Sequence[timedelta], share: float) -> timedelta:
    """So large a share of them is no longer."""
    return ordered[math.ceil(share * len(ordered)) - 1]


def longest_silence(expected: timedelta, rules: SilenceRules) -> timedelta:
    """What is longer is an alarm."""
    return max(LEAST, rules.intervals * expected)
