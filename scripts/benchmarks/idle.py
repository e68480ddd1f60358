"""What the daemon takes when nothing happens."""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from scripts.benchmarks.footage import FIRST, signed, small_film
from scripts.benchmarks.host import VERIFIED, recorder, started
from scripts.benchmarks.results import Sample, Table
from scripts.benchmarks.usage import resident_bytes

FOLDERS = 200
FILES_EACH = 5
SETTLE_S = 15.0
ABOUT = (
    f"{FOLDERS} watched folders with {FILES_EACH} delivered files each, one recorder root scanned every"
    " 30 s, backend FILESYSTEM, no client. CPU is user and system time over the period, as a share of one"
    " core; it is counted in hundredths of a second.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One period of quiet."""

    repetition: int
    seconds: float
    cpu_s: float
    resident_bytes: int
    peak_bytes: int


def measure(seconds: float, repetitions: int, say: Callable[[str], None]) -> list[Measured]:
    with tempfile.TemporaryDirectory(prefix="cctv-bench-") as name:
        folder = Path(name)
        root = folder / "recordings"
        _write_files(root)
        with started(folder, {"recorders": recorder(root)}) as host:
            host.wait_for(VERIFIED, FOLDERS * FILES_EACH)
            time.sleep(SETTLE_S)
            measured = []
            for repetition in range(repetitions):
                before = host.now()
                time.sleep(seconds)
                after = host.now()
                measured.append(
                    Measured(
                        repetition=repetition,
                        seconds=after.monotonic_s - before.monotonic_s,
                        cpu_s=after.cpu_s - before.cpu_s,
                        resident_bytes=resident_bytes(host.pid),
                        peak_bytes=host.peak_bytes(),
                    )
                )
                say(f"period {repetition + 1}: {measured[-1].cpu_s:.2f} CPU s")
        return measured


def tables(measured: Sequence[Measured]) -> tuple[Table, ...]:
    rows = tuple(
        (
            f"period {each.repetition + 1}",
            f"{each.seconds:.0f}",
            f"{each.cpu_s:.2f}",
            f"{each.cpu_s / each.seconds:.2%}",
            f"{each.resident_bytes / 1e6:.0f}",
            f"{each.peak_bytes / 1e6:.0f}",
        )
        for each in measured
    )
    return (
        Table(
            title=f"idle with {FOLDERS} watched folders (aim: below 1 % of a core)",
            columns=("", "seconds", "CPU s", "of one core", "resident MB", "peak MB"),
            rows=rows,
        ),
    )


def samples(measured: Sequence[Measured]) -> tuple[Sample, ...]:
    return tuple(
        {
            "repetition": each.repetition,
            "seconds": round(each.seconds, 1),
            "cpu_s": round(each.cpu_s, 2),
            "resident_bytes": each.resident_bytes,
            "peak_bytes": each.peak_bytes,
        }
        for each in measured
    )


def _write_files(root: Path) -> None:
    film = small_film()
    for number in range(FOLDERS):
        day = FIRST + timedelta(days=number % 10)
        folder = root / f"cam{number // 10:02}" / f"{day:%Y-%m-%d}"
        folder.mkdir(parents=True)
        for minute in range(FILES_EACH):
            path = folder / f"12-{minute:02}-00.ts"
            path.write_bytes(signed(film, str(path.relative_to(root))))
