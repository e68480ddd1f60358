"""Milestone XProtect: the site, each camera's counterpart, its recorder and storage."""

import asyncio
from datetime import datetime
from uuid import UUID

from cctv_storaged.backends.milestone.base import Vms
from cctv_storaged.config import Milestone, Settings
from cctv_storaged.doctoring.cameras import cameras_of
from cctv_storaged.doctoring.finding import Finding, fail, ok, warn
from cctv_storaged.errors import BackendError
from cctv_storaged.model import Camera, Mode, camera_id_for
from cctv_storaged.vms.condition import (
    ConditionPart,
    Grade,
    Subjects,
    camera_remedy,
    condition_rules,
    inspect,
    remedy_of,
)
from cctv_storaged.vms.counterparts import Counterpart, Matching, nobodys_entries
from cctv_storaged.vms.mapping import map_rules


async def site(
    vms: Vms, settings: Settings, block: Milestone, listed: tuple[Camera, ...], now: datetime
) -> list[Finding]:
    """Logs in, and looks at all that the `milestone` block names; changes nothing there."""
    required = settings.mode is not Mode.LOCAL
    rules = map_rules(block, required=required)
    cameras = await asyncio.to_thread(cameras_of, settings, listed, rules.entries.keys())
    try:
        theirs = await vms.cameras()
    except BackendError as exc:
        return [fail(f"Milestone at {vms.location}", str(exc), remedy_of(exc))]
    matching = Matching.of(rules, theirs, cameras, (camera.id for camera in listed))
    counterparts = [matching.counterpart(camera) for camera in cameras]
    to_come = [
        matching.counterpart(_of_key(settings.host_id, key)) for key in nobodys_entries(matching, cameras)
    ]
    subjects = Subjects(cameras=(*counterparts, *to_come), newest={})
    condition = await inspect(vms, subjects, condition_rules(block), now)
    found = [_part(part) for part in condition.parts if not part.of_camera]  # told below, each once
    found += [_camera(each, required=required) for each in counterparts]
    return found + [_nobodys(each, required=required) for each in to_come]


def _of_key(host_id: str, key: str) -> Camera:
    """As which the entry of the map would be found."""
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
        told = each.why_not or "has no counterpart"
        return (fail if required else warn)(name, told, camera_remedy(each))
    if each.trouble is not None:
        return warn(name, each.trouble, camera_remedy(each))
    return ok(name, f"is {each.device.name} ({each.device.id})")


def _nobodys(each: Counterpart, *, required: bool) -> Finding:
    """An entry of the map that is for no camera of this host."""
    if each.device is None:
        return _camera(each, required=required)
    return warn(
        f"Milestone camera {each.camera.name}",
        f"is {each.device.name} in XProtect, but milestone.camera_map[{each.camera.name!r}] is no camera's "
        "id, folder or name on this host so far",
        "correct the entry, unless the camera's first footage is still to come",
    )
