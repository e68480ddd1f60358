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

QUIET_S = 2.0
"""A file that nobody wrote to for so long, or that has a later one beside it, is closed."""
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
    _taken: set[Path] = field(default_factory=set)
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
        """Files of known cameras that were not taken yet, by their times."""
        cameras = {camera.name: camera.id for camera in self.site.known()}
        found = []
        for file in _quiet_files(self.path):
            read = self.layout.read(file.relative_to(self.path).as_posix())
            if file not in self._taken and read is not None and read[0] in cameras:
                found.append((file, cameras[read[0]], read[1]))
        return sorted(found, key=lambda each: each[2])

    def _take(self, file: Path, camera: UUID, start: datetime) -> None:
        self._taken.add(file)
        if self.to_edge:
            self.site.edge.setdefault(camera, []).append(EdgeFile(path=file, start=start))
            return
        try:
            self.site.media.add_ts(camera, file, start)
        except (ValueError, OSError, subprocess.SubprocessError, DatabaseFull) as exc:
            print(f"not recorded: {file}: {exc}", file=sys.stderr, flush=True)


def _quiet_files(folder: Path) -> Iterator[Path]:
    now = time.time()
    for file in sorted(folder.rglob("*.ts")):
        try:
            if now - file.stat().st_mtime >= QUIET_S:
                yield file
        except FileNotFoundError:
            continue  # deleted meanwhile
