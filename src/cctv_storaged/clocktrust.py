"""Whether a wall clock can be trusted, by what was noted of it and what it says now. Pure.

Within one boot it must have gone on as the boot clock did. Over a reboot nobody knows how long the host was
off: only what is impossible, or too long to be believed of an unsynchronised clock, is distrusted.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cctv_storaged.clock import EPOCH

TOLERANCE = timedelta(seconds=60)
"""What NTP may correct in one go, and what a virtual machine may be paused, without a word."""
LEAST_STEP = timedelta(seconds=1)
"""A smaller one leaves no gap."""
LONGEST_OFF = timedelta(days=31)
"""A host that was off for longer, by its clock, has to say that the clock is right."""
UNSYNCHRONIZED_OFF = timedelta(hours=1)
"""The same where the kernel knows that the clock follows no better one."""
AHEAD = timedelta(days=1)
"""Newest footage may begin this much later than now: a recorder's zone may be wrong."""
AROUND = timedelta(hours=1)
"""Files end later than a step in the midst of them, and are told of later than they end."""
MOST_SPANS = 50
STEADY = timedelta(minutes=10)
"""So long a clock has to be synchronised, without a step, to be trusted again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The clocks at one moment."""

    wall: datetime
    boot_s: float
    boot_id: str
    synchronized: bool | None = None  # None: nobody tells

    @property
    def offset(self) -> timedelta:
        """Wall minus boot clock: it stays as it is until the wall clock is set."""
        return self.wall - EPOCH - timedelta(seconds=self.boot_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """A moment at which the wall clock was trusted."""

    wall: datetime
    boot_s: float
    boot_id: str

    @classmethod
    def at(cls, reading: Reading) -> "Anchor":
        return cls(wall=reading.wall, boot_s=reading.boot_s, boot_id=reading.boot_id)

    def step_to(self, reading: Reading) -> timedelta | None:
        """How far the wall clock is from where it had to be; None where nobody can tell: another boot."""
        if self.boot_id != reading.boot_id:
            return None
        return reading.wall - self.wall - timedelta(seconds=reading.boot_s - self.boot_s)

    def moved_to(self, reading: Reading) -> "Anchor":
        """The trust of before, at the moment of a reading: steps that were borne do not add up unnoticed."""
        step = self.step_to(reading)
        if step is None:
            return Anchor.at(reading)
        return Anchor(wall=reading.wall - step, boot_s=reading.boot_s, boot_id=reading.boot_id)


def doubt(anchor: Anchor, now: Reading) -> str | None:
    """Why the wall clock is not to be trusted now; None: as far as anybody can tell it is right."""
    step = anchor.step_to(now)
    if step is not None:
        return None if abs(step) <= TOLERANCE else f"the wall clock jumped by {_told(step)}"
    off = now.wall - anchor.wall
    if off < -TOLERANCE:
        return f"since the reboot the wall clock is {_told(-off)} before what it was at last"
    if off > LONGEST_OFF:
        return f"by the wall clock the host was off for {_told(off)}"
    if off > UNSYNCHRONIZED_OFF and now.synchronized is False:
        return f"by a wall clock that is not synchronised the host was off for {_told(off)}"
    return None


def footage_doubt(
    newest: datetime | None, now: datetime, lead: timedelta, *, first: bool, synchronized: bool | None
) -> str | None:
    """What the newest footage says against the clock. `lead`: so far ahead somebody said it may be.

    At the `first` start there is nothing but footage to hold an unsynchronised clock against.
    """
    if newest is None:
        return None
    if newest - now > AHEAD + lead:
        return f"the newest footage begins {_told(newest - now)} from now: either it or the clock is wrong"
    if first and synchronized is False and now - newest > LONGEST_OFF:
        return f"the newest footage is {_told(now - newest)} old, and the clock is not synchronised"
    return None


@dataclass(frozen=True, slots=True)
class Misdated:
    """Footage of this span by its name may be of another time: the clock that named it was wrong.

    It was recorded before `right_from` in any case, and nobody knows when.
    """

    start: datetime
    end: datetime
    right_from: datetime

    def spares(self, end: datetime, limit: timedelta, now: datetime) -> bool:
        """Whether footage that ends then, by its name, may be younger than the limit in truth."""
        return self.start - AROUND <= end <= self.end + AROUND and now - self.right_from < limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """When the clock was wrong, by itself: behind spans that are over, and those of a doubt that lasts."""

    misdated: tuple[Misdated, ...] = ()
    behind: tuple[Misdated, ...] = ()
    """Those of them in which it was for certain: it was doubted, or set right by a better one."""
    wrong: tuple[tuple[datetime, datetime], ...] = ()
    offset: timedelta | None = None  # of the clock in the last of these

    def went_on(self, now: Reading, before_s: float) -> "Errors":
        """The clock is doubted at this reading; the one before it was at `before_s` of this boot."""
        same = self.wrong and self.offset is not None and abs(now.offset - self.offset) < LEAST_STEP
        since = now.wall - timedelta(seconds=now.boot_s - before_s)
        if same:
            wrong = (*self.wrong[:-1], (self.wrong[-1][0], now.wall))
        elif self.wrong and abs(since - self.wrong[-1][1]) <= TOLERANCE:  # it drifts: no span of its own
            start, end = self.wrong[-1]
            wrong = (*self.wrong[:-1], (min(start, since), max(end, now.wall)))
        else:
            wrong = (*self.wrong[-MOST_SPANS + 1 :], (since, now.wall))
        return replace(self, wrong=wrong, offset=now.offset)

    def over(
        self, now: Reading, others: tuple[tuple[datetime, datetime], ...] = (), *, certain: bool = True
    ) -> "Errors":
        """The clock is right now. What it said ahead of that will be old enough in its time.

        `others`: it was trusted in these, and wrong; not `certain`: or so much time has passed since.
        """
        own = [Misdated(*span, now.wall) for span in self.wrong if span[1] < now.wall]
        more = [Misdated(*span, now.wall) for span in others if span[1] < now.wall]
        return Errors(
            misdated=(*self.misdated, *own, *more)[-MOST_SPANS:],
            behind=(*self.behind, *own, *(more if certain else ()))[-MOST_SPANS:],
        )


class Trust:
    """Whether the clock is trusted, from reading to reading."""

    def __init__(
        self,
        anchor: Anchor,
        *,
        first: bool = False,
        holds: bool = True,
        trusted_from: datetime | None = None,
        lead: timedelta = timedelta(0),
        errors: Errors = Errors(),
    ) -> None:
        self.anchor = anchor
        self.first = first
        """Nothing was known of the clock when the host was first seen, and no recent footage since."""
        self.holds = holds
        self.trusted_from = trusted_from
        """Since when without a break; None: from the first start on."""
        self.lead = lead
        """So far ahead of now footage may begin, as somebody said."""
        self.errors = errors
        self.newest: datetime | None = None
        """When the newest footage begins."""
        self._steady_since_s = 0.0
        self._steady_offset: timedelta | None = None
        self._judged: Reading | None = None

    def judge(self, now: Reading) -> str | None:
        """Why the clock is not trusted at this reading; None: it is."""
        steady = self._steady(now)
        reason = doubt(self.anchor, now)
        if reason is None and not steady:
            synchronized = now.synchronized
            reason = footage_doubt(
                self.newest, now.wall, self.lead, first=self.first, synchronized=synchronized
            )
        if reason is not None and not steady:
            self.holds = False
            self.errors = self.errors.went_on(now, self._before_s(now))
        elif reason is not None:
            self.trust(now)
        else:
            self._go_on(now)
        self._judged = now
        return None if self.holds else reason

    def spares(self, end: datetime, limit: timedelta, now: datetime) -> bool:
        """Whether footage that ends then, by its name, may be younger than the limit in truth."""
        return any(span.spares(end, limit, now) for span in self.errors.misdated)

    def right_from(self, moment: datetime) -> datetime | None:
        """When a clock came to be right that was behind as it showed that; None: it was not, as far as
        anybody can tell.
        """
        found = (
            each for each in self.errors.behind if each.start - TOLERANCE <= moment <= each.end + TOLERANCE
        )
        return max((each.right_from for each in found), default=None)

    def trust(self, now: Reading, *, certain: bool = True) -> None:
        """The clock is right as it is now: the kernel says so for long enough, or (not `certain`) somebody.

        Then the one that was trusted in this boot was wrong, and what it named is of another time.
        """
        before: tuple[tuple[datetime, datetime], ...] = ()
        if abs(self.anchor.step_to(now) or timedelta(0)) > TOLERANCE:
            booted = self.anchor.wall - timedelta(seconds=self.anchor.boot_s)
            before = ((booted, self.anchor.wall),)
        wrong = self.errors.wrong
        same = self.errors.offset is not None and abs(now.offset - self.errors.offset) < LEAST_STEP
        right = replace(self.errors, wrong=wrong[:-1] if same else wrong)
        self.errors = right.over(now, before, certain=certain)
        self.anchor, self.holds, self.trusted_from, self.first = Anchor.at(now), True, now.wall, False

    def confirmed(self, now: Reading) -> "Trust":
        """As it is once somebody has said that the clock is right, and the newest footage as far ahead."""
        lead = timedelta(0) if self.newest is None else self.newest - now.wall
        trust = Trust(self.anchor, lead=max(self.lead, lead), errors=self.errors)
        trust.newest = self.newest
        trust.trust(now, certain=False)
        return trust

    def _go_on(self, now: Reading) -> None:
        if not self.holds:  # back where it was: what was stamped meanwhile is wrong all the same
            self.holds, self.trusted_from, self.errors = True, now.wall, self.errors.over(now)
        if self.newest is not None and now.wall - self.newest <= LONGEST_OFF:
            self.first = False
        self.anchor = self.anchor.moved_to(now)

    def _before_s(self, now: Reading) -> float:
        """When, in this boot, the clock was looked at before."""
        if self._judged is not None:
            return self._judged.boot_s
        return self.anchor.boot_s if self.anchor.boot_id == now.boot_id else 0.0

    def _steady(self, now: Reading) -> bool:
        """Whether it has been synchronised, and without a step, for long enough."""
        same = self._steady_offset is not None and abs(now.offset - self._steady_offset) < LEAST_STEP
        if not same or now.synchronized is not True:
            self._steady_offset, self._steady_since_s = now.offset, now.boot_s
        return now.boot_s - self._steady_since_s >= STEADY.total_seconds()


def _told(span: timedelta) -> str:
    sign = "-" if span < timedelta(0) else ""
    whole = abs(span)
    if whole >= timedelta(days=2):
        return f"{sign}{whole / timedelta(days=1):.0f} days"
    return f"{sign}{whole.total_seconds():.0f} s"
