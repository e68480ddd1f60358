"""How long a start takes until every known file has been looked at."""

import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cctv_storaged.clock import to_us
from cctv_storaged.journal.rows import signed as signed_64
from cctv_storaged.model import FileIdentity, SourceFile, camera_id_for, segment_id_for
from scripts.benchmarks.filling import filling
from scripts.benchmarks.footage import FIRST, signed
from scripts.benchmarks.host import Settings, recorder, started
from scripts.benchmarks.results import Sample, Table, median
from tests.footage import cached_ts

HOST = "bench"
SEGMENT = timedelta(seconds=10)
PER_DAY = 8640
ABOUT = (
    "Files of ten seconds each, a folder for each camera and day with at most 8640 of them, all of them in"
    " the journal (filled by SQL, see `scripts/benchmarks/filling.py`) and delivered. The clock runs from"
    " the start of the process until the log says that the first scan is done. That it was the scan is"
    " shown by one more file, written to the last folder while the daemon was down, which the scan must"
    " register and no other. The file system's cache is warm.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One start."""

    files: int
    repetition: int
    wall_s: float  # process start to the end of the first scan
    ready_s: float  # process start to ready, of this
    scan_s: float  # the scan alone, as the daemon's metric says
    cpu_s: float
    peak_bytes: int


def measure(count: int, repetitions: int, say: Callable[[str], None]) -> list[Measured]:
    with tempfile.TemporaryDirectory(prefix="cctv-bench-") as name:
        folder = Path(name)
        root = folder / "recordings"
        root.mkdir()
        settings: Settings = {
            "host_id": HOST,
            "recorders": recorder(root),
            "source": {"prune": "never"},
        }
        with started(folder, settings):
            pass  # makes the journal
        film = cached_ts(seconds=1, size="64x36", rate=5).read_bytes()
        say(f"writing {count} files")
        paths = _write_files(root, film, count)
        _register(folder / "data" / "journal.db", root, paths)
        measured = []
        for repetition in range(repetitions):
            _write(root, film, paths[-1].with_name(f"23-59-{51 + repetition % 9}.ts"))
            measured.append(_one(folder, settings, count, repetition))
            say(f"start {repetition + 1}: {measured[-1].wall_s:.2f} s")
        return measured


def tables(measured: Sequence[Measured]) -> tuple[Table, ...]:
    rows = tuple(
        (
            f"start {each.repetition + 1}",
            f"{each.wall_s:.2f}",
            f"{each.ready_s:.2f}",
            f"{each.scan_s:.2f}",
            f"{each.cpu_s:.2f}",
            f"{each.peak_bytes / 1e6:.0f}",
        )
        for each in measured
    )
    middle = median([each.wall_s for each in measured])
    return (
        Table(
            title=f"start with {measured[0].files} known files: median {middle:.2f} s (aim at 100000: 5 s)",
            columns=("", "until scanned s", "until ready s", "the scan s", "CPU s", "peak MB"),
            rows=rows,
        ),
    )


def samples(measured: Sequence[Measured]) -> tuple[Sample, ...]:
    return tuple(
        {
            "files": each.files,
            "repetition": each.repetition,
            "wall_s": round(each.wall_s, 3),
            "ready_s": round(each.ready_s, 3),
            "scan_s": round(each.scan_s, 3),
            "cpu_s": each.cpu_s,
            "peak_bytes": each.peak_bytes,
        }
        for each in measured
    )


def _one(folder: Path, settings: Settings, count: int, repetition: int) -> Measured:
    with started(folder, settings, ready=False) as host:
        ready = host.wait_for(b"ready: API at ")
        done = host.wait_for(b" registered 1 files")
        host.daemon.wait_ready()
        return Measured(
            files=count,
            repetition=repetition,
            wall_s=done.monotonic_s - host.started,
            ready_s=ready.monotonic_s - host.started,
            scan_s=host.daemon.metric("storage_scan_seconds"),
            cpu_s=done.cpu_s,
            peak_bytes=host.peak_bytes(),
        )


def _places(count: int) -> Iterator[Path]:
    """Day after day of one camera after the other: as many cameras as days fill up."""
    for number in range(count):
        camera_day, within = divmod(number, PER_DAY)
        start = FIRST + timedelta(days=camera_day // 4) + SEGMENT * within
        yield Path(f"cam{camera_day % 4}/{start:%Y-%m-%d}/{start:%H-%M-%S}.ts")


def _write_files(root: Path, film: bytes, count: int) -> list[Path]:
    """In the order in which a scan comes to their folders."""
    paths = sorted(_places(count))
    for folder in dict.fromkeys(path.parent for path in paths):
        (root / folder).mkdir(parents=True)
    for path in paths:
        _write(root, film, path)
    os.sync()
    return paths


def _write(root: Path, film: bytes, path: Path) -> None:
    (root / path).write_bytes(signed(film, str(path)))


def _register(journal: Path, root: Path, paths: Sequence[Path]) -> None:
    """Rows as the daemon would have written them: present, delivered, verified."""
    cameras = {name: number for number, name in enumerate(sorted({path.parts[0] for path in paths}), start=1)}
    folders = {
        folder: number for number, folder in enumerate(dict.fromkeys(p.parent for p in paths), start=1)
    }
    with filling(journal) as db:
        db.executemany(
            "INSERT INTO camera (no, id, name, folder) VALUES (?, ?, ?, ?)",
            [(no, camera_id_for(HOST, name).bytes, name, name.encode()) for name, no in cameras.items()],
        )
        db.executemany(
            "INSERT INTO folder (no, root, path) VALUES (?, ?, ?)",
            [(no, os.fsencode(root), os.fsencode(folder)) for folder, no in folders.items()],
        )
        for no, path in enumerate(paths, start=1):
            _insert(db, no, root, path, cameras[path.parts[0]], folders[path.parent])


def _insert(db: sqlite3.Connection, no: int, root: Path, path: Path, camera_no: int, folder_no: int) -> None:
    status = (root / path).stat()
    identity = FileIdentity(
        device=status.st_dev, inode=status.st_ino, size_bytes=status.st_size, mtime_ns=status.st_mtime_ns
    )
    segment_id = segment_id_for(HOST, SourceFile(root=str(root), path=str(path), identity=identity))
    start = datetime.strptime("/".join(path.parts[1:]), "%Y-%m-%d/%H-%M-%S.ts").replace(tzinfo=UTC)
    start_us, closed_us = to_us(start), status.st_mtime_ns // 1000
    db.execute(
        """INSERT INTO segment (no, id, camera_no, start_us, end_us, folder_no, name, device, inode,
                                size_bytes, mtime_ns, codec, sha256, created_us, settled_us)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'h264', randomblob(32), ?, ?)""",
        (
            no,
            segment_id.bytes,
            camera_no,
            start_us,
            to_us(start + SEGMENT),
            folder_no,
            os.fsencode(path.name),
            signed_64(identity.device),
            signed_64(identity.inode),
            identity.size_bytes,
            identity.mtime_ns,
            closed_us,
            closed_us,
        ),
    )
    db.execute(
        """INSERT INTO copy (segment_no, backend, state, path, start_us, size_bytes, stored_us, verified_us)
           VALUES (?, 'FILESYSTEM', 'verified', ?, ?, ?, ?, ?)""",
        (no, str(path), start_us, identity.size_bytes, closed_us, closed_us),
    )
