"""What a process takes: CPU seconds and resident memory, as the kernel counts them."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_LAUNCHER = Path(__file__).with_name("measured.py")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_LIMIT_S = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What a piece of work took."""

    wall_s: float
    cpu_s: float  # user and system, of the process and its children
    peak_bytes: int  # resident


def run_measured(argv: Sequence[str], environ: Mapping[str, str], scratch: Path) -> Taken:
    """Runs a program to its end. Raises RuntimeError with its last words if it fails."""
    outcome, words = scratch / "outcome", scratch / "words"
    with words.open("wb") as log:
        subprocess.run(
            [sys.executable, "-I", "-S", str(_LAUNCHER), str(outcome), *argv],
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=True,
            timeout=_LIMIT_S,
        )
    code, wall_s, user_s, system_s, peak_kib = outcome.read_text().split()
    if code != "0":
        raise RuntimeError(f"{argv[0]} ended with {code}:\n{words.read_text(errors='replace')[-4000:]}")
    return Taken(wall_s=float(wall_s), cpu_s=float(user_s) + float(system_s), peak_bytes=int(peak_kib) * 1024)


def cpu_seconds(pid: int) -> float:
    """User and system time of a running process so far, with its reaped children (proc(5))."""
    return sum(_cpu_fields(pid)) / _TICKS_PER_S


def children_cpu_seconds(pid: int) -> float:
    """Of its reaped children alone."""
    return sum(_cpu_fields(pid)[2:]) / _TICKS_PER_S


def _cpu_fields(pid: int) -> list[int]:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return [int(field) for field in fields[11:15]]


def peak_bytes(pid: int) -> int:
    """The largest resident memory of a running process so far."""
    return _status_bytes(pid, "VmHWM")


def forget_peak(pid: int) -> None:
    """`peak_bytes` counts from now on (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def resident_bytes(pid: int) -> int:
    return _status_bytes(pid, "VmRSS")


def child_pids(pid: int) -> list[int]:
    """The children it has now, whichever of its threads made them."""
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found += map(int, (thread / "children").read_text().split())
    return found


def _status_bytes(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"process {pid} has ended")
