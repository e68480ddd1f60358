"""A fleet of recorders in a process of its own: closes segments at a steady rate and notes when.

`python -m scripts.benchmarks.fakerecorder ROOT FILM RATE SECONDS LEDGER`: a hundred cameras, each in its own
folder, write FILM (with bytes of their own each time) under the final name. LEDGER gets a line per file: its
path below ROOT and the monotonic time just before it was closed, which all processes of a host share.
"""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from scripts.benchmarks.footage import FIRST, signed
from scripts.benchmarks.results import PROJECT

CAMERAS = 100
SEGMENT = timedelta(seconds=2)


def make_folders(root: Path) -> None:
    """The day's folders, as recorders make them once a day."""
    for camera in range(CAMERAS):
        (root / f"cam{camera:03}" / f"{FIRST:%Y-%m-%d}").mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def recording(root: Path, film: Path, rate: float, seconds: float, ledger: Path) -> Iterator[None]:
    """Recorders at work within the block; it ends when they have ended, or ends them if it fails."""
    argv = [sys.executable, "-m", "scripts.benchmarks.fakerecorder", str(root), str(film)]
    process = subprocess.Popen([*argv, str(rate), str(seconds), str(ledger)], cwd=PROJECT)
    try:
        yield
        if process.wait(seconds + 60) != 0:
            raise RuntimeError(f"the recorders ended with {process.returncode}")
    finally:
        process.kill()
        process.wait()


def read_ledger(ledger: Path) -> dict[str, float]:
    """Path to the time it was closed."""
    lines = (line.rsplit(" ", 1) for line in ledger.read_text().splitlines())
    return {path: float(closed_at) for path, closed_at in lines}


def record(root: Path, film: bytes, rate: float, seconds: float, ledger: Path) -> None:
    """Writes `rate` files a second, none before its time."""
    started = time.monotonic()
    with ledger.open("w") as lines:
        for number in range(round(rate * seconds)):
            start = FIRST + SEGMENT * (number // CAMERAS)
            path = f"cam{number % CAMERAS:03}/{start:%Y-%m-%d}/{start:%H-%M-%S}.ts"
            data = signed(film, path)
            time.sleep(max(0.0, started + number / rate - time.monotonic()))
            with (root / path).open("wb", buffering=0) as file:
                file.write(data)
                closed_at = time.monotonic()
            lines.write(f"{path} {closed_at}\n")


if __name__ == "__main__":
    record(
        Path(sys.argv[1]),
        Path(sys.argv[2]).read_bytes(),
        float(sys.argv[3]),
        float(sys.argv[4]),
        Path(sys.argv[5]),
    )
