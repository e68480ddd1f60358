"""An hour's export beside bare `ffmpeg -f concat -c copy` on the same files, turn by turn."""

import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote

from cctv_storaged.clock import rfc3339
from cctv_storaged.model import TimeSpan, camera_id_for
from scripts.benchmarks.asking import Client, client
from scripts.benchmarks.family import watched
from scripts.benchmarks.host import Host
from scripts.benchmarks.hour import CAMERA, Hour
from scripts.benchmarks.results import PROJECT, Cells, Sample, Table, median
from scripts.benchmarks.usage import Taken, children_cpu_seconds, run_measured

HOST = "bench"
CONCAT, PROVEN, JOIN, EXPORT = (
    "ffmpeg concat",
    "ffmpeg concat, sync, sha256sum",
    "the daemon's joining alone",
    "POST /exports until COMPLETED",
)
PHASES = ("until ffmpeg runs", "joining", "checking, sync, hash", "shelf and journal")
ABOUT = (
    "*An hour*: every contender makes one MP4 of the same files, in turn, and what it made must last as long"
    " as the footage. `ffmpeg concat` is `ffmpeg -f concat -safe 0 -i list -c copy`, from process start to"
    " exit; with `sync, sha256sum` it does what an export does, too: the file is on the disk and its hash is"
    " known. `the daemon's joining alone` is `cctv_storaged.media.join.join` in a process of its own, without"
    " the interpreter's start: the like of `ffmpeg concat`, and it checks what came out. `POST /exports` runs"
    " from before the request until the log says COMPLETED: also fsync, SHA-256, the put into the exports'"
    " folder (backend FILESYSTEM, same disk: a link), and the journal. The daemon's ffmpeg is nice. Memory is"
    " the peak of resident memory: of Python, of the largest child (`joining alone`: of the larger of both),"
    " and of all of the daemon's processes at the same moment.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One contender's turn; phases are the export's alone."""

    contender: str
    repetition: int
    wall_s: float
    cpu_s: float
    child_cpu_s: float | None
    peak_bytes: int
    child_peak_bytes: int | None
    together_bytes: int | None
    phases_s: tuple[float, ...] = ()


def measure(host: Host, hour: Hour, repetitions: int, say: Callable[[str], None]) -> Iterator[Run]:
    """Everyone in turn, so many times."""
    contenders: Sequence[Callable[[Host, Hour, int], Run]] = (_concat, _export, _proven, _join)
    for repetition in range(repetitions):
        for contender in contenders:
            os.sync()  # what the one before left to be written is not this one's burden
            run = contender(host, hour, repetition)
            say(f"{run.contender}: {run.wall_s:.2f} s, {run.cpu_s:.2f} CPU s")
            yield run


def wish(span: TimeSpan, reason: str) -> Mapping[str, object]:
    """What is posted to have an MP4 of a span of the camera."""
    return {
        "camera_ids": [str(camera_id_for(HOST, CAMERA))],
        "start_time": rfc3339(span.start),
        "end_time": rfc3339(span.end),
        "format": "mp4",
        "reason": reason,
    }


# The contenders


def _concat(host: Host, hour: Hour, repetition: int) -> Run:
    return _ffmpeg(CONCAT, hour, repetition, lambda argv, out: argv)


def _proven(host: Host, hour: Hour, repetition: int) -> Run:
    def also(argv: Sequence[str], out: Path) -> Sequence[str]:
        file = shlex.quote(str(out))
        return ["sh", "-c", f"{shlex.join(argv)} && sync {file} && sha256sum {file}"]

    return _ffmpeg(PROVEN, hour, repetition, also)


def _ffmpeg(
    name: str, hour: Hour, repetition: int, form: Callable[[Sequence[str], Path], Sequence[str]]
) -> Run:
    with tempfile.TemporaryDirectory(prefix="cctv-bench-") as scratch:
        files, out = Path(scratch, "list"), Path(scratch, "out.mp4")
        files.write_text("".join(f"file '{file}'\n" for file in hour.files))
        argv = ["ffmpeg", "-nostdin", "-v", "error", "-f", "concat", "-safe", "0", "-i", str(files)]
        argv += ["-c", "copy", str(out)]
        taken = run_measured(form(argv, out), {"PATH": os.environ["PATH"]}, Path(scratch))
        _require_whole(out, hour)
    return _run(name, repetition, taken, taken.wall_s)


def _join(host: Host, hour: Hour, repetition: int) -> Run:
    with tempfile.TemporaryDirectory(prefix="cctv-bench-") as scratch:
        outcome, folder = Path(scratch, "seconds"), Path(scratch, "joined")
        folder.mkdir()
        argv = [sys.executable, "-m", "scripts.benchmarks.joining", str(outcome), str(folder)]
        environ = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{PROJECT / 'src'}:{PROJECT}"}
        taken = run_measured([*argv, *map(str, hour.files)], environ, Path(scratch))
        _require_whole(folder / "joined.mp4", hour)
        return _run(JOIN, repetition, taken, float(outcome.read_text()))


def _run(name: str, repetition: int, taken: Taken, wall_s: float) -> Run:
    return Run(
        contender=name,
        repetition=repetition,
        wall_s=wall_s,
        cpu_s=taken.cpu_s,
        child_cpu_s=None,
        peak_bytes=taken.peak_bytes,
        child_peak_bytes=None,
        together_bytes=None,
    )


def _export(host: Host, hour: Hour, repetition: int) -> Run:
    work, store = host.daemon.data_dir / "work" / "exports", host.daemon.store / "exports"
    with client(host.daemon.url) as asking:
        with watched(host.pid, lambda: any(work.glob("*/000.json"))) as family:
            before, children_before = host.now(), children_cpu_seconds(host.pid)
            made, _ = asking.create("/exports", wish(hour.span, f"benchmark {repetition}"))
            done = host.wait_for(f"export {made['id']} is COMPLETED".encode(), limit_s=600)
        children_cpu_s = children_cpu_seconds(host.pid) - children_before
        _require_whole(next(store.rglob("*.mp4")), hour)
        _delete(asking, str(made["id"]), store)
    joining, taken_s = family.longest(), family.noticed_s or done.monotonic_s
    moments = (before.monotonic_s, joining.first_s, joining.last_s, taken_s, done.monotonic_s)
    return Run(
        contender=EXPORT,
        repetition=repetition,
        wall_s=done.monotonic_s - before.monotonic_s,
        cpu_s=done.cpu_s - before.cpu_s,
        child_cpu_s=children_cpu_s,
        peak_bytes=family.own_peak_bytes,
        child_peak_bytes=family.child_peak_bytes,
        together_bytes=family.together_bytes,
        phases_s=tuple(until - since for since, until in pairwise(moments)),
    )


def _delete(asking: Client, export_id: str, store: Path) -> None:
    asking.ask("DELETE", f"/exports/{quote(export_id)}")
    end = time.monotonic() + 60
    while any(store.rglob("*.mp4")):
        if time.monotonic() > end:
            raise RuntimeError(f"export {export_id} was deleted and is still there")
        time.sleep(0.05)


def _require_whole(file: Path, hour: Hour) -> None:
    argv = ["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", str(file)]
    said = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout
    wanted_s = hour.span.duration.total_seconds()
    if abs(float(said) - wanted_s) > 2:
        raise RuntimeError(f"{file} lasts {said.strip()} s instead of {wanted_s:.0f} s")


# The tables


def tables(hour: str, runs: Sequence[Run]) -> tuple[Table, ...]:
    exports = [run for run in runs if run.contender == EXPORT]
    phases = [(name, median([run.phases_s[place] for run in exports])) for place, name in enumerate(PHASES)]
    return (
        Table(
            title=f"one MP4 of {hour}, median of {len(exports)} (aims: 1.15 × ffmpeg concat, 150 MB each)",
            columns=(
                *("", "wall s", "× concat", "× with sync, sha256sum", "CPU s", "of it ffmpeg's"),
                *("peak MB", "ffmpeg's peak MB", "together MB"),
            ),
            rows=tuple(_row(runs, name) for name in (CONCAT, PROVEN, JOIN, EXPORT)),
        ),
        Table(
            title="where an export's time goes (seen from outside, to a fiftieth of a second)",
            columns=("", "s"),
            rows=tuple((name, f"{seconds:.2f}") for name, seconds in phases),
        ),
    )


def _row(runs: Sequence[Run], name: str) -> Cells:
    own = [run for run in runs if run.contender == name]
    wall_s = _wall_s(runs, name)
    child_cpus = [run.child_cpu_s for run in own if run.child_cpu_s is not None]
    return (
        name,
        f"{wall_s:.2f}",
        f"{wall_s / _wall_s(runs, CONCAT):.2f}",
        f"{wall_s / _wall_s(runs, PROVEN):.2f}",
        f"{median([run.cpu_s for run in own]):.2f}",
        f"{median(child_cpus):.2f}" if child_cpus else "",
        f"{max(run.peak_bytes for run in own) / 1e6:.0f}",
        *(
            f"{max(known) / 1e6:.0f}" if known else ""
            for known in (
                [run.child_peak_bytes for run in own if run.child_peak_bytes is not None],
                [run.together_bytes for run in own if run.together_bytes is not None],
            )
        ),
    )


def _wall_s(runs: Sequence[Run], name: str) -> float:
    return median([run.wall_s for run in runs if run.contender == name])


def samples(runs: Sequence[Run]) -> Iterator[Sample]:
    for run in runs:
        figures: dict[str, str | float | None] = {
            "contender": run.contender,
            "repetition": run.repetition,
            "wall_s": round(run.wall_s, 3),
            "cpu_s": round(run.cpu_s, 3),
            "child_cpu_s": run.child_cpu_s,
            "peak_bytes": run.peak_bytes,
            "child_peak_bytes": run.child_peak_bytes,
            "together_bytes": run.together_bytes,
            **{name: round(taken_s, 3) for name, taken_s in zip(PHASES, run.phases_s, strict=False)},
        }
        yield {name: figure for name, figure in figures.items() if figure is not None}
