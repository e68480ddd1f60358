"""Milestone XProtect: the site, each camera's counterpart, its recorder and storage."""

from collections.abc import Iterator
from datetime import datetime
from uuid import UUID

from cctv_storaged.backends.milestone.base import Vms
from cctv_storaged.config import Milestone, Settings
from cctv_storaged.doctoring.finding import Finding, fail, ok, warn
from cctv_storaged.errors import BackendError
from cctv_storaged.model import Camera, Mode, camera_id_for
from cctv_storaged.vms.condition import ConditionPart, Grade, Subjects, condition_rules, inspect, remedy_of
from cctv_storaged.vms.counterparts import Counterpart, Matching
from cctv_storaged.vms.mapping import map_rules


async def site(
    vms: Vms, settings: Settings, block: Milestone, listed: tuple[Camera, ...], now: datetime
) -> list[Finding]:
    """Logs in, and looks at all that the `milestone` block names; changes nothing there."""
    required = settings.mode is not Mode.LOCAL
    cameras = tuple(_cameras(settings, block, listed))
    try:
        theirs = await vms.cameras()
    except BackendError as exc:
        return [fail(f"Milestone at {vms.location}", str(exc), remedy_of(exc))]
    matching = Matching.of(
        map_rules(block, required=required), theirs, cameras, (camera.id for camera in listed)
    )
    counterparts = tuple(matching.counterpart(camera) for camera in cameras)
    condition = await inspect(vms, Subjects(cameras=counterparts, newest={}), condition_rules(block), now)
    found = [_part(part) for part in condition.parts]
    return found + [_camera(each, required=required) for each in counterparts]


def _cameras(settings: Settings, block: Milestone, listed: tuple[Camera, ...]) -> Iterator[Camera]:
    """Those of the settings, and those that only the map names: by id or folder."""
    yield from listed
    known = {camera.folder for camera in listed} | {str(camera.id) for camera in listed}
    known |= {camera.name for camera in listed}
    for key in block.camera_map:
        if key not in known:
            yield _of_key(settings.host_id, key)


def _of_key(host_id: str, key: str) -> Camera:
    try:
        return Camera(id=UUID(key), name=key, folder=key)
    except ValueError:
        return Camera(id=camera_id_for(host_id, key), name=key, folder=key)


def _part(part: ConditionPart) -> Finding:
    name = f"Milestone {part.name}"
    if part.trouble is None:
        return ok(name, part.note or "is well")
    return (fail if part.grade is Grade.DOWN else warn)(name, part.trouble, part.remedy)


def _camera(each: Counterpart, *, required: bool) -> Finding:
    name = f"Milestone camera {each.camera.name}"
    if each.device is None:
        remedy = "name it in milestone.camera_map: its GUID, or name: and its display name"
        return (fail if required else warn)(name, each.why_not or "has no counterpart", remedy)
    if each.trouble is not None:
        return warn(name, each.trouble, "mend it in the Management Client")
    return ok(name, f"is {each.device.name} ({each.device.id})")
