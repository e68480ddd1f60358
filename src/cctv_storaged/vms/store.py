"""XProtect as a `Backend`: we put and delete nothing, and a copy is a camera's span that it holds."""

from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from cctv_storaged.backends.base import Capabilities, Payload, StoredObject
from cctv_storaged.backends.milestone.base import Vms
from cctv_storaged.clock import EPOCH, Clock
from cctv_storaged.errors import BackendError, ObjectMissing, ObjectRejected
from cctv_storaged.model import BackendKind, TimeSpan
from cctv_storaged.objectlocks import ObjectLocks
from cctv_storaged.pacing import ByteBudget
from cctv_storaged.vms.covering import Recorded
from cctv_storaged.vms.paths import parse_milestone_path

BELIEVED_S = 60.0
"""An answer counts for so long: pruning asks about the ninety segments of a window one after the other."""
ANSWERS = 256
"""Answers kept."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """What XProtect held of a window."""

    recorded: Recorded
    asked_at: datetime
    until_s: float  # monotonic


class MilestoneStore:
    """One site. Raises only BackendError and below."""

    def __init__(
        self, vms: Vms, clock: Clock, *, window: timedelta, settle: timedelta, tolerance: timedelta
    ) -> None:
        self._vms = vms
        self._clock = clock
        self._window = window
        self._settle = settle
        self._tolerance = tolerance
        self._site_id: UUID | None = None
        self._answers: OrderedDict[tuple[UUID, int], _Answer] = OrderedDict()
        self._asking = ObjectLocks()

    @property
    def name(self) -> str:
        return BackendKind.MILESTONE

    @property
    def location(self) -> str:
        return self._vms.location

    async def site_id(self) -> UUID:
        """The site's own id, asked for once."""
        if self._site_id is None:
            self._site_id = (await self._vms.site()).id
        return self._site_id

    async def probe(self) -> Capabilities:
        """Proves address, certificate and log-in."""
        site = await self._vms.site()
        self._site_id = site.id
        skew = None if site.clock_skew is None else site.clock_skew.total_seconds()
        return Capabilities(clock_skew_s=skew)

    async def put(self, path: str, payload: Payload, budget: ByteBudget) -> StoredObject:
        raise ObjectRejected("XProtect takes no files: it records by itself, or retrieves from a device")

    async def verify(self, expected: StoredObject) -> None:
        """The path's span is covered by recordings now. Raises ObjectMissing where it is not.

        A yes may be a minute old; a no is asked for.
        """
        known = parse_milestone_path(expected.path)
        for anew in (False, True):
            if await self._covered(known.camera, known.span, anew=anew):
                return
        raise ObjectMissing(f"XProtect no longer holds {known.span} of camera {known.camera}")

    @asynccontextmanager
    async def open(
        self, path: str, start: int = 0, length: int | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Its footage is read back by the ImageServer (vms/readback.py): it has no bytes of ours."""
        raise ObjectRejected(f"{path} has no bytes of ours: what XProtect holds is read back as pictures")
        yield

    async def delete(self, path: str) -> None:
        """Nothing: retention is the VMS's, and nothing here deletes its recordings."""

    async def delete_many(self, paths: Sequence[str]) -> Mapping[str, BackendError]:
        return {}

    async def sweep(self, older_than_s: float) -> int:
        return 0

    async def close(self) -> None:
        """The site is closed by whoever opened it."""
        self._answers.clear()

    # Coverage

    async def _covered(self, camera: UUID, span: TimeSpan, *, anew: bool) -> bool:
        first, last = self._number(span.start), self._number(span.end)
        parts = [await self._answer(camera, number, span, anew=anew) for number in range(first, last + 1)]
        recorded = Recorded(each for part in parts for each in part.spans)
        return recorded.covers(span, self._tolerance)

    def _number(self, moment: datetime) -> int:
        return (moment - EPOCH) // self._window

    async def _answer(self, camera: UUID, number: int, span: TimeSpan, *, anew: bool) -> Recorded:
        """What it holds of an aligned window, asked by one at a time."""
        key = (camera, number)
        begun_s = self._clock.monotonic()
        async with self._asking.hold(f"{camera} {number}"):
            known = self._answers.get(key)
            if known is not None and self._believed(known, span, begun_s, anew=anew):
                return known.recorded
            now, now_s = self._clock.now(), self._clock.monotonic()
            start = EPOCH + number * self._window
            recorded = Recorded(await self._vms.recorded(camera, TimeSpan(start, start + self._window)))
            self._answers[key] = _Answer(recorded, now, now_s + BELIEVED_S)
            self._answers.move_to_end(key)
            while len(self._answers) > ANSWERS:
                self._answers.popitem(last=False)
            return recorded

    def _believed(self, known: _Answer, span: TimeSpan, begun_s: float, *, anew: bool) -> bool:
        """Not from before the span had settled; anew: given since we began to ask."""
        if anew:
            return known.until_s - BELIEVED_S >= begun_s
        return known.asked_at >= span.end + self._settle and self._clock.monotonic() < known.until_s
