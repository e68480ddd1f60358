"""Folders and their disks: data_dir, recorder roots, the store of the FILESYSTEM backend."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cctv_storaged.capacity.levels import Level, judged, marks
from cctv_storaged.capacity.opening import plan_of
from cctv_storaged.capacity.telling import free_text, low_text
from cctv_storaged.capacity.volumes import facts_of
from cctv_storaged.config import Settings
from cctv_storaged.doctoring.finding import Finding, Findings, fail, ok, warn
from cctv_storaged.model import BackendKind
from cctv_storaged.recorder.mounts import NETWORK_TYPES, mount_of

MINISTRY = "give it to the user that the service runs as, and open it with ReadWritePaths= of the unit"
NOT_YET = "is not there yet; the daemon makes it"
FOLDERS_SHOWN = 50_000
"""More folders than these are not counted."""


def folders(settings: Settings) -> Findings:
    """Each folder that the daemon works in."""
    yield _data_dir(settings.data_dir)
    for recorder in settings.recorders:
        yield _root(recorder.path, ours=recorder.path.is_relative_to(settings.data_dir))
    if settings.backend is BackendKind.FILESYSTEM:
        path = settings.filesystem.path
        yield _store(path, ours=path.is_relative_to(settings.data_dir))
    yield from _rooms(settings)


def _data_dir(path: Path) -> Finding:
    part = f"data_dir {path}"
    mount = mount_of(str(path))
    if mount.type in NETWORK_TYPES:
        return fail(part, f"lies on {mount.type}", "the journal needs a local disk: name another folder")
    return _written(part, path, ours=True)


def _root(path: Path, *, ours: bool) -> Finding:
    part = f"recorder root {path}"
    if not path.is_dir():
        return _absent(part, path, ours=ours)
    if not os.access(path, os.R_OK | os.X_OK):
        return fail(part, "cannot be read", MINISTRY)
    mount = mount_of(str(path))
    how = f"on {mount.type} mounted at {mount.point}"
    if not os.access(path, os.W_OK):
        return warn(
            part,
            f"{how}; cannot be written: no source can be pruned, and the right disk not be marked",
            f"{MINISTRY}; or source.prune: never",
        )
    return ok(part, f"{how}; {'looked at by scans alone' if mount.remote else 'watched by inotify'}")


def _written(part: str, path: Path, *, ours: bool) -> Finding:
    """A folder that must take files: one is made in it, and removed."""
    if not path.is_dir():
        return _absent(part, path, ours=ours)
    try:
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(b"x")
            file.flush()
            os.fsync(file.fileno())
    except OSError as exc:
        return fail(part, f"takes no file: {exc.strerror}", MINISTRY)
    return ok(part, "takes files, and keeps them (fsync)")


def _absent(part: str, path: Path, *, ours: bool) -> Finding:
    if not ours:
        return fail(part, "is not there", "mount its disk, make it, or name another folder")
    return _made(part, path) or ok(part, NOT_YET)


def _store(path: Path, *, ours: bool) -> Finding:
    """The daemon makes it wherever it is; a folder of its own name may be where a disk is to be mounted."""
    part = f"filesystem.path {path}"
    if ours or path.is_dir():
        return _written(part, path, ours=ours)
    return _made(part, path) or warn(part, NOT_YET, "if it is a mount, mount it first")


def _made(part: str, path: Path) -> Finding | None:
    """What is wrong where a folder that is not there cannot be made."""
    above = next(parent for parent in path.parents if parent.exists())
    if above.is_dir() and os.access(above, os.W_OK | os.X_OK):
        return None
    return fail(part, f"is not there, and {above} cannot be written", MINISTRY)


def _rooms(settings: Settings) -> Findings:
    """Free space of each volume once, against the level at which clean-up begins."""
    seen: set[int] = set()
    for path in _places(settings):
        above = next(each for each in (path, *path.parents) if each.exists())
        device = above.stat().st_dev
        if device not in seen:
            seen.add(device)
            yield _room(above, settings)


def _places(settings: Settings) -> Iterator[Path]:
    yield settings.data_dir
    yield from (recorder.path for recorder in settings.recorders)
    if settings.backend is BackendKind.FILESYSTEM:
        yield settings.filesystem.path


def _room(path: Path, settings: Settings) -> Finding:
    """Judged as the daemon judges it; what the cameras write is known to that one alone."""
    facts, disk = facts_of(os.fspath(path)), os.statvfs(path)
    found = marks(plan_of(settings).limits, facts.total_bytes, None)
    level = judged(Level.WELL, facts.free_bytes, found)
    part, remedy = f"room on the disk of {path}", "make room, add a disk, or keep less (retention, capacity)"
    if level is not Level.WELL:
        verdict = fail if level is Level.EMERGENCY else warn
        return verdict(part, low_text(level, facts, found, None), remedy)
    text = free_text(facts, None)
    if disk.f_files and disk.f_favail / disk.f_files < settings.capacity.emergency_free:
        return fail(part, f"{text}, but only {disk.f_favail} inodes", "remove small files, or make it anew")
    return ok(part, text)


def folder_count(root: Path, most: int = FOLDERS_SHOWN) -> int:
    """Folders below a root, itself among them; no more than `most` are counted."""
    count, waiting = 0, [os.fspath(root)]
    while waiting and count < most:
        count += 1
        try:
            with os.scandir(waiting.pop()) as entries:
                waiting += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:
            continue
    return count
