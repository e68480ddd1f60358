"""Proving that XProtect holds this host's footage: `Bringing` for a backend that takes no bytes.

Rounds: copies that are due, read from the journal a bounded number at a time (urgent ones, the newest, and
the backlog from its old end on) → those without a SHA-256 are hashed → neighbours of a camera become windows
→ a question each, urgent ones first and cameras taking turns → verified, gap, put off, or to be fetched.

While XProtect is away nothing is asked or counted: every copy stays as it is, however many come. A camera
without a counterpart there makes only its own segments wait.
"""

import asyncio
import contextlib
import logging
import math
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from uuid import UUID

from cctv_storaged.backends.base import Backend
from cctv_storaged.config import TimeWindow
from cctv_storaged.errors import BackendError, JournalError
from cctv_storaged.journal.retrievals import Retrieval
from cctv_storaged.journal.vouched import Waiting
from cctv_storaged.model import Segment, SourceState
from cctv_storaged.objectlocks import ObjectLocks
from cctv_storaged.vms.attendance import NAME, Attendance
from cctv_storaged.vms.checking import Checking
from cctv_storaged.vms.ground import Ground, ProvingSettings
from cctv_storaged.vms.hashing import Hashing
from cctv_storaged.vms.intake import Intake
from cctv_storaged.vms.keeping import in_slices
from cctv_storaged.vms.retrieving import Retrieving
from cctv_storaged.vms.standing import Standing
from cctv_storaged.vms.store import MilestoneStore
from cctv_storaged.vms.telling import Telling
from cctv_storaged.vms.windows import Window, in_turn, ripe, ripens_in, spanning, windows

log = logging.getLogger(__name__)

IDLE_S, SHORTEST_IDLE_S = 5.0, 0.5
"""How often the journal is asked for what nobody announced; more often where the settle time is shorter."""
ASKING = 4
"""Questions at once."""
ROUND_S = 20.0
"""After so long no more questions of a round are begun: what became due or urgent meanwhile is looked for."""
HASHING = 2
FRESH = 256
"""Segments to be hashed that are remembered; the others are found in the journal."""
HASH_PATIENCE = timedelta(seconds=20)
"""So long is waited for another backend, which reads the file anyway, to tell the hash."""
UNMAPPED_S = 60.0
"""How often it is looked whether a camera has a counterpart by now."""


class Proving:
    """The copies at MILESTONE, on their way from pending to verified."""

    def __init__(self, store: MilestoneStore, settings: ProvingSettings, ground: Ground) -> None:
        self._store = store
        self._settings = settings
        self._ground = ground
        self._clock = ground.clock
        self._telling = Telling(ground, settings.mode)
        self.attendance = Attendance(ground.clock, ground.metrics, ground.hub, ground.star, settings.backoff)
        self.checking = Checking(ground, settings, store, self.attendance, self._telling)
        self.retrieving = Retrieving(ground, settings, self.attendance, self._telling, self)
        self.checking.is_under_way = self.retrieving.is_under_way
        self._hashing = Hashing(ground, HASHING, self._telling.alert)
        self._intake = Intake(ground, settings.newest_share, self._is_of_use, again_in_s=self._idle_s)
        self._locks = ObjectLocks()
        self._to_hash: OrderedDict[UUID, None] = OrderedDict()
        self._in_hand: set[UUID] = set()
        self._being_hashed: set[UUID] = set()  # of them
        self._withheld: dict[UUID, int] = {}
        self._unmapped: dict[UUID, float] = {}  # cameras without a counterpart, and when to look again
        self._told_unmapped: set[UUID] = set()
        self._wake, self._hash_wake, self._idle = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._idle.set()
        self._more_to_hash = False  # than are remembered
        self._draining = False
        self._round_at = -math.inf  # when the last one began, monotonic

    @property
    def name(self) -> str:
        return NAME

    @property
    def backend(self) -> Backend:
        return self._store

    @property
    def standing(self) -> Standing:
        """Which site it is, and its clock."""
        return self._store.standing

    @property
    def telling(self) -> Telling:
        return self._telling

    @property
    def trouble(self) -> str | None:
        """Why XProtect is left alone right now; None while it works."""
        return self.attendance.trouble

    def change(self, *, window: TimeWindow | None, newest_share: float) -> None:
        """Other limits from now on (SIGHUP). The window is for fetching: looking costs nothing."""
        self._settings = replace(self._settings, window=window, newest_share=newest_share)
        self.retrieving.settings = self._settings
        self._intake.newest_share = newest_share
        self._wake.set()

    def offer(self, segment: Segment) -> None:
        """A segment that was registered this moment: hashed at once, unless another backend does."""
        copy = segment.copy_at(NAME)
        if copy is not None and len(segment.copies) == 1 and segment.sha256 is None:
            self._remember_to_hash(segment.id)

    def reopen(self) -> None:
        """Copies in the journal may have come due."""
        self._intake.start_over()
        self._wake.set()

    @contextmanager
    def withheld(self, segment_id: UUID) -> Iterator[bool]:
        """Nobody asks or hashes for the segment while the block lasts. False: that is happening right now."""
        if segment_id in self._in_hand:
            yield False
            return
        self._withheld[segment_id] = self._withheld.get(segment_id, 0) + 1
        try:
            yield True
        finally:
            self._withheld[segment_id] -= 1
            if not self._withheld[segment_id]:
                del self._withheld[segment_id]
            self._wake.set()

    def exclusive(self, *keys: str) -> AbstractAsyncContextManager[None]:
        """One at a time under a path; XProtect has no objects that could be in anybody's way."""
        return self._locks.hold(*keys)

    def possible_keys(self, segment: Segment) -> tuple[str, ...]:
        """Where the segment is, once that was shown; nothing is ever put by us."""
        copy = segment.copy_at(NAME)
        return () if copy is None or copy.path is None else (copy.path,)

    async def drain(self, deadline_s: float) -> None:
        """Takes no more, and waits for what is in hand at most so long."""
        self._draining = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                await self._idle.wait()

    async def run(self) -> None:
        """Works until cancelled; what is in hand then is simply pending again."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(HASHING):
                    tasks.create_task(self._hash_all())
                await self.retrieving.load()
                tasks.create_task(self.retrieving.run())
                await self._rounds()
        finally:
            self._hashing.close()

    # Rounds

    async def _rounds(self) -> None:
        while True:
            self._wake.clear()
            self._round_at = self._clock.monotonic()
            wait_s = IDLE_S if self._draining else await self._round()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()

    async def _round(self) -> float:
        """How long until the next is worth it."""
        if not self.attendance.open and self.attendance.wait_s == 0:
            await self.attendance.find_out(partial(self._store.standing.site, anew=True))
        if not self.attendance.open:
            self._find_unhashed(await self._intake.some(unhashed=True))
            return max(self.attendance.wait_s, 1.0)
        waiting = await self._intake.some()
        self._find_unhashed(waiting)
        askable = [each for each in waiting if self._is_askable(each)]
        rules, longest, now = self._settings.rules, self._settings.window_max, self._clock.now()
        found = windows(ripe(askable, rules.settle, longest, now), longest)
        chosen = [window for window in found if window.urgent or all(map(self._is_hashed, window.segments))]
        turns = in_turn(chosen, self._settings.newest_share, self.attendance.failing)
        if await self._ask_all(turns):
            return 0.0
        ripens = ripens_in(askable, rules.settle, self._clock.now())
        return self._idle_s if ripens is None else min(self._idle_s, max(0.1, ripens.total_seconds()))

    @property
    def _idle_s(self) -> float:
        return min(IDLE_S, max(SHORTEST_IDLE_S, self._settings.rules.settle.total_seconds()))

    def _is_askable(self, each: Waiting) -> bool:
        """Due, and nobody and nothing is in the way. One that is to be hashed makes its neighbours wait."""
        camera_id = each.camera_id
        return (
            each.due
            and (each.id not in self._in_hand or not self._is_hashed(each))
            and each.id not in self._withheld
            and self.attendance.may_ask(camera_id)
            and self._unmapped.get(camera_id, -math.inf) <= self._clock.monotonic()
        )

    def _is_hashed(self, each: Waiting) -> bool:
        """Not while it is: its hash is in the journal a moment before it is let go."""
        return _has_hash(each) and each.id not in self._being_hashed

    def _is_of_use(self, each: Waiting) -> bool:
        """It is to be hashed, or its camera can be asked for."""
        camera_id = each.camera_id
        mapped = self._unmapped.get(camera_id, -math.inf) <= self._clock.monotonic()
        return not _has_hash(each) or (mapped and self.attendance.may_ask(camera_id))

    async def _ask_all(self, chosen: Sequence[Window]) -> bool:
        """Whether something came of it, or there was no time for all of them."""
        queue, until_s = deque(chosen), self._clock.monotonic() + ROUND_S
        moved = False

        async def ask() -> None:
            nonlocal moved
            while queue and self.attendance.open and not self._draining and self._clock.monotonic() < until_s:
                moved |= await self._ask(queue.popleft())

        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(ASKING, len(queue))):
                tasks.create_task(ask())
        return moved or (bool(queue) and self.attendance.open and not self._draining)

    async def _ask(self, window: Window) -> bool:
        if not self.attendance.may_ask(window.camera_id) or not await self._has_counterpart(window.camera_id):
            return False
        with self._claimed(window) as free:
            looked = None if free is None else await self.checking.look(free)
        if looked is None:
            return False
        if looked.to_retrieve:
            span = spanning(each.span for each in looked.to_retrieve)
            tried = max(each.attempts for each in looked.to_retrieve)
            self.retrieving.want(window.camera_id, span, tried)
        moved = bool(looked.verified or looked.gaps)
        if moved:
            self._intake.brought([each.id for each in window.segments])
        return moved

    @contextmanager
    def _claimed(self, window: Window) -> Iterator[Window | None]:
        """What of it nobody withholds or has in hand, for the caller alone; None with nothing left."""
        taken = self._in_hand | self._withheld.keys()
        free = tuple(each for each in window.segments if each.id not in taken and _has_hash(each))
        ids = {each.id for each in free}
        self._in_hand |= ids
        self._idle.clear()
        try:
            yield replace(window, segments=free) if free else None
        finally:
            self._in_hand -= ids
            self._is_idle()

    def _is_idle(self) -> None:
        if not self._in_hand:
            self._idle.set()

    async def _has_counterpart(self, camera_id: UUID) -> bool:
        """Told once, by its name; looked again later."""
        try:
            device = await self._ground.mapping.device_of(camera_id)
        except BackendError as exc:
            self.attendance.failed(exc, camera_id)
            return False
        except JournalError:
            raise
        except Exception as exc:  # the item boundary: one odd camera must not end the others' proving
            log.exception("looking for the counterpart of camera %s", camera_id)
            self.attendance.failed(BackendError(f"{type(exc).__name__}: {exc}"), camera_id)
            return False
        if device is not None:
            self._unmapped.pop(camera_id, None)
            self._told_unmapped.discard(camera_id)
            return True
        self._unmapped[camera_id] = self._clock.monotonic() + UNMAPPED_S
        if camera_id not in self._told_unmapped:
            self._told_unmapped.add(camera_id)
            name, why = await self._telling.name_of(camera_id), self._ground.mapping.why_not(camera_id)
            self._telling.alert(f"segments of camera {name} wait, nobody can prove them at {NAME}: {why}")
        return False

    # Retrievals' ends

    async def look_at(self, retrieval: Retrieval) -> bool:
        """Asks whether it is there by now. False: nobody could ask."""
        return await self._look_within(retrieval) is not None

    async def conclude(self, retrieval: Retrieval, error: str | None) -> bool:
        """The same, and what is missing still waits for another try, ever longer."""
        missing = await self._look_within(retrieval)
        if missing is None:
            return False
        if missing:
            why = error or "a retrieval ended well, and XProtect does not hold it"
            tried = max(each.attempts for each in missing) + 1
            wait = max(self._settings.rules.settle, self._settings.backoff.after(tried))
            due, ids = self._clock.now() + min(wait, timedelta(minutes=5)), [each.id for each in missing]
            vouched = self._ground.journal.vouched
            await in_slices(ids, lambda some: vouched.put_off(NAME, some, why, due, tried=True))
        self._intake.try_again()
        self._wake.set()
        return True

    async def _look_within(self, retrieval: Retrieval) -> list[Waiting] | None:
        """What of a retrieval's span is still not held; None: nobody could ask."""
        vouched, camera_id = self._ground.journal.vouched, retrieval.camera_id
        waiting = await vouched.within(NAME, camera_id, retrieval.span, self._clock.now())
        if not waiting or not await self._has_counterpart(camera_id):
            return waiting if self.attendance.open else None
        for window in windows(waiting, self._settings.window_max):
            with self._claimed(window) as free:
                if free is not None and await self.checking.look(free) is None:
                    return None
        return await vouched.within(NAME, camera_id, retrieval.span, self._clock.now())

    # Hashing

    def hash(self, segment_ids: Sequence[UUID]) -> None:
        """Their sources were not read yet."""
        for each in segment_ids:
            self._remember_to_hash(each)

    def _find_unhashed(self, waiting: Sequence[Waiting]) -> None:
        now = self._clock.now()
        for each in waiting:
            if each.hashed or not each.due or each.source is not SourceState.PRESENT:
                continue
            if not each.others_pending or now - each.created_at >= HASH_PATIENCE:
                self._remember_to_hash(each.id)

    def _remember_to_hash(self, segment_id: UUID) -> None:
        if segment_id in self._in_hand:
            return
        if len(self._to_hash) >= FRESH:
            self._more_to_hash = True
            return
        self._to_hash[segment_id] = None
        self._hash_wake.set()

    async def _hash_all(self) -> None:
        while True:
            self._hash_wake.clear()
            while self._to_hash and not self._draining:
                await self._hash_one(self._to_hash.popitem(last=False)[0])
            if self._more_to_hash:
                self._more_to_hash = False
                self._wake.set()
            await self._hash_wake.wait()

    async def _hash_one(self, segment_id: UUID) -> None:
        if segment_id in self._in_hand or segment_id in self._withheld:
            return
        self._in_hand.add(segment_id)
        self._being_hashed.add(segment_id)
        self._idle.clear()
        try:
            segment = await self._ground.journal.segments.by_id(segment_id)
            hashed = segment is not None and await self._hashing.hash(segment)
            if hashed:
                self._intake.brought([segment_id])
        finally:
            self._in_hand.discard(segment_id)
            self._being_hashed.discard(segment_id)
            self._is_idle()
        if hashed and self.attendance.open and self._clock.monotonic() - self._round_at >= SHORTEST_IDLE_S:
            self._wake.set()  # there may be a window to ask about


def _has_hash(each: Waiting) -> bool:
    """Known, or for ever unknown."""
    return each.hashed or each.source is not SourceState.PRESENT
