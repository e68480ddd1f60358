"""Looking again: at gaps, for XProtect may have fetched them since; and at what it held, for it may be gone.

That XProtect holds footage no longer is believed only of two answers, one later than the other, both with
the camera's recorder reachable and its storage there: a site answers for recorders that are away, and a
database that is being repaired shows nothing. What is believed is `gap` where a source or another copy is
left. Where none is, the footage is lost and told so, though no error of ours deleted it.
"""

import logging
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from cctv_storaged.errors import BackendError, ObjectMissing, ObjectRejected
from cctv_storaged.journal.vouchdays import HeldSegment, Place
from cctv_storaged.journal.vouched import Held, Waiting, WaitingPage, Which
from cctv_storaged.losses import VMS_NO_LONGER_HOLDS
from cctv_storaged.model import SourceState, TimeSpan
from cctv_storaged.vms.attendance import NAME
from cctv_storaged.vms.checking import NOT_HELD, TIME_IN_DOUBT
from cctv_storaged.vms.covering import Recorded
from cctv_storaged.vms.ground import Ground, ProvingSettings
from cctv_storaged.vms.keeping import in_slices
from cctv_storaged.vms.paths import milestone_path, parse_milestone_path
from cctv_storaged.vms.presence import camera_of, prove_presence
from cctv_storaged.vms.proving import Proving
from cctv_storaged.vms.windows import Window, spanning, windows

log = logging.getLogger(__name__)

EVERY_S = 60.0
"""How often a round is due."""
GAP_QUESTIONS = 20
"""Questions about gaps in a round, at most."""
DAY_QUESTIONS = 4
"""The same about what is held: 50 cameras that keep 30 days are gone through in two days."""
EXPIRING = 0.95
"""Of XProtect's retention: footage so old goes by it, as archives and databases are not cut to the second."""
PAGES = 16
"""Pages read in a round where little of them is wanted."""
SOONEST, LATEST = timedelta(minutes=10), timedelta(days=1)
"""Between two looks at a gap: an eighth of its age, within these."""
CONFIRM_AFTER = timedelta(minutes=10)
"""Between the two answers that are believed together."""
MOST_SUSPICIONS = 32
"""Questions whose second answer is waited for; with so many, no more are asked for the first."""
NO_LONGER = "XProtect no longer holds it"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Suspicion:
    """Footage that an answer did not show."""

    camera_id: UUID
    device: UUID
    segments: tuple[HeldSegment, ...]
    at: datetime


def next_look(age: timedelta) -> timedelta:
    """How long until a gap is looked at again: slower with its age."""
    return max(SOONEST, min(LATEST, age / 8))


class Review:
    """A round now and then."""

    def __init__(self, proving: Proving, settings: ProvingSettings, ground: Ground) -> None:
        self._proving = proving
        self._attendance = proving.attendance
        self._settings = settings
        self._ground = ground
        self._vouched = ground.journal.vouched
        self._days = ground.journal.vouch_days
        self._clock = ground.clock
        self._gaps_after: tuple[int, int] | None = None
        self._failed_after = 0
        self._suspicions: list[_Suspicion] = []
        self._place: Place | None = None

    async def run_once(self) -> None:
        """One round. Raises JournalError."""
        if self._attendance.open:
            await self._look_at_gaps()
            await self._confirm()
            await self._look_at_days()
        await self._proving.telling.refresh_alarms()

    # Gaps

    async def _look_at_gaps(self) -> None:
        """The newest, and on through the others; and what was given up before its hash was known."""
        now = self._clock.now()
        newest = await self._vouched.page(NAME, Which.GAP, now, newest_first=True)
        older = WaitingPage(rows=(), after=None)
        if newest.after is not None:
            older = await self._vouched.page(NAME, Which.GAP, now, after=self._gaps_after)
            self._gaps_after = older.after
        failed = await self._vouched.failed(NAME, now, self._failed_after)
        self._failed_after = 0 if failed.after is None else failed.after[1]
        given_up = [each for each in failed.rows if each.hashed or each.source is not SourceState.PRESENT]
        due = [each for each in (*newest.rows, *older.rows, *given_up) if each.due]
        asked = 0
        for window in windows(due, self._settings.window_max):
            if asked >= GAP_QUESTIONS or not self._attendance.open:
                return
            asked += await self._look_at_gap(window)

    async def _look_at_gap(self, window: Window) -> bool:
        """Whether that took a question."""
        camera_id, now = window.camera_id, self._clock.now()
        undated = [each for each in window.segments if each.when_in_doubt]
        await self._later(undated, TIME_IN_DOUBT, now)
        dated = [each for each in window.segments if not each.when_in_doubt]
        device = await self._device_of(camera_id) if dated else None
        if device is None:
            await self._later(dated, None, now)
            return False
        site, recorded = await self._site(), await self._recorded(device, [each.span for each in dated])
        if recorded is None or site is None:
            return True
        covered = recorded.cover([each.span for each in dated], self._settings.tolerance)
        held = [each for each, is_covered in zip(dated, covered, strict=True) if is_covered]
        if held:
            await self._proving.checking.verify(site, device, held)
            log.info("%d segments of camera %s that were missing are at %s now", len(held), camera_id, NAME)
        missing = [each for each, is_covered in zip(dated, covered, strict=True) if not is_covered]
        await self._later(missing, NOT_HELD, now)
        return True

    async def _later(self, segments: Sequence[Waiting], why: str | None, now: datetime) -> None:
        if not segments:
            return
        wait = min(next_look(now - each.span.end) for each in segments)
        ids = [each.id for each in segments]
        await in_slices(ids, lambda some: self._vouched.looked(NAME, some, why, now + wait))

    # What is held

    async def _look_at_days(self) -> None:
        """Goes on with the walk through all cameras and days."""
        if self._place is None:
            self._place = await self._days.place(NAME)
        asked, before = 0, self._place
        for _ in range(PAGES):
            if asked >= DAY_QUESTIONS or len(self._suspicions) >= MOST_SUSPICIONS:
                break
            page = await self._days.held(NAME, self._place)
            self._proving.hash(page.unhashed)
            site = await self._site()
            for device, segments in _by_device(page.segments, site).items():
                asked += 1
                await self._look_at_day(page.camera_id, device, segments)
            if page.segments and not self._attendance.open:
                break  # XProtect cannot be asked: the same page next time
            self._place = page.place or Place()
            if page.place is None:
                break
        if self._place != before:
            await self._days.note(NAME, self._place)

    async def _look_at_day(
        self, camera_id: UUID | None, device: UUID, segments: Sequence[HeldSegment]
    ) -> None:
        assert camera_id is not None
        asked_at = self._clock.now()
        segments = await self._where_they_are_meant(camera_id, device, segments)
        missing = await self._missing(device, segments) if segments else None
        if missing:
            told = "%d segments of camera %s are not shown by %s any more; asked again in %s"
            log.warning(told, len(missing), camera_id, NAME, CONFIRM_AFTER)
            self._suspicions.append(
                _Suspicion(camera_id=camera_id, device=device, segments=tuple(missing), at=asked_at)
            )

    async def _where_they_are_meant(
        self, camera_id: UUID, device: UUID, segments: Sequence[HeldSegment]
    ) -> Sequence[HeldSegment]:
        """Those that are still to be asked for at this camera of XProtect's, as the settings name another.

        What that one holds is there from now on; what has a source is proven anew; the rest is left.
        """
        meant, site = await self._device_of(camera_id), await self._site()
        if meant is None or meant == device or site is None:
            return segments
        recorded = await self._recorded(meant, [each.span for each in segments])
        if recorded is None:
            return segments
        covered = recorded.cover([each.span for each in segments], self._settings.tolerance)
        held = {each.id for each, is_covered in zip(segments, covered, strict=True) if is_covered}
        there = [
            Held(id=each.id, path=milestone_path(site, meant, each.span))
            for each in segments
            if each.id in held
        ]
        now = self._clock.now()
        await in_slices(there, lambda some: self._vouched.moved(NAME, some, now))
        doubted = [each.id for each in segments if each.id not in held and each.with_source]
        why = f"it was proven by XProtect's camera {device}, and its own is {meant}"
        await in_slices(doubted, lambda some: self._doubt(some, why))
        if there or doubted:
            told = "%s: camera %s is XProtect's %s now: %d segments are there, %d are to be proven there"
            log.warning(told, NAME, camera_id, meant, len(there), len(doubted))
        return [each for each in segments if each.id not in held and not each.with_source]

    async def _doubt(self, ids: Sequence[UUID], why: str) -> None:
        for each in ids:
            await self._ground.journal.copies.doubt(each, NAME, why)

    async def _missing(self, device: UUID, segments: Sequence[HeldSegment]) -> list[HeldSegment] | None:
        """Those that a believable answer does not show; None: there is no such answer."""
        try:
            recorded = await self._recorded_there(device, [each.span for each in segments])
        except ObjectMissing:
            return list(segments) if await self._is_believable(device) else None
        if recorded is None:
            return None
        missing = [each for each in segments if not recorded.covers(each.span, self._settings.tolerance)]
        if missing and not await self._is_believable(device):
            return None
        return missing

    async def _is_believable(self, device: UUID) -> bool:
        """Whether recorder and storage are there; or the site tells of cameras, and not of this one."""
        vms = self._ground.vms
        try:
            if await camera_of(vms, device) is not None:
                await prove_presence(vms, device)
            return True
        except BackendError as exc:
            self._attendance.failed(exc, device)
            return False

    async def _confirm(self) -> None:
        """Asks for the second time what long enough ago was not shown the first time."""
        now = self._clock.now()
        due = [each for each in self._suspicions if now - each.at >= CONFIRM_AFTER]
        for suspicion in due[:DAY_QUESTIONS]:
            if not self._attendance.open:
                return
            self._suspicions.remove(suspicion)
            missing = await self._missing(suspicion.device, suspicion.segments)
            if missing is None:
                continue  # the walk comes by again
            if missing:
                await self._gone(suspicion.camera_id, suspicion.device, missing)

    async def _expired_before(self, device: UUID) -> datetime | None:
        """What is older went by XProtect's own retention, as it tells of it; None: it does not tell."""
        try:
            known = next((each for each in await self._ground.vms.cameras() if each.id == device), None)
            if known is None or known.storage_id is None:
                return None
            kept = (await self._ground.vms.storage(known.storage_id)).retention
        except BackendError:
            return None
        return None if kept is None else self._clock.now() - kept * EXPIRING

    async def _gone(self, camera_id: UUID, device: UUID, segments: Sequence[HeldSegment]) -> None:
        now, ids = self._clock.now(), [each.id for each in segments]
        due = now + min(next_look(now - each.span.end) for each in segments)
        expired_before = await self._expired_before(device)
        marked = await in_slices(
            ids,
            lambda some: self._vouched.no_longer_held(
                NAME,
                some,
                NO_LONGER,
                VMS_NO_LONGER_HOLDS,
                due,
                now,
                wanted=self._settings.wanted,
                expired_before=expired_before,
            ),
        )
        gone = sum(some.count for some in marked)
        lost = [each for some in marked for each in some.lost]
        self._proving.telling.lost(lost)
        if lost or any(some.gaps for some in marked):
            name, whole = await self._proving.telling.name_of(camera_id), spanning(s.span for s in segments)
            self._proving.telling.alert(
                f"{NAME} no longer holds {gone} segments of camera {name} within {whole}: {len(lost)} of them"
                " are lost, of the others a source or another copy is left"
            )

    # Asking. What fails here is noted for XProtect's camera: it holds up no proving of ours.

    async def _site(self) -> UUID | None:
        """Its id, while it is there and its clock is ours."""
        try:
            return (await self._proving.standing.site()).id
        except BackendError as exc:
            self._attendance.failed(exc)
            return None

    async def _device_of(self, camera_id: UUID) -> UUID | None:
        try:
            return await self._ground.mapping.device_of(camera_id)
        except BackendError as exc:
            self._attendance.failed(exc)
            return None

    async def _recorded(self, device: UUID, spans: Sequence[TimeSpan]) -> Recorded | None:
        """None: it cannot be asked."""
        try:
            return await self._recorded_there(device, spans)
        except ObjectMissing as exc:
            self._attendance.failed(exc, device)
            return None

    async def _recorded_there(self, device: UUID, spans: Sequence[TimeSpan]) -> Recorded | None:
        """The same. Raises ObjectMissing where the site says that it has no such camera."""
        if not self._attendance.may_ask(device):
            return None
        try:
            recorded = Recorded(await self._ground.vms.recorded(device, spanning(spans)))
        except ObjectMissing:
            raise
        except BackendError as exc:
            self._attendance.failed(exc, device)
            return None
        self._attendance.works(device)
        return recorded


def _by_device(segments: Sequence[HeldSegment], site: UUID | None) -> dict[UUID, list[HeldSegment]]:
    """By the camera of XProtect's that was shown to hold them: the settings may name another one today.

    What is at another site cannot be asked for: it is left.
    """
    found: dict[UUID, list[HeldSegment]] = defaultdict(list)
    for each in segments:
        with suppress(ObjectRejected):
            place = parse_milestone_path(each.path)
            if place.site == site:
                found[place.camera].append(each)
    return found
