"""Whether a wall clock can be trusted, by what was noted of it and what it says now. Pure.

Within one boot it must have gone on as the boot clock did. Over a reboot nobody knows how long the host was
off: only what is impossible, or too long to be believed of an unsynchronised clock, is distrusted.
"""

from dataclasses import dataclass
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
STEADY = timedelta(minutes=10)
"""So long a clock has to be synchronised, without a step, to be trusted again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The clocks at one moment."""

    wall: datetime
    boot_s: float
    boot_id: str
    synchronized: bool | None = None  # None: nobody tells


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
    ) -> None:
        self.anchor = anchor
        self.first = first
        """Nothing was known of the clock when the host was first seen, and no recent footage since."""
        self.holds = holds
        self.trusted_from = trusted_from
        """Since when without a break; None: from the first start on."""
        self.lead = lead
        """So far ahead of now footage may begin, as somebody said."""
        self.newest: datetime | None = None
        """When the newest footage begins."""
        self._steady_since_s = 0.0
        self._steady_offset: timedelta | None = None

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
            return reason
        if reason is not None:
            self.trust(now)
        self._go_on(now)
        return None

    def trust(self, now: Reading) -> None:
        """The clock is right as it is now: the kernel says so for long enough, or somebody does."""
        self.anchor, self.holds, self.trusted_from, self.first = Anchor.at(now), True, now.wall, False

    def confirmed(self, now: Reading) -> "Trust":
        """As it is once somebody has said that the clock is right, and the newest footage as far ahead."""
        lead = timedelta(0) if self.newest is None else self.newest - now.wall
        trust = Trust(Anchor.at(now), trusted_from=now.wall, lead=max(self.lead, lead))
        trust.newest = self.newest
        return trust

    def _go_on(self, now: Reading) -> None:
        if not self.holds:  # back where it was: what was stamped meanwhile is wrong all the same
            self.holds, self.trusted_from = True, now.wall
        if self.newest is not None and now.wall - self.newest <= LONGEST_OFF:
            self.first = False
        self.anchor = self.anchor.moved_to(now)

    def _steady(self, now: Reading) -> bool:
        """Whether it has been synchronised, and without a step, for long enough."""
        offset = now.wall - EPOCH - timedelta(seconds=now.boot_s)
        same = self._steady_offset is not None and abs(offset - self._steady_offset) < LEAST_STEP
        if not same or now.synchronized is not True:
            self._steady_offset, self._steady_since_s = offset, now.boot_s
        return now.boot_s - self._steady_since_s >= STEADY.total_seconds()


def _told(span: timedelta) -> str:
    sign = "-" if span < timedelta(0) else ""
    whole = abs(span)
    if whole >= timedelta(days=2):
        return f"{sign}{whole.days} days"
    return f"{sign}{whole.total_seconds():.0f} s"
