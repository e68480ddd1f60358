"""Which cameras this host has, as the daemon would name them: settings, journal, recorders' folders."""

import os
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path
from zoneinfo import ZoneInfo

from cctv_storaged.config import Settings
from cctv_storaged.errors import NotASegment
from cctv_storaged.journal.cameras import footage_in
from cctv_storaged.journal.journal import FILE_NAME
from cctv_storaged.model import Camera
from cctv_storaged.recorder.admission import CameraBook
from cctv_storaged.recorder.layout import Layout

BRANCHES = 10_000
"""More folders of cameras than these below one root are not looked into."""
FILES = 1000
"""Names read in a camera's folder until one is of the recorder's layout."""
ALL_FILES = 50_000
"""The same where the folder does not tell the camera."""


def cameras_of(settings: Settings, listed: tuple[Camera, ...], expected: Collection[str]) -> list[Camera]:
    """Every one, each once. Blocking. A folder without footage is one where its name is `expected`."""
    book = CameraBook(settings.host_id, listed)
    found = {each.id: each for each in footage_in(settings.data_dir / FILE_NAME)}
    for recorder in settings.recorders:
        layout = Layout.parse(recorder.layout, ZoneInfo(recorder.timezone))
        found |= {each.id: each for each in _below(recorder.path, layout, book, expected)}
    return list((found | dict(book.configured)).values())


def _below(root: Path, layout: Layout, book: CameraBook, expected: Collection[str]) -> Iterator[Camera]:
    depth = _depth(layout.pattern)
    if depth is None:
        yield from _of_files(root, root, layout, book, ALL_FILES)
        return
    pattern = Path(layout.pattern).parts[depth - 1]
    for branch in islice(_folders(root, depth), BRANCHES):
        camera = next(_of_files(root, branch, layout, book, FILES), None)
        if camera is None and pattern == "{camera}" and branch.name in expected:
            camera = book.named(branch.name)
        if camera is not None:
            yield camera


def _depth(pattern: str) -> int | None:
    """How many folders deep a camera has one of its own; None: only file names tell."""
    above = Path(pattern).parts[:-1]
    for depth, name in enumerate(above, start=1):
        if name == "**":
            return None
        if "{camera}" in name or "{camera_id}" in name:
            return depth
    return None


def _of_files(root: Path, folder: Path, layout: Layout, book: CameraBook, most: int) -> Iterator[Camera]:
    for path in islice(_files(folder, most), most):
        try:
            match = layout.match(os.path.relpath(path, root))
        except NotASegment:
            continue
        if match is not None:
            yield book.of(match)


def _files(folder: Path, most: int) -> Iterator[str]:
    """Newest names first, as they sort; of no more than `most` folders."""
    waiting = [os.fspath(folder)]
    for _ in range(most):
        if not waiting:
            return
        inside = _inside(waiting.pop())
        waiting += [each.path for each in inside if each.is_dir(follow_symlinks=False)]
        yield from (each.path for each in reversed(inside) if each.is_file(follow_symlinks=False))


def _folders(root: Path, depth: int) -> Iterator[Path]:
    if depth == 0:
        yield root
        return
    for entry in _inside(os.fspath(root)):
        if entry.is_dir(follow_symlinks=False):
            yield from _folders(Path(entry.path), depth - 1)


def _inside(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda each: each.name)
    except OSError:
        return []  # told with the other folders
