"""What a camera keeps, held against what its rule promises. Pure.

An age is the time from the start of a segment until now. What only a hold keeps does not count, time that
nothing was recorded in is no fault, and what is known to have been taken is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from cctv_storaged.clock import from_us, rfc3339, to_us
from cctv_storaged.journal.reports import DAY_US
from cctv_storaged.model import Camera, GapCause, TimeSpan
from cctv_storaged.reporting.stretches import Hole, Stretch, Times, joined
from cctv_storaged.retention.rules import Rule

GONE = (GapCause.LOST, GapCause.DELETED, GapCause.RETENTION, GapCause.CAPACITY)
"""Footage that existed and is not there any more."""
SLACK = timedelta(minutes=1)
"""Beside a usual segment: so much less than promised is not told."""
ZERO = timedelta(0)


class State(StrEnum):
    """How a camera stands to its rule."""

    OK = "ok"  # keeps at least what is required
    SHORT = "short"  # keeps less
    NEW = "new"  # not there for as long as its rule requires: keeps all since it is
    UNKNOWN = "unknown"  # the same, since its first footage known: the journal that knew of older was lost
    NO_RULE = "no_rule"  # nothing is required


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What the journal says of a camera."""

    camera: Camera
    rule: Rule
    first: datetime | None  # its first footage that this journal knows of
    usual: timedelta  # how long its segments are
    oldest: datetime | None  # start of the oldest footage that counts
    oldest_held: datetime | None  # start of older footage that is there for a hold only
    taken: str | None  # cause of footage taken that would be older than that, and required
    days: Sequence[Stretch]  # that were looked at, in order
    asked: tuple[int, int] | None = None  # gaps and coverage are told of these days only
    forgotten: bool = False  # there may have been footage before `first`

    @property
    def installed(self) -> datetime | None:
        """When the first footage ever was, where that is known."""
        return None if self.forgotten else self.first


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The camera's line of the report."""

    kept: Kept
    required: timedelta | None
    achieved: timedelta
    age: timedelta  # of the oldest footage that counts
    examined: Stretch | None
    missing: timedelta  # of what is required
    state: State
    why: str | None  # of SHORT

    @property
    def footage(self) -> timedelta:
        return ZERO if self.examined is None else self.examined.footage

    @property
    def causes(self) -> Times:
        return {} if self.examined is None else self.examined.causes

    @property
    def gone(self) -> timedelta:
        return gone_of(self.causes)

    @property
    def longest(self) -> Hole | None:
        return None if self.examined is None else self.examined.longest


def required_of(rule: Rule, first: datetime | None, now: datetime) -> timedelta | None:
    """What the rule promises, but not more than there can be; None: nothing."""
    if rule.at_least is None:
        return None
    return ZERO if first is None else max(ZERO, min(rule.at_least, now - first))


def held_from(rule: Rule, now: datetime) -> datetime:
    """Held footage counts from then on: it would be there without its hold. Without a rule: never."""
    limit = rule.at_least or rule.desired or rule.at_most or ZERO
    return now - limit


def figures_of(kept: Kept, now: datetime) -> Figures:
    """The line."""
    required = required_of(kept.rule, kept.first, now)
    age = ZERO if kept.oldest is None else max(ZERO, now - kept.oldest)
    reach = age
    if required is not None and reach < required and kept.taken is None:
        reach = required  # nothing was recorded before, or nobody took it
    whole = joined(kept.days)
    missing = ZERO if required is None else _missing(kept.days, required, reach, now)
    state = _state(kept, required, missing, now)
    achieved = max((required or ZERO) - missing, ZERO)
    if state is not State.SHORT:  # else older footage would make up for what is gone of the required
        achieved = max(reach - gone_of(whole.causes if whole else {}), achieved)
    return Figures(
        kept=kept,
        required=required,
        achieved=achieved,
        age=age,
        examined=whole if kept.asked is None else joined(_among(kept.days, *kept.asked)),
        missing=missing,
        state=state,
        why=_why(kept, required, reach, now) if state is State.SHORT else None,
    )


def _among(days: Iterable[Stretch], first: int, last: int) -> Iterable[Stretch]:
    return (day for day in days if first <= day_of(day.span.start) <= last)


def gone_of(causes: Times) -> timedelta:
    """The time of which footage existed and is gone."""
    return sum((causes.get(cause, ZERO) for cause in GONE), ZERO)


def _missing(days: Iterable[Stretch], required: timedelta, reach: timedelta, now: datetime) -> timedelta:
    within = [day for day in days if day.span.start >= now - required]
    return max(ZERO, required - reach) + sum((gone_of(day.causes) for day in within), ZERO)


def _state(kept: Kept, required: timedelta | None, missing: timedelta, now: datetime) -> State:
    if required is None:
        return State.NO_RULE
    if missing > kept.usual + SLACK:
        return State.SHORT
    if kept.first is not None and required == kept.rule.at_least:
        return State.OK
    return State.UNKNOWN if kept.forgotten else State.NEW


def _why(kept: Kept, required: timedelta | None, reach: timedelta, now: datetime) -> str:
    assert required is not None
    told = []
    if reach < required:
        oldest = (
            "nothing is left" if kept.oldest is None else f"its oldest footage is of {rfc3339(kept.oldest)}"
        )
        told.append(f"{oldest}, and what came before was taken ({kept.taken})")
    whole = joined(day for day in kept.days if day.span.start >= now - required)
    causes = {} if whole is None else whole.causes
    told += [f"{in_words(causes[cause])} {cause}" for cause in GONE if causes.get(cause, ZERO) > ZERO]
    return "; ".join(told)


def in_words(length: timedelta) -> str:
    """A length for people."""
    hours = length / timedelta(hours=1)
    if hours >= 48:
        return f"{hours / 24:.1f} days"
    return f"{hours:.1f} h" if hours >= 1 else f"{length.total_seconds():.0f} s"


def day_of(moment: datetime) -> int:
    """Days since 1970-01-01, UTC."""
    return to_us(moment) // DAY_US


def first_day(first: datetime | None, oldest: datetime) -> int:
    """The first day that is looked at: the oldest is just being taken, unless the camera began then."""
    begun = first is not None and day_of(first) == day_of(oldest)
    return day_of(oldest) + (0 if begun else 1)


def parts_to_look_at(
    known: dict[int, datetime], first: int, until: datetime, least: timedelta
) -> list[TimeSpan]:
    """What of the days from `first` to `until` was not looked at, newest first; `known`: how far each was.

    A day that is not over is worth a look only for `least` of time.
    """
    parts = []
    for day in range(day_of(until), first - 1, -1):
        begin, end = _begin(day), min(_begin(day + 1), until)
        begin = max(begin, known.get(day, begin))
        if end > begin and (end == _begin(day + 1) or end - begin >= least):
            parts.append(TimeSpan(begin, end))
    return parts


def _begin(day: int) -> datetime:
    return from_us(day * DAY_US)
