"""Holds as bookmarks and evidence locks in XProtect: placed, extended while a hold goes on, removed with it.

A mark is in the journal before XProtect is asked for it, with an id that is its reference there. Where an
answer was lost (kill -9, a broken line) it is looked for by that reference; where a site cannot be asked for
it, it is placed once more, and the ledger says with its removal that another of the same reference may be
left: no lock is ever one that nobody knows of. What edition or version do not offer is asked for again after
each start, daily, and with each new hold.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal
from uuid import UUID

from cctv_storaged.alarms import AlarmName, Alarms
from cctv_storaged.backends.milestone.base import Mark, MarkFinding, Vms
from cctv_storaged.breaker import retry_delay
from cctv_storaged.clock import Clock, rfc3339
from cctv_storaged.errors import BackendError, BackendUnavailable, JournalFull, Unsupported
from cctv_storaged.journal.holdmarks import HoldMarks
from cctv_storaged.journal.holds import Hold, Holds
from cctv_storaged.journal.vmsmarks import MarkKind, MarkState, VmsMark, VmsMarks
from cctv_storaged.model import BackendKind
from cctv_storaged.vms.mapping import CameraMapping

log = logging.getLogger(__name__)

ROUND_S = 30.0
FULL_S = 5.0
BATCH = 50
HOLDS_AT_ONCE = 10
CAMERAS_AT_ONCE = 40
"""Cameras of a hold in one commit: a few milliseconds."""
PLAN_S = 600.0
"""How often the holds in force are looked through for a part without a mark; a new one is at once."""
REFUSED_CAP = timedelta(hours=1)
STUBBORN = 3
"""Tries that met no answer, though the site gives some, after which somebody should know."""
REFUSERS = 2
"""Cameras that must have refused before it is believed that nothing of the kind is offered."""
ASK_AGAIN_S = 86_400.0
"""How often what is not offered is asked for again: licences are bought, rights given."""
HEADER = 200
"""Characters of a mark's title."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkRules:
    """What is left in XProtect on held footage."""

    bookmark: bool
    evidence_lock: Literal["auto", "always", "never"]

    @property
    def kinds(self) -> tuple[MarkKind, ...]:
        """In the order in which they are placed: what protects comes first."""
        lock = (MarkKind.EVIDENCE_LOCK,) if self.evidence_lock != "never" else ()
        return (*lock, *((MarkKind.BOOKMARK,) if self.bookmark else ()))

    def alarming(self, kind: MarkKind) -> bool:
        """Whether it is an alarm that XProtect does not offer it."""
        return kind is MarkKind.BOOKMARK or self.evidence_lock == "always"


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldMarkingParts:
    """What marking works with."""

    vms: Vms
    mapping: CameraMapping
    marks: VmsMarks
    holds: Holds
    copies: HoldMarks
    rules: MarkRules
    host_id: str
    clock: Clock
    alarms: Alarms


class HoldMarking:
    """Brings XProtect's marks in line with the holds, a round at a time; one at a time."""

    def __init__(self, parts: HoldMarkingParts) -> None:
        self._parts = parts
        self._wake = asyncio.Event()
        self._plan_at = 0.0  # monotonic
        self._to_settle = True  # holds may have been released since the marks were last compared with them
        self.holds_unknown: Callable[[], str | None] = lambda: None
        """Why there may be holds that the journal does not know: marks of one that it forgot stay."""
        self._may_be_forgotten = False  # when they were compared
        self._offered: dict[MarkKind, str | None] = dict.fromkeys(MarkKind)  # why not, where it is not
        self._reopen: tuple[MarkKind, ...] = parts.rules.kinds  # an earlier process found them unsupported
        self._refusers: dict[MarkKind, set[UUID]] = {kind: set() for kind in MarkKind}
        self._known_offered: frozenset[MarkKind] = frozenset()  # XProtect has accepted one since the start
        self._asked_at = parts.clock.monotonic()
        self._tries: dict[UUID, int] = {}
        self._refused: dict[UUID, UUID] = {}  # mark → hold
        self._failures = 0
        self.trouble: str | None = None
        """Why nothing can be placed or removed now; None while it can."""

    def wake(self) -> None:
        """A hold was made, changed or released."""
        self._ask_anew()
        self._plan_at, self._to_settle = 0.0, True
        self._wake.set()

    def _ask_anew(self) -> None:
        """What was not offered may be by now."""
        self._asked_at = self._parts.clock.monotonic()
        missing = tuple(kind for kind, why in self._offered.items() if why is not None)
        for kind in missing:
            self._offered[kind] = None
            self._refusers[kind].clear()
        if missing:
            self._reopen, self._to_settle = tuple(dict.fromkeys((*self._reopen, *missing))), True

    def reason(self, hold: Hold) -> str | None:
        """Why a hold may have fewer marks than it should; None: there is no reason."""
        if self.trouble is not None:
            return self.trouble
        if not self._parts.mapping.asked:
            return "XProtect was not asked for its cameras yet"
        without = [each for each in hold.camera_ids if self._parts.mapping.why_not(each) is not None]
        told = [f"{len(without)} of its cameras have no counterpart in XProtect"] if without else []
        told += (
            ["XProtect refuses some of its marks (alarm vms_mark)"]
            if hold.id in self._refused.values()
            else []
        )
        told += [why for kind in self._parts.rules.kinds if (why := self._offered[kind]) is not None]
        return "; ".join(told) or None

    async def run(self) -> None:
        """Rounds until cancelled."""
        while True:
            self._wake.clear()
            pause_s = ROUND_S
            try:
                await self.run_once()
            except JournalFull:  # it has said so itself
                pause_s = FULL_S
            except BackendError:
                pause_s = max(pause_s, retry_delay(self._failures).total_seconds())
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()

    async def run_once(self) -> None:
        """One round: what holds say into the journal, then what the journal says into XProtect.

        Raises BackendError where XProtect is away; the next round goes on.
        """
        if self._parts.clock.monotonic() - self._asked_at >= ASK_AGAIN_S:
            self._ask_anew()
        try:
            await self._settle()
            await self._plan()
            await self._carry_out()
            await self._end_alarms()
        except BackendError as exc:
            self._failures += 1
            self.trouble = str(exc)
            raise
        self._failures, self.trouble = 0, None

    # What holds say

    async def _settle(self) -> None:
        """Releases, and a second chance for what an earlier process found unsupported."""
        marks, copies = self._parts.marks, self._parts.copies
        while tasks := await copies.to_unlock(BackendKind.MILESTONE, 0, BATCH):
            await copies.unlocked(BackendKind.MILESTONE, [task.segment_no for task in tasks])
        all_known = self.holds_unknown() is None
        if not self._to_settle and not (all_known and self._may_be_forgotten):
            return
        self._to_settle = False  # a hold released from here on sets it back
        self._may_be_forgotten = not all_known
        try:
            after: UUID | None = None
            now = self._parts.clock.now()
            while (after := await marks.settle(after, self._reopen, now, all_known=all_known)) is not None:
                pass
        except BaseException:
            self._to_settle = True
            raise
        self._reopen = ()

    async def _plan(self) -> None:
        now_s = self._parts.clock.monotonic()
        if now_s < self._plan_at:
            return
        self._plan_at = now_s + PLAN_S  # a hold made from here on sets it back
        try:
            await self._plan_all()
        except BaseException:
            self._plan_at = 0.0
            raise

    async def _plan_all(self) -> None:
        next_no: int | None = None
        while True:
            page = await self._parts.holds.page(HOLDS_AT_ONCE, next_no, None, in_force=True)
            for hold in page.holds:
                await self._plan_hold(hold)
            next_no = page.next
            if next_no is None:
                return

    async def _plan_hold(self, hold: Hold) -> None:
        mapping, marks, clock = self._parts.mapping, self._parts.marks, self._parts.clock
        devices = [(each, await mapping.device_of(each)) for each in hold.camera_ids]
        mapped = [(each, device) for each, device in devices if device is not None]
        kinds = tuple(kind for kind in self._parts.rules.kinds if self._offered[kind] is None)
        for first in range(0, len(mapped), CAMERAS_AT_ONCE):
            some = dict(mapped[first : first + CAMERAS_AT_ONCE])
            await marks.plan(hold.no, some, kinds, clock.now())

    # What the journal says

    async def _carry_out(self) -> None:
        """Raises BackendUnavailable where the next would meet the same."""
        tried: set[UUID] = set()
        while True:
            due = await self._parts.marks.due(self._parts.clock.now(), BATCH)
            news = [mark for mark in due if mark.id not in tried]
            if not news:
                return
            if not tried:
                await self._parts.vms.site()  # nothing is noted as asked for while it is away
            for mark in news:
                tried.add(mark.id)
                await self._carry_out_one(mark)

    async def _carry_out_one(self, mark: VmsMark) -> None:
        step = self._remove if mark.state is MarkState.REMOVING else self._place
        try:
            await step(mark)
        except BackendUnavailable as exc:
            await self._parts.vms.site()  # raises where it is not this camera alone
            await self._put_off(mark, exc, alarming_from=STUBBORN)
        except Unsupported as exc:
            await self._not_offered(mark, exc)
        except BackendError as exc:
            await self._put_off(mark, exc)
        else:
            self._tries.pop(mark.id, None)
            self._accepted(mark)

    async def _place(self, mark: VmsMark) -> None:
        why = self._offered[mark.kind]
        if why is not None:
            await self._parts.marks.unsupported(mark, why, self._parts.clock.now())
            return
        device = await self._parts.mapping.device_of(mark.camera_id)
        if device is None:
            reason = self._parts.mapping.why_not(mark.camera_id) or "the camera has no counterpart"
            due = self._parts.clock.now() + REFUSED_CAP
            await self._parts.marks.postpone(mark.id, reason, due)
            return
        if mark.device not in (None, device):  # the mapping was corrected: the next plan has those there
            await self._parts.marks.elsewhere(mark.id, self._parts.clock.now())
            return
        wanted = mark_of(mark, device, self._parts.host_id)
        remote_id = await self._found(mark, wanted)
        if remote_id is None:
            if not await self._parts.marks.asking(mark.id):
                return  # its hold was released this moment
            remote_id = await self._made(mark, wanted)
        await self._noted(mark, remote_id)
        self._known_offered |= {mark.kind}
        log.info("%s placed in XProtect for hold %s: %s", _word(mark.kind), mark.hold_id, remote_id)

    async def _made(self, mark: VmsMark, wanted: Mark) -> UUID:
        make = self._parts.vms.lock if mark.kind is MarkKind.EVIDENCE_LOCK else self._parts.vms.bookmark
        try:
            remote_id = await make(wanted)
        except BackendUnavailable:
            raise  # it may have been made all the same
        except BackendError:
            await self._parts.marks.not_made(mark.id)
            raise
        self._told_if_asked_before(mark)
        return remote_id

    async def _noted(self, mark: VmsMark, remote_id: UUID) -> None:
        """However long the journal's disk is full: what XProtect has must be known."""
        while True:
            with suppress(JournalFull):  # it has said so itself
                await self._parts.marks.placed(mark, remote_id, self._parts.clock.now())
                return
            await asyncio.sleep(FULL_S)

    async def _found(self, mark: VmsMark, wanted: Mark) -> UUID | None:
        """One that is there already, whose answer was lost."""
        if not mark.asked:
            return None
        return next(iter(await self._all_found(mark, wanted)), None)

    async def _all_found(self, mark: VmsMark, wanted: Mark) -> Sequence[UUID]:
        vms = self._parts.vms
        if not isinstance(vms, MarkFinding):
            return ()
        find = vms.locks_of if mark.kind is MarkKind.EVIDENCE_LOCK else vms.bookmarks_of
        try:
            return await find(wanted)
        except Unsupported:
            return ()

    def _told_if_asked_before(self, mark: VmsMark) -> None:
        if mark.asked:
            log.warning(
                "a second %s of hold %s is in XProtect, or the first was never made: look there for the "
                "reference %s",
                _word(mark.kind),
                mark.hold_id,
                mark.id,
            )

    async def _remove(self, mark: VmsMark) -> None:
        remote_ids = [] if mark.remote_id is None else [mark.remote_id]
        detail = "removed, as its hold has ended"
        if _in_doubt(mark):
            remote_ids += await self._others(mark)
            detail += f"; it was asked for {mark.asked} times: one of reference {mark.id} may be left there"
            log.warning("hold %s has ended: %s (%s)", mark.hold_id, detail, _word(mark.kind))
        vms = self._parts.vms
        take_off = vms.unlock if mark.kind is MarkKind.EVIDENCE_LOCK else vms.remove_bookmark
        for remote_id in dict.fromkeys(remote_ids):
            await take_off(remote_id)
        await self._parts.marks.removed(mark, detail, self._parts.clock.now())

    async def _others(self, mark: VmsMark) -> Sequence[UUID]:
        device = mark.device or await self._parts.mapping.device_of(mark.camera_id)
        if device is None:
            return ()
        return await self._all_found(mark, mark_of(mark, device, self._parts.host_id))

    # What comes of it

    async def _not_offered(self, mark: VmsMark, error: Unsupported) -> None:
        if mark.state is MarkState.REMOVING or mark.kind in self._known_offered:
            await self._put_off(mark, error)  # others were accepted: it is this camera, or a right
            return
        refusers = self._refusers[mark.kind]
        refusers.add(mark.camera_id)
        if len(refusers) < min(REFUSERS, len(self._parts.mapping.cameras)):
            due = self._parts.clock.now() + REFUSED_CAP
            await self._parts.marks.postpone(mark.id, str(error), due)
            return
        why = f"XProtect offers no {_word(mark.kind)}s: {error}"
        if self._offered[mark.kind] is None:
            self._offered[mark.kind] = why
            log.warning("holds have no %s in XProtect: %s", _word(mark.kind), error)
            if self._parts.rules.alarming(mark.kind):
                hint = "milestone.marks says what is asked for; the journal keeps the holds all the same"
                self._parts.alarms.sound(AlarmName.VMS_MARK, mark.kind, f"{why} ({hint})")
        await self._parts.marks.unsupported(mark, why, self._parts.clock.now())

    async def _put_off(self, mark: VmsMark, error: BackendError, *, alarming_from: int = 1) -> None:
        """XProtect refuses this one; the others may still go. An alarm from so many tries on."""
        tries = self._tries[mark.id] = self._tries.get(mark.id, 0) + 1
        doing = "removed" if mark.state is MarkState.REMOVING else "placed"
        told = f"the {_word(mark.kind)} of {mark.span} cannot be {doing} in XProtect, tried again: {error}"
        log.warning("hold %s: %s", mark.hold_id, told)
        if tries >= alarming_from:
            self._refused[mark.id] = mark.hold_id
            self._parts.alarms.sound(AlarmName.VMS_MARK, str(mark.hold_id), told)
        delay = min(REFUSED_CAP, retry_delay(tries) * max(1, tries))
        await self._parts.marks.postpone(mark.id, str(error), self._parts.clock.now() + delay)

    async def _end_alarms(self) -> None:
        """Of holds that were released before what XProtect refused was ever placed."""
        for hold_id in set(self._refused.values()):
            if not (await self._parts.marks.counts(hold_id)).waiting:
                self._refused = {mark: hold for mark, hold in self._refused.items() if hold != hold_id}
                self._parts.alarms.end(AlarmName.VMS_MARK, str(hold_id))

    def _accepted(self, mark: VmsMark) -> None:
        hold_id = self._refused.pop(mark.id, None)
        if hold_id is not None and hold_id not in self._refused.values():
            self._parts.alarms.end(AlarmName.VMS_MARK, str(hold_id))


def mark_of(mark: VmsMark, device: UUID, host_id: str) -> Mark:
    """What XProtect's users read."""
    title = mark.case_id or mark.reason
    by = f", by {mark.created_by}" if mark.created_by else ""
    return Mark(
        camera_id=device,
        span=mark.span,
        header=f"Hold: {title}"[:HEADER],
        description=(
            f"{mark.reason} (hold {mark.hold_id} of cctv-storaged on {host_id}{by}; "
            f"{rfc3339(mark.span.start)} to {rfc3339(mark.span.end)})"
        ),
        reference=str(mark.id),
    )


def _in_doubt(mark: VmsMark) -> bool:
    """Whether XProtect may have one that the journal has no id of."""
    return mark.asked > (0 if mark.remote_id is None else 1)


def _word(kind: MarkKind) -> str:
    return "evidence lock" if kind is MarkKind.EVIDENCE_LOCK else "bookmark"
