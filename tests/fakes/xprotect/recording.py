"""`--record-from`: each closed .ts below a recorder's folder becomes what XProtect recorded of the camera."""

import asyncio
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from tests.fakes.xprotect.media import DatabaseFull
from tests.fakes.xprotect.site import EdgeFile, Site

QUIET_S = 3.0
"""A file that nobody wrote to for so long is taken for closed; one that grows later is looked at again."""
_FIELDS = {"%Y": r"\d{4}", "%m": r"\d\d", "%d": r"\d\d", "%H": r"\d\d", "%M": r"\d\d", "%S": r"\d\d"}


@dataclass(frozen=True, slots=True)
class Layout:
    """How a recorder names its files, such as `{camera}/%Y-%m-%d/%H-%M-%S.ts`; times are UTC."""

    pattern: str

    def read(self, name: str) -> tuple[str, datetime] | None:
        """The camera and the time in a file's name, below the folder; None where it is named otherwise."""
        found = self._expression().fullmatch(name)
        if found is None:
            return None
        parts = found.groupdict()
        camera = parts.pop("camera")
        digits = " ".join(parts[each.removeprefix("%")] for each in _FIELDS)
        return camera, datetime.strptime(digits, " ".join(_FIELDS)).replace(tzinfo=UTC)

    def _expression(self) -> re.Pattern[str]:
        text = re.escape(self.pattern).replace(re.escape("{camera}"), "(?P<camera>[^/]+)")
        for each, digits in _FIELDS.items():
            text = text.replace(re.escape(each), f"(?P<{each[1]}>{digits})")
        return re.compile(text)


@dataclass(slots=True)
class Folder:
    """A recorder's folder that is looked through every second."""

    site: Site
    path: Path
    layout: Layout
    to_edge: bool = False
    """The camera itself keeps it, and XProtect records nothing."""
    _taken: dict[Path, tuple[int, int]] = field(default_factory=dict)  # size and time of change as they were
    _looking: threading.Lock = field(default_factory=threading.Lock)

    async def follow(self) -> None:
        """Without end."""
        while True:
            await asyncio.to_thread(self.look)
            await asyncio.sleep(1)

    def look(self) -> None:
        """Takes what was closed since the last look."""
        with self._looking:
            for file, camera, start in self.closed():
                self._take(file, camera, start)

    def closed(self) -> list[tuple[Path, UUID, datetime]]:
        """Files of known cameras that were not taken yet as they are now, by their times."""
        cameras = {camera.name: camera.id for camera in self.site.known()}
        found = []
        for file, version in _quiet_files(self.path):
            read = self.layout.read(file.relative_to(self.path).as_posix())
            if self._taken.get(file) != version and read is not None and read[0] in cameras:
                found.append((file, cameras[read[0]], read[1]))
        return sorted(found, key=lambda each: each[2])

    def _take(self, file: Path, camera: UUID, start: datetime) -> None:
        grown = file in self._taken
        try:
            self._taken[file] = _version(file)  # before it is read: what is written meanwhile is seen then
        except FileNotFoundError:
            return
        if self.to_edge:
            if not grown:
                self.site.edge.setdefault(camera, []).append(EdgeFile(path=file, start=start))
            return
        add = self.site.media.add_grown_ts if grown else self.site.media.add_ts
        try:
            add(camera, file, start)
        except (ValueError, OSError, subprocess.SubprocessError, DatabaseFull) as exc:
            print(f"not recorded: {file}: {exc}", file=sys.stderr, flush=True)


def _quiet_files(folder: Path) -> Iterator[tuple[Path, tuple[int, int]]]:
    """With their versions."""
    now = time.time()
    for file in sorted(folder.rglob("*.ts")):
        try:
            version = _version(file)
        except FileNotFoundError:
            continue  # deleted meanwhile
        if now - version[1] / 1e9 >= QUIET_S:
            yield file, version


def _version(file: Path) -> tuple[int, int]:
    now = file.stat()
    return now.st_size, now.st_mtime_ns
