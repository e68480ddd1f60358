"""Whether XProtect can be believed that it holds nothing of a time.

A site answers for recorders that are away, and a database that is being repaired shows nothing.
"""

from uuid import UUID

from cctv_storaged.backends.milestone.base import Vms, VmsCamera
from cctv_storaged.errors import BackendUnavailable, ObjectMissing, ObjectRejected


async def camera_of(vms: Vms, device: UUID) -> VmsCamera | None:
    """The camera as the site tells of it; None: it tells of others, and not of this one.

    Raises BackendUnavailable where it tells of none at all: whoever sees none has lost its rights.
    """
    cameras = await vms.cameras()
    if not cameras:
        raise BackendUnavailable("XProtect's user may see no camera at all (check its role)", reason="auth")
    return next((each for each in cameras if each.id == device), None)


async def prove_presence(vms: Vms, device: UUID) -> None:
    """The camera's recorder lets us read and its storage is there. Raises BackendError where not.

    ObjectMissing: the site has no such camera (any more), or shows it to us no longer.
    """
    camera = await camera_of(vms, device)
    if camera is None:
        raise ObjectMissing(f"XProtect has no camera {device} that its user may see")
    try:
        await vms.reach(device)
    except ObjectMissing as exc:
        raise ObjectRejected(
            f"XProtect tells of camera {camera.name}, and its recorder does not: {exc}"
        ) from exc
    if camera.storage_id is not None and (await vms.storage(camera.storage_id)).available is False:
        raise BackendUnavailable(f"the storage of camera {camera.name} is not available", reason="server")
