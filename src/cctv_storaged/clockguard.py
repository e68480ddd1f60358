"""Whether ages mean anything now: nothing is deleted by age while the wall clock cannot be trusted.

The wall clock is held against the boot clock, which no step moves and which goes on while the host sleeps;
over restarts by what the journal noted last; and against the newest footage (clocktrust.py has the rules). It
is trusted again when it is back where it was, when the kernel has it synchronised and steady for a while, or
when somebody says that it is right.
"""

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from cctv_storaged.alarms import AlarmName, Alarms
from cctv_storaged.clock import Clock, rfc3339
from cctv_storaged.clocktrust import LEAST_STEP, Anchor, Errors, Misdated, Reading, Trust, doubt
from cctv_storaged.errors import JournalBroken, JournalFull
from cctv_storaged.hostclock import BootClock, FollowingBootClock
from cctv_storaged.journal.clocks import ClockBook, ClockNote, Step

log = logging.getLogger(__name__)

TICK_S = 5.0
"""How often the clocks are compared; whoever asks has them compared besides."""
NOTED_S = 60.0
"""How often it is noted, and the newest footage looked at."""
SUBJECT = "clock"
REMEDY = (
    "nothing is deleted, expired or released by its age. Set the clock right; it is trusted again once it is "
    "synchronised, or by: cctv-storaged clock confirm"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockState:
    """What is known of the clock, for people."""

    now: datetime
    distrust: str | None
    synchronized: bool | None
    trusted_from: datetime | None  # None: since the first start, or not at all


class ClockGuard:
    """On the event loop only. Without a book nothing is known of earlier processes, nor of footage."""

    def __init__(
        self, clock: Clock, alarms: Alarms, boot: BootClock | None = None, book: ClockBook | None = None
    ) -> None:
        self._clock = clock
        self._alarms = alarms
        self._boot = boot or FollowingBootClock(clock)
        self._book = book
        self._synchronized = self._boot.synchronized()
        reading = self._reading()
        self._trust = Trust(Anchor.at(reading), first=True)
        self._offset_s = _offset_s(reading)
        self._steps: list[Step] = []
        self._noted_at_s = float("-inf")

    # Asked by whoever acts by age

    def distrust(self) -> str | None:
        """Why nothing may be deleted, expired or released by its age now; None: all is well."""
        reading = self._reading()
        self._watch_steps(reading)
        reason = self._trust.judge(reading)
        if reason is None:
            self._alarms.end(AlarmName.CLOCK, SUBJECT)
        else:
            self._alarms.sound(AlarmName.CLOCK, SUBJECT, f"{reason}: {REMEDY}")
        return reason

    def distrust_over(self, span: timedelta) -> str | None:
        """The same, and why what was stamped within the last `span` may be of another age than it seems:
        the clock that stamped it may have been wrong.
        """
        reason, since = self.distrust(), self._trust.trusted_from
        if reason is None and since is not None and self._clock.now() - since < span:
            return f"the clock is right only since {rfc3339(since)}"
        return reason

    def spares(self, end: datetime, limit: timedelta) -> bool:
        """Whether footage that ends then, by its name, may be younger than the limit in truth: it was named
        while the clock was wrong, and the clock has not been right for so long.
        """
        return self._trust.spares(end, limit, self._clock.now())

    def right_from(self, moment: datetime) -> datetime | None:
        """When a clock came to be right that was behind as it stamped that; None: not so, for all we know."""
        return self._trust.right_from(moment)

    def state(self) -> ClockState:
        """For people."""
        reason = self.distrust()
        return ClockState(
            now=self._clock.now(),
            distrust=reason,
            synchronized=self._synchronized,
            trusted_from=None if reason else self._trust.trusted_from,
        )

    # Looking after it

    async def open(self) -> None:
        """Takes up what the last process noted; before anybody asks."""
        assert self._book is not None
        note = await self._book.last()
        if note is not None:
            self._take_up(note)
        self._trust.newest = await self._book.newest_footage()
        self.distrust()
        await self._write()

    async def run(self) -> None:
        """Compares and notes until cancelled."""
        while True:
            await self.tick()
            await asyncio.sleep(TICK_S)

    async def tick(self) -> None:
        """One round."""
        self._synchronized = self._boot.synchronized()
        due = self._boot.boot_s() - self._noted_at_s >= NOTED_S
        if due and self._book is not None:
            self._trust.newest = await self._book.newest_footage()
        self.distrust()
        if due or self._steps:
            await self._write()

    async def confirm(self) -> ClockState:
        """Somebody says that the clock is right: a line in the ledger. Raises JournalFull."""
        assert self._book is not None
        self._trust.newest = await self._book.newest_footage()
        reason, reading = self.distrust(), self._reading()
        confirmed = self._trust.confirmed(reading)
        detail = f"{rfc3339(reading.wall)}: {reason or 'it was trusted'}"
        steps = tuple(self._steps)
        await self._book.confirm(self._note(confirmed, reading), steps, detail, reading.wall)
        del self._steps[: len(steps)]
        self._trust = confirmed
        log.warning("the clock was confirmed at %s", rfc3339(reading.wall))
        return self.state()

    async def close(self) -> None:
        """Notes how it is at the end, where the journal still takes it."""
        self.distrust()
        with suppress(JournalBroken):  # whoever waits for that ends the process, and says why
            await self._write()

    def _take_up(self, note: ClockNote) -> None:
        reading = self._reading()
        anchor = Anchor(wall=note.wall, boot_s=note.boot_s, boot_id=note.boot_id)
        here = note.offset_boot_id == reading.boot_id
        errors = Errors(
            misdated=tuple(Misdated(*span) for span in note.misdated),
            behind=tuple(Misdated(*span) for span in note.behind),
            wrong=note.wrong,
            offset=timedelta(seconds=note.offset_s) if here else None,
        )
        self._trust = Trust(
            anchor,
            first=note.first,
            holds=note.holds,
            trusted_from=note.trusted_from,
            lead=note.lead,
            errors=errors,
        )
        if here:
            self._offset_s = note.offset_s  # what happened in between is seen as any other step
        elif doubt(anchor, reading) is not None:
            self._steps.append(Step(at=reading.wall, by=reading.wall - anchor.wall))

    def _watch_steps(self, reading: Reading) -> None:
        by = timedelta(seconds=_offset_s(reading) - self._offset_s)
        if abs(by) >= LEAST_STEP:
            self._offset_s = _offset_s(reading)
            self._steps.append(Step(at=reading.wall, by=by))
            log.warning("the wall clock was set by %+.0f s to %s", by.total_seconds(), rfc3339(reading.wall))

    async def _write(self) -> None:
        if self._book is None:
            return
        reading, steps = self._reading(), tuple(self._steps)
        try:
            await self._book.note(self._note(self._trust, reading), steps)
        except JournalFull:
            return  # the journal has said it; the next round tries again
        del self._steps[: len(steps)]
        self._noted_at_s = reading.boot_s

    def _note(self, trust: Trust, reading: Reading) -> ClockNote:
        return ClockNote(
            wall=trust.anchor.wall,
            boot_s=trust.anchor.boot_s,
            boot_id=trust.anchor.boot_id,
            first=trust.first,
            holds=trust.holds,
            trusted_from=trust.trusted_from,
            lead=trust.lead,
            offset_s=self._offset_s,
            offset_boot_id=reading.boot_id,
            misdated=tuple((each.start, each.end, each.right_from) for each in trust.errors.misdated),
            behind=tuple((each.start, each.end, each.right_from) for each in trust.errors.behind),
            wrong=trust.errors.wrong,
        )

    def _reading(self) -> Reading:
        return Reading(
            wall=self._clock.now(),
            boot_s=self._boot.boot_s(),
            boot_id=self._boot.boot_id,
            synchronized=self._synchronized,
        )


def _offset_s(reading: Reading) -> float:
    return reading.wall.timestamp() - reading.boot_s
