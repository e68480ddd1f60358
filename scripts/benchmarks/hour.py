"""An hour of a camera: 4 Mbit/s of H.264 with AAC, in files of ten seconds whose clock goes on.

A minute is encoded once and kept in build/bench; a recorder (ffmpeg's `segment`) writes it over and over.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cctv_storaged.model import TimeSpan
from scripts.benchmarks.footage import FIRST
from scripts.benchmarks.results import FOLDER

SEGMENT = timedelta(seconds=10)
CAMERA = "hour"
FILM_S = 60
_ENCODED = (
    *("-f", "lavfi", "-i", "testsrc2=size=1920x1080:rate=25,noise=alls=12:allf=t"),
    *("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=32000", "-t", str(FILM_S), "-map_metadata", "-1"),
    *("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-bf", "0"),
    *("-g", "50", "-keyint_min", "50", "-sc_threshold", "0"),
    *("-b:v", "3900k", "-minrate", "3900k", "-maxrate", "3900k", "-bufsize", "3900k"),
    *("-c:a", "aac", "-b:a", "64k", "-f", "mpegts"),
)
_LIMIT_S = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Hour:
    """What was recorded; less than an hour in a hurry."""

    root: Path
    files: tuple[Path, ...]  # in order
    total_bytes: int

    @property
    def span(self) -> TimeSpan:
        return TimeSpan(FIRST, FIRST + SEGMENT * len(self.files))

    def __str__(self) -> str:
        return f"{len(self.files)} × {SEGMENT.seconds} s ({self.total_bytes / 1e6:.0f} MB)"


def write_hour(root: Path, count: int) -> Hour:
    """`count` files below `root` in the layout `{camera}/%Y-%m-%d/%H-%M-%S.ts`, on the disk."""
    raw = root.parent / "raw"
    raw.mkdir()
    length_s = count * SEGMENT.seconds
    _ffmpeg(
        *("-stream_loop", str(length_s // FILM_S), "-i", str(_film()), "-t", str(length_s), "-map", "0"),
        *("-c", "copy", "-f", "segment", "-segment_format", "mpegts", "-segment_time", str(SEGMENT.seconds)),
        str(raw / "%04d.ts"),
    )
    cut = sorted(raw.iterdir())[:count]
    files = tuple(_named(root, file, FIRST + SEGMENT * number) for number, file in enumerate(cut))
    shutil.rmtree(raw)
    os.sync()
    if len(files) != count:
        raise RuntimeError(f"{len(files)} files were cut instead of {count}")
    return Hour(root=root, files=files, total_bytes=sum(file.stat().st_size for file in files))


def _named(root: Path, file: Path, start: datetime) -> Path:
    path = root / CAMERA / f"{start:%Y-%m-%d}" / f"{start:%H-%M-%S}.ts"
    path.parent.mkdir(parents=True, exist_ok=True)
    file.rename(path)
    ended = (start + SEGMENT).timestamp()
    os.utime(path, (ended, ended))
    return path


def _film() -> Path:
    path = FOLDER / "film.ts"
    if not path.exists():
        part = path.with_suffix(".part")
        _ffmpeg(*_ENCODED, str(part))
        part.rename(path)
    return path


def _ffmpeg(*arguments: str) -> None:
    argv = ["ffmpeg", "-nostdin", "-v", "error", "-y", *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=_LIMIT_S)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}\n{done.stderr[-4000:]}")
