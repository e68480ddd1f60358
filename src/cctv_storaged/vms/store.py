"""XProtect as a `Backend`: we put and delete nothing, and a copy is a camera's span that it holds.

What is asked before a source goes. It says no only where that can be believed; a recorder that is away, or
another site, cannot be asked (`PartAway`), and the rest of XProtect can.
"""

from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from cctv_storaged.backends.base import Capabilities, Payload, StoredObject
from cctv_storaged.backends.milestone.base import Vms
from cctv_storaged.clock import EPOCH, Clock
from cctv_storaged.errors import (
    BackendError,
    BackendThrottled,
    BackendUnavailable,
    ObjectMismatch,
    ObjectMissing,
    ObjectRejected,
    PartAway,
)
from cctv_storaged.model import BackendKind, TimeSpan
from cctv_storaged.objectlocks import ObjectLocks
from cctv_storaged.pacing import ByteBudget
from cctv_storaged.vms.covering import Recorded
from cctv_storaged.vms.ground import Mapping as CameraMap
from cctv_storaged.vms.paths import parse_milestone_path
from cctv_storaged.vms.presence import camera_of, prove_presence
from cctv_storaged.vms.standing import Standing

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


@dataclass(frozen=True, slots=True)
class _Attendance:
    """Whether one of its cameras could be asked: None, or why not."""

    away: str | None
    until_s: float  # monotonic


class MilestoneStore:
    """One site. Raises only BackendError and below."""

    def __init__(
        self,
        vms: Vms,
        clock: Clock,
        mapping: CameraMap,
        *,
        window: timedelta,
        settle: timedelta,
        tolerance: timedelta,
    ) -> None:
        self._vms = vms
        self._clock = clock
        self._mapping = mapping
        self._window = window
        self._settle = settle
        self._tolerance = tolerance
        self.standing = Standing(vms, clock, tolerance)
        """Which site it is, and its clock."""
        self._answers: OrderedDict[tuple[UUID, int], _Answer] = OrderedDict()
        self._devices: OrderedDict[UUID, _Attendance] = OrderedDict()
        self._asking = ObjectLocks()

    @property
    def name(self) -> str:
        return BackendKind.MILESTONE

    @property
    def location(self) -> str:
        return self._vms.location

    async def probe(self) -> Capabilities:
        """Proves address, certificate and log-in."""
        site = await self._vms.site()
        skew = None if site.clock_skew is None else site.clock_skew.total_seconds()
        return Capabilities(clock_skew_s=skew)

    async def put(self, path: str, payload: Payload, budget: ByteBudget) -> StoredObject:
        raise ObjectRejected("XProtect takes no files: it records by itself, or retrieves from a device")

    async def verify(self, expected: StoredObject) -> None:
        """The path's span is covered by recordings now, of the camera that is the footage's own.

        A yes may be a minute old; a no is asked for, and believed where recorder and storage are there.
        Raises ObjectMissing where it is not; ObjectMismatch where another camera was taken for it; PartAway
        where this camera, or the site of the path, cannot be asked.
        """
        known = parse_milestone_path(expected.path)
        site = await self.standing.site()
        if known.site != site.id:
            told = f"its footage is at the site {known.site}, and milestone.url is that of {site.id}"
            raise PartAway(told, part=f"site {known.site}")
        if expected.camera_id is not None:
            await self._check_counterpart(expected.camera_id, known.camera)
        self._check_attendance(known.camera)
        try:
            held = await self._held(known.camera, known.span)
        except (BackendUnavailable, ObjectRejected) as exc:
            raise await self._whose_fault(exc, known.camera) from exc
        if not held:
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

    # Whether it can be asked

    async def _check_counterpart(self, camera_id: UUID, device: UUID) -> None:
        """The settings may have been corrected since: what another camera shows proves nothing."""
        meant = await self._mapping.device_of(camera_id)
        if meant is None:
            told = self._mapping.why_not(camera_id) or "it has no counterpart"
            raise PartAway(f"camera {camera_id}: {told}", part=f"camera {camera_id}")
        if meant != device:
            raise ObjectMismatch(f"it was proven by XProtect's camera {device}, and its own is {meant}")

    def _check_attendance(self, device: UUID) -> None:
        known = self._devices.get(device)
        if known is not None and known.away is not None and self._clock.monotonic() < known.until_s:
            raise PartAway(known.away, part=f"camera {device}")

    def _note(self, device: UUID, away: str | None) -> None:
        self._devices[device] = _Attendance(away, self._clock.monotonic() + BELIEVED_S)
        self._devices.move_to_end(device)
        while len(self._devices) > ANSWERS:
            self._devices.popitem(last=False)

    async def _whose_fault(self, error: BackendError, device: UUID) -> BackendError:
        """The site's, or this camera's alone where the site answers all the same."""
        if isinstance(error, BackendThrottled):
            return error
        await self.standing.site(anew=True)
        self._note(device, str(error))
        reason = error.reason if isinstance(error, BackendUnavailable) else "server"
        return PartAway(str(error), part=f"camera {device}", reason=reason)

    async def _prove_presence(self, device: UUID) -> None:
        """Asked once a minute."""
        known = self._devices.get(device)
        if known is None or known.away is not None or self._clock.monotonic() >= known.until_s:
            await prove_presence(self._vms, device)
            self._note(device, None)

    # Coverage

    async def _held(self, device: UUID, span: TimeSpan) -> bool:
        try:
            for anew in (False, True):
                if await self._covered(device, span, anew=anew):
                    return True
        except ObjectMissing as exc:
            return await self._has_gone(device, exc)
        try:
            await self._prove_presence(device)
        except ObjectMissing as exc:
            return await self._has_gone(device, exc)
        return False

    async def _has_gone(self, device: UUID, error: ObjectMissing) -> bool:
        """False: the site knows of no such camera. One that it does tell of cannot be asked."""
        if await camera_of(self._vms, device) is not None:
            raise ObjectRejected(f"XProtect tells of camera {device}, and then of none: {error}") from error
        return False

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
