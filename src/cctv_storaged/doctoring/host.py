"""The host itself: its clock, inotify, ffmpeg, and whether a daemon has the journal."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from cctv_storaged.config import Settings
from cctv_storaged.doctoring.finding import Finding, Findings, fail, ok, warn
from cctv_storaged.doctoring.folders import folder_count
from cctv_storaged.errors import JournalBroken, MediaError
from cctv_storaged.hostclock import HostBootClock, kernel_clock
from cctv_storaged.journal.connection import log_path
from cctv_storaged.journal.journal import FILE_NAME
from cctv_storaged.journal.schema import damage_in
from cctv_storaged.media import ffmpeg
from cctv_storaged.recorder.mounts import mount_of

LOCKS = Path("/proc/locks")
WATCHES = Path("/proc/sys/fs/inotify/max_user_watches")
WHOLE_CHECK_BYTES = 2 * 10**9
"""A larger journal is not read whole: the daemon checks it after each unclean end."""

IN_USE = "is in use by a running daemon, which checked it at its start"


def clock() -> Finding:
    """Whether the kernel says that the wall clock follows a better one."""
    kernel = kernel_clock()
    follows = HostBootClock().synchronized()
    if follows is None:
        text = "nobody tells whether it is synchronised"
        return warn("clock", text, "run chrony, ntpd or systemd-timesyncd, on this host or its own host")
    if not follows:
        return warn(
            "clock",
            "is not synchronised: footage gets wrong times, and steps keep retention waiting",
            "run chrony, ntpd or systemd-timesyncd; a host without NTP: see docs/reference/clock.md",
        )
    error = "" if kernel is None else f", within {kernel.max_error_us / 1000:.0f} ms"
    return ok("clock", f"is synchronised{error}")


def inotify(settings: Settings) -> Findings:
    """Whether the kernel gives as many watches as there are folders."""
    local = [each.path for each in settings.recorders if not mount_of(str(each.path)).remote]
    wanted = sum(folder_count(path) for path in local)
    try:
        given = int(WATCHES.read_text(encoding="ascii"))
    except (OSError, ValueError):
        yield warn("inotify", "its limits cannot be read", "mount /proc")
        return
    text = f"{wanted} folders to watch, {given} watches for each user"
    if wanted * 2 > given:
        remedy = f"sysctl -w fs.inotify.max_user_watches={max(wanted * 4, 524_288)}, and in /etc/sysctl.d"
        yield warn("inotify", f"{text}: what has none is found by scans, later", remedy)
    else:
        yield ok("inotify", text)


async def tools() -> list[Finding]:
    """ffmpeg and ffprobe."""
    remedy = "install the package ffmpeg"
    found = []
    for program, without in (
        ("ffmpeg", "no thumbnails, clips and exports"),
        ("ffprobe", "odd files are registered with estimated durations"),
    ):
        try:
            version = await ffmpeg.version(program)
        except MediaError as exc:
            found.append(fail(program, f"{exc}: {without}", remedy))
        else:
            found.append(ok(program, version))
    return found


def journal(settings: Settings) -> Finding:
    """The journal, read only. While a daemon has it, that one answers for it."""
    path = settings.data_dir / FILE_NAME
    part = f"journal {path}"
    try:
        if not path.exists():
            return ok(part, "is not there yet; the daemon makes it")
        found = _of_idle_journal(part, path)
    except OSError as exc:
        return fail(part, f"cannot be read: {exc}", "give this user the right to read it")
    # Looked at when all was read, too: what was read under the hands of a daemon means nothing.
    return ok(part, IN_USE) if found is None or _in_use(settings.data_dir) else found


def _of_idle_journal(part: str, path: Path) -> Finding | None:
    """None where somebody works on it."""
    if _in_use(path.parent):
        return None
    if log_path(path).exists():
        remedy = "start the daemon: it checks the journal before anything else"
        return warn(part, "was not closed by its last daemon", remedy)
    before = path.stat()
    whole = before.st_size <= WHOLE_CHECK_BYTES
    try:
        damage = _damage(path, whole=whole)
    except JournalBroken as exc:
        return fail(part, str(exc), "install the newer version again")
    if _changed(before, path.stat()):
        return None
    if damage is not None:
        remedy = "start the daemon: it keeps the file and reads what it can"
        return fail(part, f"is damaged: {damage}", remedy)
    return ok(part, f"is sound ({before.st_size / 1e6:.1f} MB{'' if whole else ', read in part'})")


def _damage(path: Path, *, whole: bool) -> str | None:
    """Without any lock: one of ours would keep a daemon that starts meanwhile from its journal."""
    try:
        opened = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
        with closing(opened) as connection:
            return damage_in(connection, whole=whole)
    except sqlite3.Error as exc:
        return str(exc)


def _changed(before: os.stat_result, now: os.stat_result) -> bool:
    return (before.st_ino, before.st_size, before.st_mtime_ns) != (now.st_ino, now.st_size, now.st_mtime_ns)


def _in_use(folder: Path) -> bool:
    """Whether a daemon holds the folder (journal.lock_folder); /proc/locks tells without locking anything."""
    try:
        inode = os.stat(folder / "lock").st_ino
        locks = LOCKS.read_text(encoding="ascii").splitlines()
    except OSError:
        return False
    fields = (line.split() for line in locks)
    return any("FLOCK" in each and any(word.endswith(f":{inode}") for word in each) for each in fields)
