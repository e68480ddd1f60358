"""When a pass over a camera has to wait for somebody to say yes. Pure.

Time makes a day's footage expire in a day. A pass that would take much more was made to by something else: a
shortened rule, footage that was adopted or whose hold was released, a clock. What expired between the last
pass and this one is explained by time; all else is not.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from cctv_storaged.journal.retention import Swept
from cctv_storaged.retention.amounts import Amount

MOST_SHARE = 0.1
"""Of a camera's segments: less is never stopped."""
MOST_DURATION = timedelta(days=1)
"""Of footage: less is never stopped."""
CONFIRMED_FOR = timedelta(days=1)
"""How long a yes counts, where nobody says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """The ends of segments that time alone lets expire: after `since`, until `until`."""

    since: datetime
    until: datetime

    def has(self, end: datetime) -> bool:
        return self.since < end <= self.until


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """What a pass over a camera would delete."""

    unexplained: Amount
    of_segments: int  # that the camera has


def explained(swept: Swept, elapsed: timedelta | None, now: datetime) -> Explained | None:
    """What time explains since the last pass; None: there was none, and nothing is explained.

    `elapsed`: what the clock that only grows has counted since then, where this process made that pass.
    """
    if swept.ended_by is None or swept.at is None:
        return None
    passed = now - swept.at
    if elapsed is not None:
        passed = min(passed, elapsed)
    return Explained(since=swept.ended_by, until=swept.ended_by + max(passed, timedelta(0)))


def was_weighed(swept: Swept, limit: timedelta) -> bool:
    """Whether a whole pass came to its end under a limit that was no longer than this one.

    Until then nobody knows whether a rule needs a yes: it may have been shortened by a slip of the pen.
    """
    if swept.ended_by is None or swept.at is None:
        return False
    return swept.at - swept.ended_by <= limit


def stops(what: Pass, at_most: timedelta, swept: Swept, now: datetime) -> bool:
    """Whether the pass waits for a yes."""
    if confirmed(swept, at_most, now):
        return False
    much = what.unexplained.segments > MOST_SHARE * what.of_segments
    return much and what.unexplained.duration > MOST_DURATION


def confirmed(swept: Swept, at_most: timedelta, now: datetime) -> bool:
    """Whether somebody said yes, to a rule that is not shorter by now."""
    if swept.confirmed is None or swept.until is None:
        return False
    return now < swept.until and at_most >= swept.confirmed
