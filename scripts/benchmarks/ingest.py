"""How soon a closed file is in the journal, at fifty segments a second."""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from scripts.benchmarks import fakerecorder
from scripts.benchmarks.events import following
from scripts.benchmarks.footage import small_film
from scripts.benchmarks.host import Host, recorder, started
from scripts.benchmarks.results import LATENCY_COLUMNS, Sample, Table, latency_row

RATE = 50.0
ABOUT = (
    "A hundred cameras close fifty 2-second segments of 100 kB a second into folders that exist. The clock"
    " of each runs from just before its writer's close(2) until the word of its registration, sent after"
    " the commit, reaches a client of `/events`: so it includes inotify, the probe, the fsync and the way"
    " over HTTP. Meanwhile every segment is delivered (backend FILESYSTEM, same disk).",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run: seconds from close to word for each file."""

    repetition: int
    latencies_s: tuple[float, ...]
    cpu_share: float  # of one core, the whole daemon


def measure(seconds: float, repetitions: int, say: Callable[[str], None]) -> list[Measured]:
    return [_one(seconds, repetition, say) for repetition in range(repetitions)]


def tables(measured: Sequence[Measured]) -> tuple[Table, ...]:
    rows = [
        latency_row(f"run {each.repetition + 1}", each.latencies_s, f"{each.cpu_share:.0%}")
        for each in measured
    ]
    every = [latency_s for each in measured for latency_s in each.latencies_s]
    mean_share = sum(each.cpu_share for each in measured) / len(measured)
    rows.append(latency_row("all", every, f"{mean_share:.0%}"))
    return (
        Table(
            title=f"closed → journalled at {RATE:g} segments/s (aim: 20/100 ms)",
            columns=(*LATENCY_COLUMNS, "CPU of one core"),
            rows=tuple(rows),
        ),
    )


def samples(measured: Sequence[Measured]) -> tuple[Sample, ...]:
    return tuple(
        {"repetition": each.repetition, "latency_ms": round(latency_s * 1000, 3)}
        for each in measured
        for latency_s in each.latencies_s
    )


def _one(seconds: float, repetition: int, say: Callable[[str], None]) -> Measured:
    with tempfile.TemporaryDirectory(prefix="cctv-bench-") as name:
        folder = Path(name)
        root, film, ledger = folder / "recordings", folder / "film.ts", folder / "ledger"
        film.write_bytes(small_film())
        fakerecorder.make_folders(root)
        with started(folder, {"recorders": recorder(root)}) as host:
            _settled()
            before = host.now()
            with following(host.daemon.url) as arrivals:
                with fakerecorder.recording(root, film, RATE, seconds, ledger):
                    pass
                closed_at = fakerecorder.read_ledger(ledger)
                _wait_for(arrivals.at, len(closed_at))
            spent = host.now()
        paths = _paths(host)
    latencies = tuple(at - closed_at[paths[segment_id]] for segment_id, at in arrivals.at.items())
    share = (spent.cpu_s - before.cpu_s) / (spent.monotonic_s - before.monotonic_s)
    say(f"run {repetition + 1}: {len(latencies)} segments")
    return Measured(repetition=repetition, latencies_s=latencies, cpu_share=share)


def _settled() -> None:
    """The first scan of empty folders is over and the watches are set."""
    time.sleep(3)


def _wait_for(arrivals: dict[str, float], count: int) -> None:
    end = time.monotonic() + 60
    while len(arrivals) < count:
        if time.monotonic() > end:
            raise RuntimeError(f"word of {len(arrivals)} segments, {count} were written")
        time.sleep(0.05)


def _paths(host: Host) -> dict[str, str]:
    """Segment id to path below the root, read from the closed journal."""
    query = "SELECT segment.id, folder.path, name FROM segment JOIN folder ON folder.no = folder_no"
    with host.daemon.journal() as journal:
        return {
            str(UUID(bytes=segment_id)): f"{folder.decode()}/{name.decode()}"
            for segment_id, folder, name in journal.execute(query)
        }
