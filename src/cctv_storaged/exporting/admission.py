"""Whether an export may be begun: is it sound, is there footage, is there room. Nothing is changed here."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from cctv_storaged.clock import Clock, rfc3339
from cctv_storaged.errors import Fault, NoRoom, Unprocessable
from cctv_storaged.exporting.request import Needs, Wish, lacking, needs_of, request_of, weight_faults
from cctv_storaged.exporting.work import room_at, same_disk
from cctv_storaged.journal.exportrows import ExportRequest
from cctv_storaged.journal.journal import Journal
from cctv_storaged.journal.material import Weight
from cctv_storaged.model import Camera
from cctv_storaged.recorder.admission import CameraBook


@dataclass(frozen=True, slots=True, kw_only=True)
class Disks:
    """Where exports take room."""

    work: Path
    store: Path | None  # None: an object store, whose room nobody can tell
    linked: bool  # on one disk the finished file is linked into the store, and takes no room twice
    reserve_bytes: int  # kept back on either
    reserve_share: float = 0.0  # of either; the more of both: an export must not be what fills a disk

    def lacking(self, needs: Needs) -> str | None:
        """What to tell where they have too little room, None where it suffices. Blocking."""
        work = room_at(self.work, self.reserve_bytes, self.reserve_share)
        if self.store is None:
            return lacking(needs.work_bytes, work)
        if same_disk(self.work, self.store):
            return lacking(needs.work_bytes + (0 if self.linked else needs.store_bytes), work)
        store = room_at(self.store, self.reserve_bytes, self.reserve_share)
        return lacking(needs.work_bytes, work) or lacking(needs.store_bytes, store)


class Admission:
    """Checks what is asked for."""

    def __init__(
        self, journal: Journal, cameras: CameraBook, disks: Disks, longest: timedelta, clock: Clock
    ) -> None:
        self._journal = journal
        self._cameras = cameras
        self._disks = disks
        self._longest = longest
        self._clock = clock

    def change(self, *, reserve_share: float) -> None:
        """Another share of the disks is kept back from now on."""
        self._disks = replace(self._disks, reserve_share=reserve_share)

    async def admitted(self, wish: Wish) -> ExportRequest:
        """The request, which can be begun. Raises Unprocessable with its faults, or NoRoom."""
        request = request_of(wish, self._longest, self._clock.now())
        await self._require_cameras(request.camera_ids)
        weights = await self._weights(request)
        _raise(list(weight_faults(weights)))
        if not any(weight.segments for weight in weights):
            raise Unprocessable([await self._no_footage(request)])
        await self.require_room(request, weights)
        return request

    async def require_room(
        self, request: ExportRequest, weights: Sequence[Weight] | None = None, *, made_bytes: int = 0
    ) -> None:
        """Raises NoRoom where the disks have too little; `made_bytes` of it are there already."""
        weights = await self._weights(request) if weights is None else weights
        needs = needs_of(weights, request.package)
        left = replace(needs, work_bytes=max(0, needs.work_bytes - made_bytes))
        told = await asyncio.to_thread(self._disks.lacking, left)
        if told is not None:
            raise NoRoom(told)

    async def camera(self, camera_id: UUID) -> Camera:
        """A camera as the settings name it, else as the journal knows it."""
        configured = self._cameras.configured.get(camera_id)
        if configured is not None:
            return configured
        return await self._journal.cameras.camera(camera_id) or self._cameras.with_id(camera_id)

    async def _weights(self, request: ExportRequest) -> list[Weight]:
        return [await self._journal.material.weight(each, request.span) for each in request.camera_ids]

    async def _require_cameras(self, camera_ids: Sequence[UUID]) -> None:
        _raise(
            [
                Fault(f"camera_ids.{number}", f"no camera {camera_id} on this host")
                for number, camera_id in enumerate(camera_ids)
                if camera_id not in self._cameras.configured
                and await self._journal.cameras.camera(camera_id) is None
            ]
        )

    async def _no_footage(self, request: ExportRequest) -> Fault:
        """Where the nearest footage of any of its cameras is."""
        nearby = [await self._journal.playback.nearby(each, request.span) for each in request.camera_ids]
        before = max((each.before for each in nearby if each.before is not None), default=None)
        after = min((each.after for each in nearby if each.after is not None), default=None)
        told = ["no camera has footage in this span"]
        told += [f"the last before it ends at {rfc3339(before)}"] if before is not None else []
        told += [f"the first after it begins at {rfc3339(after)}"] if after is not None else []
        return Fault("start_time", "; ".join(told))


def _raise(faults: Sequence[Fault]) -> None:
    if faults:
        raise Unprocessable(faults)
