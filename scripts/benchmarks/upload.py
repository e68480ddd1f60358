"""The daemon beside `s5cmd`, `rclone` and `aws`: the same files, the same server, four at a time."""

import itertools
import os
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from scripts.benchmarks.footage import LARGE, MEDIUM, SMALL, FileSet, write_set
from scripts.benchmarks.host import (
    BACKEND_ANSWERED,
    JOURNALLED,
    VERIFIED,
    Host,
    Moment,
    Settings,
    recorder,
    started,
)
from scripts.benchmarks.peers import PARALLEL, PEERS, Peer
from scripts.benchmarks.results import Cells, Sample, Table, median
from scripts.benchmarks.server import REGION, Store, running_store
from scripts.benchmarks.usage import Taken, run_measured

DELIVERED, FROM_START = "daemon {}", "daemon {}, from its start"
ABOUT = (
    "Every contender brings the same folder of files into a fresh bucket of the same server, with four"
    " requests at a time, and gets its turn in rotated order. Wall time and CPU (user and system) are the"
    " contender's, not the server's, which shares the machine's cores with it. Medians of the repetitions."
    " Afterwards the bucket must hold every file and byte, or the run fails.",
    "`daemon S3` (boto3) and `daemon MINIO` (minio): what compares with a copy of a folder. The files stand"
    " in the journal; the clock runs from the moment the backend answered its probe until the last copy is"
    " *verified*. That includes what the others do not do: a HEAD of every object that proves its SHA-256,"
    " a read-back of one object in a hundred, and a durable commit (fsync) to the journal for each."
    " `from its start` runs from the start of the process with an empty journal: the interpreter,"
    " finding and probing every file, its journal row, the backend's probe, and then all of the above.",
    "The others run from process start to exit. `s5cmd` and `aws` put only; `rclone` also asks for each"
    " object after the put. All leave their defaults but for the four at a time, and `s5cmd`, `rclone`: one"
    " part of a large file at a time, as the daemon does. Memory is the peak of resident memory.",
    "Aims: wall at most 1.0 × the fastest peer, CPU at most 0.5 × s5cmd's, at most 120 MB.",
)

Run = Callable[[Path, Store, str, FileSet], Taken]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """Whoever takes part, and how it is run: files' folder, server, bucket, what the folder holds."""

    name: str
    run: Run
    is_peer: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run of one contender."""

    files: FileSet
    contender: str
    repetition: int
    taken: Taken
    server_cpu_s: float


def sets(*, quick: bool) -> tuple[FileSet, ...]:
    """What is delivered; a tenth of it in a hurry."""
    whole = (MEDIUM, SMALL, LARGE)
    return tuple(replace(files, count=max(1, files.count // 10)) for files in whole) if quick else whole


def measure(files: Sequence[FileSet], repetitions: int, say: Callable[[str], None]) -> list[Measured]:
    """Every contender on every set, so many times."""
    with running_store() as store:
        return list(itertools.chain.from_iterable(_of_set(store, each, repetitions, say) for each in files))


def tables(measured: Sequence[Measured]) -> tuple[Table, ...]:
    """One table for each set of files."""
    found = dict.fromkeys(each.files for each in measured)
    return tuple(_table(files, [each for each in measured if each.files == files]) for files in found)


def samples(measured: Sequence[Measured]) -> tuple[Sample, ...]:
    return tuple(
        {
            "files": str(each.files),
            "contender": each.contender,
            "repetition": each.repetition,
            "wall_s": round(each.taken.wall_s, 3),
            "cpu_s": round(each.taken.cpu_s, 3),
            "peak_bytes": each.taken.peak_bytes,
            "server_cpu_s": round(each.server_cpu_s, 2),
        }
        for each in measured
    )


def versions() -> tuple[tuple[str, str], ...]:
    return tuple((peer.name.split()[0], peer.version()) for peer in PEERS)


def _of_set(store: Store, files: FileSet, repetitions: int, say: Callable[[str], None]) -> Iterator[Measured]:
    with tempfile.TemporaryDirectory(prefix="cctv-bench-") as name:
        folder = Path(name) / "files"
        write_set(files, folder)
        for repetition in range(repetitions):
            for contender in _rotated(repetition):
                measured = _one(store, contender, folder, files, repetition)
                taken = measured.taken
                say(f"{files}  {contender.name}: {taken.wall_s:.2f} s, {taken.cpu_s:.2f} CPU s")
                yield measured


def _rotated(repetition: int) -> list[Contender]:
    everyone = [
        *(_daemon(kind, from_start=False) for kind in ("S3", "MINIO")),
        *(_peer(peer) for peer in PEERS),
        *(_daemon(kind, from_start=True) for kind in ("S3", "MINIO")),
    ]
    first = repetition * 2 % len(everyone)
    return everyone[first:] + everyone[:first]


def _one(store: Store, contender: Contender, folder: Path, files: FileSet, repetition: int) -> Measured:
    os.sync()  # what the one before left to be written is not this one's burden
    with store.bucket("bench") as bucket:
        server_before = store.cpu_seconds()
        taken = contender.run(folder, store, bucket, files)
        server_cpu_s = store.cpu_seconds() - server_before
        _require_complete(store, bucket, files, contender.name)
    return Measured(
        files=files,
        contender=contender.name,
        repetition=repetition,
        taken=taken,
        server_cpu_s=server_cpu_s,
    )


def _require_complete(store: Store, bucket: str, files: FileSet, contender: str) -> None:
    found, wanted = store.content(bucket), (files.count, files.total_bytes)
    if found != wanted:
        raise RuntimeError(f"{contender} left {found} objects and bytes in the bucket instead of {wanted}")


# The contenders


def _peer(peer: Peer) -> Contender:
    def run(folder: Path, store: Store, bucket: str, files: FileSet) -> Taken:
        with tempfile.TemporaryDirectory(prefix="cctv-bench-") as scratch:
            command = peer.command(folder, store, bucket)
            return run_measured(command, peer.environ(store, Path(scratch)), Path(scratch))

    return Contender(name=peer.name, run=run, is_peer=True)


def _daemon(kind: str, *, from_start: bool) -> Contender:
    def run(folder: Path, store: Store, bucket: str, files: FileSet) -> Taken:
        with tempfile.TemporaryDirectory(prefix="cctv-bench-") as home:
            settings = _settings(kind, store, bucket, folder)
            measure = _from_start if from_start else _delivered
            return measure(Path(home), settings, files.count)

    name = FROM_START if from_start else DELIVERED
    return Contender(name=name.format(kind), run=run, is_peer=False)


def _from_start(home: Path, settings: Settings, count: int) -> Taken:
    with started(home, settings, ready=False) as host:
        done = host.wait_for(VERIFIED, count)
        return _taken(host, Moment(host.started, 0.0), done)


def _delivered(home: Path, settings: Settings, count: int) -> Taken:
    """Everything is journalled while the delivery window is closed; then it opens (SIGHUP)."""
    now = datetime.now(UTC)
    closed, open_now = _window(now + timedelta(hours=12)), _window(now)
    with started(home, {**settings, "delivery": _delivery(closed)}) as host:
        host.wait_for(JOURNALLED, count)
        os.sync()
        config = host.daemon.config
        config.write_text(config.read_text().replace(closed, open_now))
        host.daemon.signal(signal.SIGHUP)
        begun = host.wait_for(BACKEND_ANSWERED)
        done = host.wait_for(VERIFIED, count)
        return _taken(host, begun, done)


def _taken(host: Host, begun: Moment, done: Moment) -> Taken:
    return Taken(
        wall_s=done.monotonic_s - begun.monotonic_s,
        cpu_s=done.cpu_s - begun.cpu_s,
        peak_bytes=host.peak_bytes(),
    )


def _settings(kind: str, store: Store, bucket: str, folder: Path) -> Settings:
    keys = {"access_key": store.access_key, "secret_key": store.secret_key, "bucket_recordings": bucket}
    block: dict[str, object] = {
        "S3": {**keys, "endpoint_url": store.url, "region": REGION},
        "MINIO": {**keys, "endpoint": store.endpoint, "region": REGION},
    }
    return {
        "backend": kind,
        kind.lower(): block[kind],
        "delivery": _delivery(None),
        "recorders": recorder(folder),
    }


def _delivery(window: str | None) -> dict[str, object]:
    return {"workers": PARALLEL, "window": window}


def _window(around: datetime) -> str:
    """A delivery window of ten hours."""
    opens, closes = around - timedelta(hours=5), around + timedelta(hours=5)
    return f"{opens:%H:%M}-{closes:%H:%M}"


# The tables


def _table(files: FileSet, measured: Sequence[Measured]) -> Table:
    names = [contender.name for contender in _rotated(0)]
    peers = [contender.name for contender in _rotated(0) if contender.is_peer]
    walls = {name: median([each.taken.wall_s for each in _by(measured, name)]) for name in names}
    cpus = {name: median([each.taken.cpu_s for each in _by(measured, name)]) for name in names}
    fastest = min(walls[name] for name in peers)

    def row(name: str) -> Cells:
        runs = _by(measured, name)
        return (
            name,
            f"{walls[name]:.2f}",
            f"{walls[name] / walls[peers[0]]:.2f}",
            f"{walls[name] / fastest:.2f}",
            f"{cpus[name]:.2f}",
            f"{cpus[name] / files.total_bytes * 1e9:.1f}",
            f"{cpus[name] / cpus[peers[0]]:.2f}",
            f"{max(each.taken.peak_bytes for each in runs) / 1e6:.0f}",
            f"{median([each.server_cpu_s for each in runs]):.2f}",
        )

    return Table(
        title=f"{files} ({files.total_bytes / 1e6:.0f} MB), median of {len(_by(measured, names[0]))}",
        columns=(
            "",
            "wall s",
            "× s5cmd",
            "× fastest peer",
            "CPU s",
            "CPU ms/MB",
            "CPU × s5cmd",
            "peak MB",
            "server CPU s",
        ),
        rows=tuple(row(name) for name in names),
    )


def _by(measured: Sequence[Measured], name: str) -> list[Measured]:
    return [each for each in measured if each.contender == name]
