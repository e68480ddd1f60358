"""Names inside a package: safe on every system that may unpack it, unique, telling what a file is. Pure."""

import re
import unicodedata
from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from cctv_storaged.model import Camera

ORIGINALS, REMUXED, CLIPS = "originals", "remuxed", "clips"
LONGEST_PATH = 240
UNKNOWN_DIGEST = "0" * 12
_SAFE_PATH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)*")
_DEVICES = frozenset(
    {"con", "prn", "aux", "nul", *(f"{kind}{number}" for kind in ("com", "lpt") for number in range(1, 10))}
)
_LONGEST_NAME = 40


def is_safe(path: str) -> bool:
    """Whether a path stays below its folder and means the same file on every system.

    ASCII letters, digits, `.`, `_`, `-`, parted by `/`; no part begins with a point, ends with one, or is a
    device of Windows.
    """
    if len(path) > LONGEST_PATH or not path.isascii() or not _SAFE_PATH.fullmatch(path):
        return False
    parts = path.split("/")
    return not any(part.endswith(".") or part.partition(".")[0].lower() in _DEVICES for part in parts)


def folders_of(cameras: Iterable[Camera]) -> dict[UUID, str]:
    """A folder name for each camera: its name as far as it is safe, and enough of its id to be unique."""
    listed = list(cameras)
    short = {camera.id: f"{_slug(camera.name)}-{camera.id.hex[:8]}" for camera in listed}
    if len({name.casefold() for name in short.values()}) == len(short):
        return short
    return {camera.id: f"{_slug(camera.name)}-{camera.id}" for camera in listed}


def original_path(
    folder: str, start: datetime, occurrence: int, digest: str, *, remuxed: bool = False
) -> str:
    """Path of an original, or of what was read back of it: camera, its start (UTC), how its SHA-256 begins.

    `occurrence`: 1, and more for others of this camera with the very same start.
    """
    more = "" if occurrence == 1 else f"-{occurrence}"
    return f"{REMUXED if remuxed else ORIGINALS}/{folder}/{start:%Y%m%dT%H%M%S.%fZ}{more}_{digest[:12]}.ts"


def clip_path(folder: str, part: int | None, suffix: str) -> str:
    """Path of a working copy; `part` where a camera has several, `suffix` such as `.mp4`."""
    return f"{CLIPS}/{folder}{'' if part is None else f'_part{part}'}{suffix}"


def _slug(name: str) -> str:
    """The name as people may still recognise it."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9_]+", "-", plain).strip("-_")[:_LONGEST_NAME].strip("-_") or "camera"
