"""What a host can say of itself at the making of a package: versions, zone, and how good its clock is."""

import os
from pathlib import Path
from zoneinfo import ZoneInfo

from cctv_storaged import __version__
from cctv_storaged.evidence.manifest import ManifestClock, ManifestHost
from cctv_storaged.hostclock import SYNCHRONIZED_FILE, kernel_clock

_SYNCHRONIZED_FILE = SYNCHRONIZED_FILE
_ZONE_FILES = Path("/usr/share/zoneinfo")


def host_facts(host_id: str, *, ffmpeg: str | None, store_offset_ms: int | None = None) -> ManifestHost:
    """The host now. `ffmpeg`: its version; `store_offset_ms`: the object store's clock minus ours."""
    return ManifestHost(
        id=host_id,
        software=f"cctv-storaged {__version__}",
        ffmpeg=ffmpeg,
        time_zone=local_zone(),
        clock=clock_state(store_offset_ms),
    )


def clock_state(store_offset_ms: int | None = None) -> ManifestClock:
    """Whether the clock follows a better one; the kernel is asked first, and a sandbox may forbid that."""
    kernel = kernel_clock()
    if kernel is not None:
        return ManifestClock(
            synchronized=kernel.synchronized,
            told_by="kernel",
            offset_us=kernel.offset_us,
            max_error_us=kernel.max_error_us,
            store_offset_ms=store_offset_ms,
        )
    synchronized = _SYNCHRONIZED_FILE.exists()  # its absence tells nothing: another program may set the clock
    return ManifestClock(
        synchronized=True if synchronized else None,
        told_by="timesyncd" if synchronized else "nobody",
        offset_us=None,
        max_error_us=None,
        store_offset_ms=store_offset_ms,
    )


def local_zone() -> str:
    """IANA name of the host's zone: TZ, else what /etc/localtime or /etc/timezone say, else UTC."""
    for name in (os.environ.get("TZ", "").removeprefix(":"), _linked_zone(), _named_zone()):
        if name and _is_known(name):
            return name
    return "UTC"


def _linked_zone() -> str:
    target = Path(os.path.realpath("/etc/localtime"))
    return str(target.relative_to(_ZONE_FILES)) if target.is_relative_to(_ZONE_FILES) else ""


def _named_zone() -> str:
    try:
        return Path("/etc/timezone").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""


def _is_known(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        return False
    return True
