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

from cctv_storaged.errors import BackendError, ObjectRejected
from cctv_storaged.journal.vouchdays import HeldSegment, Place
from cctv_storaged.journal.vouched import Waiting, WaitingPage, Which
from cctv_storaged.losses import VMS_NO_LONGER_HOLDS, tell_loss
from cctv_storaged.model import SourceState
from cctv_storaged.vms.attendance import NAME
from cctv_storaged.vms.checking import NOT_HELD
from cctv_storaged.vms.covering import Recorded
from cctv_storaged.vms.ground import Ground, ProvingSettings
from cctv_storaged.vms.keeping import in_slices
from cctv_storaged.vms.paths import parse_milestone_path
from cctv_storaged.vms.proving import Proving
from cctv_storaged.vms.windows import Window, spanning, windows

log = logging.getLogger(__name__)

EVERY_S = 60.0
"""How often a round is due."""
GAP_QUESTIONS = 20
"""Questions about gaps in a round, at most."""
DAY_QUESTIONS = 4
"""The same about what is held: 50 cameras that keep 30 days are gone through in two days."""
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
        device = await self._device_of(camera_id)
        if device is None:
            await self._later(window.segments, None, now)
            return False
        recorded = await self._recorded(camera_id, device, window.segments)
        if recorded is None:
            return True
        tolerance = self._settings.tolerance
        held = [each for each in window.segments if recorded.covers(each.span, tolerance)]
        known = {each.id for each in held}
        if held:
            site = await self._proving.site_id()
            if site is not None:
                await self._proving.checking.verify(site, device, held)
                log.info(
                    "%d segments of camera %s that were missing are at %s now", len(held), camera_id, NAME
                )
        missing = [each for each in window.segments if each.id not in known]
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
            for device, segments in _by_device(page.segments).items():
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
        missing = await self._missing(camera_id, device, segments)
        if missing:
            told = "%d segments of camera %s are not shown by %s any more; asked again in %s"
            log.warning(told, len(missing), camera_id, NAME, CONFIRM_AFTER)
            self._suspicions.append(
                _Suspicion(camera_id=camera_id, device=device, segments=tuple(missing), at=asked_at)
            )

    async def _missing(
        self, camera_id: UUID, device: UUID, segments: Sequence[HeldSegment]
    ) -> list[HeldSegment] | None:
        """Those that a believable answer does not show; None: there is no such answer."""
        recorded = await self._recorded(camera_id, device, segments)
        if recorded is None:
            return None
        missing = [each for each in segments if not recorded.covers(each.span, self._settings.tolerance)]
        if missing and not await self._is_believable(camera_id, device):
            return None
        return missing

    async def _is_believable(self, camera_id: UUID, device: UUID) -> bool:
        """Whether the recorder is there, and its storage."""
        try:
            await self._ground.vms.reach(device)
            known = next((each for each in await self._ground.vms.cameras() if each.id == device), None)
            if known is None or known.storage_id is None:
                return known is not None
            return (await self._ground.vms.storage(known.storage_id)).available is not False
        except BackendError as exc:
            self._attendance.failed(exc, camera_id)
            return False

    async def _confirm(self) -> None:
        """Asks for the second time what long enough ago was not shown the first time."""
        now = self._clock.now()
        due = [each for each in self._suspicions if now - each.at >= CONFIRM_AFTER]
        for suspicion in due[:DAY_QUESTIONS]:
            if not self._attendance.open:
                return
            self._suspicions.remove(suspicion)
            missing = await self._missing(suspicion.camera_id, suspicion.device, suspicion.segments)
            if missing is None:
                continue  # the walk comes by again
            if missing:
                await self._gone(suspicion.camera_id, missing)

    async def _gone(self, camera_id: UUID, segments: Sequence[HeldSegment]) -> None:
        now, ids = self._clock.now(), [each.id for each in segments]
        due = now + min(next_look(now - each.span.end) for each in segments)
        marked = await in_slices(
            ids,
            lambda some: self._vouched.no_longer_held(NAME, some, NO_LONGER, VMS_NO_LONGER_HOLDS, due, now),
        )
        gone = sum(len(gaps) for gaps, _ in marked)
        lost = [each for _, some in marked for each in some]
        for segment in lost:
            tell_loss(self._ground.metrics, self._ground.hub, segment, segment.span, VMS_NO_LONGER_HOLDS, now)
        if gone:
            name, whole = await self._proving.telling.name_of(camera_id), spanning(s.span for s in segments)
            self._proving.telling.alert(
                f"{NAME} no longer holds {gone} segments of camera {name} within {whole}: {len(lost)} of them"
                " are lost, of the others a source or another copy is left"
            )

    # Asking

    async def _device_of(self, camera_id: UUID) -> UUID | None:
        try:
            return await self._ground.mapping.device_of(camera_id)
        except BackendError as exc:
            self._attendance.failed(exc, camera_id)
            return None

    async def _recorded(
        self, camera_id: UUID, device: UUID, segments: Sequence[Waiting] | Sequence[HeldSegment]
    ) -> Recorded | None:
        if not self._attendance.may_ask(camera_id):
            return None
        whole = spanning(each.span for each in segments)
        try:
            recorded = Recorded(await self._ground.vms.recorded(device, whole))
        except BackendError as exc:
            self._attendance.failed(exc, camera_id)
            return None
        self._attendance.works(camera_id)
        return recorded


def _by_device(segments: Sequence[HeldSegment]) -> dict[UUID, list[HeldSegment]]:
    """By the camera of XProtect's that was shown to hold them: the settings may name another one today."""
    found: dict[UUID, list[HeldSegment]] = defaultdict(list)
    for each in segments:
        with suppress(ObjectRejected):
            found[parse_milestone_path(each.path).camera].append(each)
    return found
