"""Asking XProtect about one window, and what follows for each of its segments."""

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from cctv_storaged.errors import BackendError, JournalError
from cctv_storaged.journal.vouched import Held, Waiting
from cctv_storaged.losses import VMS_NO_LONGER_HOLDS
from cctv_storaged.model import TimeSpan
from cctv_storaged.vms.attendance import NAME, Attendance
from cctv_storaged.vms.covering import Recorded
from cctv_storaged.vms.ground import Ground, ProvingSettings
from cctv_storaged.vms.keeping import in_slices
from cctv_storaged.vms.paths import milestone_path
from cctv_storaged.vms.store import MilestoneStore
from cctv_storaged.vms.telling import Telling
from cctv_storaged.vms.verdict import Answer, Verdict, look_again_in, verdict
from cctv_storaged.vms.windows import Window, spanning

log = logging.getLogger(__name__)

NOT_HELD = "XProtect does not hold it"
WAITS = "XProtect does not hold it yet"
FETCHED = "XProtect does not hold it yet; a retrieval is under way"
TO_FETCH = "XProtect does not hold it; it waits for a retrieval"
TIME_IN_DOUBT = "when it was recorded is in doubt: what XProtect shows of the time in its name proves nothing"
UNREACHED = "XProtect answered that it does not hold it, but its recorder cannot be reached: not believed yet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What came of a question."""

    device: UUID
    verified: int
    gaps: int
    to_retrieve: tuple[Waiting, ...]  # what is to be fetched, by start


class Checking:
    """Asks, decides and writes down. Raises JournalBroken only."""

    def __init__(
        self,
        ground: Ground,
        settings: ProvingSettings,
        store: MilestoneStore,
        attendance: Attendance,
        telling: Telling,
    ) -> None:
        self._ground = ground
        self._vouched = ground.journal.vouched
        self._clock = ground.clock
        self._settings = settings
        self._store = store
        self._attendance = attendance
        self._telling = telling
        self.is_under_way: Callable[[UUID, TimeSpan], bool] = lambda camera_id, span: False
        """Whether a retrieval over a camera's span is."""

    async def look(self, window: Window) -> Looked | None:
        """Asks about a window. None: XProtect could not be asked, or has no such camera."""
        try:
            return await self._look(window)
        except BackendError as exc:
            self._attendance.failed(exc, window.camera_id)
        except JournalError:
            raise
        except Exception as exc:  # the item boundary: an answer nobody thought of is this camera's
            log.exception("asking about %s", window.span, extra={"camera_id": str(window.camera_id)})
            error = BackendError(f"{type(exc).__name__}: {exc}")
            self._attendance.failed(error, window.camera_id)
        return None

    async def _look(self, window: Window) -> Looked | None:
        device = await self._ground.mapping.device_of(window.camera_id)
        if device is None:
            return None
        site = await self._site()
        if site is None:
            return None
        asked_at = self._clock.now()
        dated = [each for each in window.segments if not each.when_in_doubt]
        undated = [each for each in window.segments if each.when_in_doubt]
        covered = await self._covered(window.camera_id, device, dated)
        by_verdict: dict[Verdict, list[Waiting]] = defaultdict(list)
        trusted = self._clock_trusted()
        for each, is_covered in zip(dated, covered, strict=True):
            answer = self._answer(each, asked_at, covered=is_covered, trusted=trusted)
            by_verdict[verdict(self._settings.rules, answer)].append(each)
        verified = await self.verify(site, device, by_verdict[Verdict.VERIFIED])
        late = f"{NOT_HELD}, {self._settings.rules.deadline} after it was recorded"
        gaps = await self._call_gaps(device, by_verdict[Verdict.GAP], late)
        gaps += await self._leave_undated(device, undated, asked_at)
        await self._put_off(by_verdict[Verdict.WAIT], WAITS, asked_at)
        await self._put_off(by_verdict[Verdict.UNDER_WAY], FETCHED, asked_at)
        to_retrieve = by_verdict[Verdict.RETRIEVE]
        await self._put_off(to_retrieve, TO_FETCH, asked_at)
        return Looked(device=device, verified=verified, gaps=gaps, to_retrieve=tuple(to_retrieve))

    async def _site(self) -> UUID | None:
        """Its id, while it is there and its clock is ours."""
        try:
            return (await self._store.standing.site()).id
        except BackendError as exc:
            self._attendance.failed(exc)
            return None

    async def _covered(self, camera_id: UUID, device: UUID, segments: Sequence[Waiting]) -> list[bool]:
        """One question for all of them. Raises BackendError."""
        if not segments:
            return []
        spans = [each.span for each in segments]
        recorded = Recorded(await self._ground.vms.recorded(device, spanning(spans)))
        self._attendance.works(camera_id)
        return recorded.cover(spans, self._settings.tolerance)

    async def _leave_undated(self, device: UUID, segments: Sequence[Waiting], asked_at: datetime) -> int:
        """They are told like what XProtect lacks, and keep their sources: nobody can prove them."""
        by_verdict: dict[Verdict, list[Waiting]] = defaultdict(list)
        trusted = self._clock_trusted()
        for each in segments:
            answer = self._answer(each, asked_at, covered=False, trusted=trusted)
            by_verdict[verdict(self._settings.rules, answer)].append(each)
        await self._put_off(by_verdict[Verdict.WAIT], TIME_IN_DOUBT, asked_at)
        await self._put_off(by_verdict[Verdict.UNDER_WAY], TIME_IN_DOUBT, asked_at)
        return await self._call_gaps(device, by_verdict[Verdict.GAP], TIME_IN_DOUBT)

    def _clock_trusted(self) -> bool:
        """Asked once for a window: it reads the host's clocks."""
        return self._ground.doubt(self._settings.rules.deadline) is None

    def _answer(self, each: Waiting, asked_at: datetime, *, covered: bool, trusted: bool = True) -> Answer:
        under_way = self.is_under_way(each.camera_id, each.span)
        return Answer(
            end=each.span.end,
            asked_at=asked_at,
            covered=covered,
            under_way=under_way,
            tried=each.attempts,
            when_in_doubt=each.when_in_doubt,
            clock_trusted=trusted,
        )

    async def verify(self, site: UUID, device: UUID, segments: Sequence[Waiting]) -> int:
        """They are held: written down in one commit, and told."""
        held = [Held(id=each.id, path=milestone_path(site, device, each.span)) for each in segments]
        now = self._clock.now()
        proven = await in_slices(held, lambda some: self._vouched.verified(NAME, some, now))
        ids = [each for some in proven for each in some]
        await self._telling.verified(ids)
        return len(ids)

    async def _call_gaps(self, device: UUID, segments: Sequence[Waiting], why: str) -> int:
        """Only while the recorder can be reached: a site may answer for one that is away."""
        if not segments:
            return 0
        camera_id = segments[0].camera_id
        try:
            await self._ground.vms.reach(device)
        except BackendError as exc:
            self._attendance.failed(exc, camera_id)
            await self._put_off(segments, UNREACHED, self._clock.now())
            return 0
        now = self._clock.now()
        ids = [each.id for each in segments]
        wanted = self._settings.wanted
        made = await in_slices(
            ids,
            lambda some: self._vouched.gap(NAME, some, why, VMS_NO_LONGER_HOLDS, now, wanted=wanted),
        )
        self._telling.lost([each for some in made for each in some.lost])
        known = {each for some in made for each in some.gaps}
        if known:
            spans = [(each.id, each.span) for each in segments if each.id in known]
            await self._telling.gaps(camera_id, device, spans, why)
        return sum(some.count for some in made)

    async def _put_off(self, segments: Sequence[Waiting], why: str, asked_at: datetime) -> None:
        if not segments:
            return
        rules = self._settings.rules
        waits = [look_again_in(rules, self._answer(each, asked_at, covered=False)) for each in segments]
        ids, due = [each.id for each in segments], self._clock.now() + min(waits)  # neighbours stay together
        await in_slices(ids, lambda some: self._vouched.put_off(NAME, some, why, due))
