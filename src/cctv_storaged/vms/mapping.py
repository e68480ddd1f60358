"""Our cameras and XProtect's: looked up at start and every few minutes, the last answer kept meanwhile."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from uuid import UUID

from cctv_storaged.alarms import AlarmName, Alarms
from cctv_storaged.backends.milestone.base import Vms, VmsCamera
from cctv_storaged.config import Milestone
from cctv_storaged.journal.cameras import Cameras
from cctv_storaged.model import Camera
from cctv_storaged.recorder.admission import CameraBook
from cctv_storaged.retention.rules import key_of
from cctv_storaged.vms.counterparts import Counterpart, MapRules, Matching, nobodys_entries, shared

log = logging.getLogger(__name__)

EVERY_S = 300.0
"""How often XProtect is asked for its cameras."""
NOT_ASKED = "XProtect has not been asked for its cameras yet"


def map_rules(settings: Milestone, *, required: bool) -> MapRules:
    """What the `milestone` block says; `required`: new segments must be held by XProtect."""
    retrieves = settings.ingest in ("edge_retrieval", "hybrid", "event_retrieval")
    return MapRules(
        entries={key_of(key): value for key, value in settings.camera_map.items()},
        required=required,
        records=settings.ingest in ("vms_recording", "hybrid"),
        retrieves=retrieves,
    )


class CameraMapping:
    """Which XProtect camera holds the footage of which camera of ours. On the event loop only."""

    def __init__(self, vms: Vms, known: Cameras, book: CameraBook, rules: MapRules, alarms: Alarms) -> None:
        self._vms = vms
        self._known = known
        self._book = book
        self._rules = rules
        self._alarms = alarms
        self._asking = asyncio.Lock()
        self._theirs: Sequence[VmsCamera] | None = None
        self._matching: Matching | None = None
        self._counterparts: dict[UUID, Counterpart] = {}
        self._asked_for: dict[UUID, Camera] = {}  # without footage, and looked for all the same
        self._told: set[str] = set()

    @property
    def asked(self) -> bool:
        """Whether XProtect has told of its cameras since the start."""
        return self._theirs is not None

    @property
    def required(self) -> bool:
        """Whether a camera without a counterpart is something to be mended."""
        return self._rules.required

    @property
    def cameras(self) -> Mapping[UUID, VmsCamera]:
        """The cameras that have a counterpart: ours → theirs, as of the last answer."""
        return MappingProxyType(
            {each.camera.id: each.device for each in self.counterparts if each.device is not None}
        )

    @property
    def counterparts(self) -> Sequence[Counterpart]:
        """Every camera that was looked for, with what became of it."""
        return tuple(self._counterparts.values())

    async def device_of(self, camera_id: UUID) -> UUID | None:
        """The GUID of our camera in XProtect; None: it has none there, and `why_not` says why.

        Raises BackendError while XProtect has never been asked since the start and cannot be now: nothing
        is known then, which is not the same. After that the last answer counts.
        """
        if self._matching is None:
            await self._first_answer()
        found = self._counterparts.get(camera_id) or await self._look_for(camera_id)
        return None if found is None or found.device is None else found.device.id

    def why_not(self, camera_id: UUID) -> str | None:
        """Why it has no counterpart, with the remedy; None where it has one."""
        found = self._counterparts.get(camera_id)
        if found is not None:
            return found.why_not
        return NOT_ASKED if self._theirs is None else f"no camera {camera_id} on this host"

    async def refresh(self) -> None:
        """Asks XProtect anew. Raises BackendError, and the last answer stays."""
        async with self._asking:
            self._theirs = tuple(await self._vms.cameras())
            await self.rematch()

    async def rematch(self) -> None:
        """Matches the last answer with our cameras as they are now; asks nobody outside."""
        if self._theirs is None:
            return
        ours = await self._ours()
        matching = Matching.of(self._rules, self._theirs, ours, self._book.configured)
        found = {each.id: matching.counterpart(each) for each in ours}
        self._matching, self._counterparts = matching, found
        self._tell(matching, ours)

    async def _first_answer(self) -> None:
        async with self._asking:
            if self._theirs is None:
                self._theirs = tuple(await self._vms.cameras())
            if self._matching is None:
                await self.rematch()

    async def _look_for(self, camera_id: UUID) -> Counterpart | None:
        """A camera that came since the last round."""
        camera = self._book.configured.get(camera_id) or await self._known.camera(camera_id)
        if camera is None or self._matching is None:
            return None
        found = self._matching.counterpart(camera)
        self._asked_for[camera_id] = camera
        self._counterparts[camera_id] = found
        self._tell_of(found)
        return found

    async def _ours(self) -> Sequence[Camera]:
        """Those with footage, those that the settings list, and those that somebody asked for."""
        with_footage = {each.id: each for each in await self._known.with_footage()}
        return tuple((self._asked_for | with_footage | dict(self._book.configured)).values())

    # What comes of it

    def _tell(self, matching: Matching, ours: Sequence[Camera]) -> None:
        for each in self._counterparts.values():
            self._tell_of(each)
        self._alarms.keep_only(AlarmName.VMS_CAMERA, frozenset(map(str, self._counterparts)))
        for key in nobodys_entries(matching, ours):
            self._once(
                f"milestone.camera_map[{key!r}] is no camera's id, folder or name on this host so far (one "
                "is known when the settings list it, or it has footage)"
            )
        for device, cameras in shared(self._counterparts.values()).items():
            names = ", ".join(sorted(each.name for each in cameras))
            self._once(
                f"XProtect's camera {device} stands for {len(cameras)} of ours ({names}): right if they are "
                "streams of one camera; else correct milestone.camera_map, or the one proves the other"
            )

    def _tell_of(self, found: Counterpart) -> None:
        subject, wrong = str(found.camera.id), found.why_not or found.trouble
        if wrong is None or not self._rules.required:
            self._alarms.end(AlarmName.VMS_CAMERA, subject)
        else:
            self._alarms.sound(AlarmName.VMS_CAMERA, subject, f"camera {found.camera.name}: {wrong}")

    def _once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            log.warning("%s", text)
