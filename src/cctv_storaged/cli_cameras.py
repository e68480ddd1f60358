"""Cameras as commands take them: by id, name or folder."""

import re

from cctv_storaged.api.models import UUID_PATTERN, CamerasAnswer
from cctv_storaged.cli_client import ApiClient
from cctv_storaged.errors import ConfigError, Fault

_ID = re.compile(UUID_PATTERN)


def camera_id(api: ApiClient, option: str, given: str) -> str:
    """The id of the camera that an option names by its id, name or folder. Raises ConfigError, ApiError.

    An id is not looked up: a token that may only hold footage need not be one that may read.
    """
    if _ID.fullmatch(given):
        return given
    cameras = api.get("/cameras", CamerasAnswer).cameras
    found = [each for each in cameras if given in (each.name, each.folder)]
    if len(found) == 1:
        return str(found[0].id)
    if found:
        ids = ", ".join(str(each.id) for each in found)
        raise ConfigError([Fault(option, f"{given!r} names more than one camera", f"give its id: {ids}")])
    known = ", ".join(sorted({name for each in cameras for name in (each.name, each.folder)})) or "none"
    raise ConfigError([Fault(option, f"no such camera: {given!r}", f"known names and folders: {known}")])
