"""How soon the API answers: registering a segment, and a page of a hundred out of very many."""

import http.client
import json
import random
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode
from uuid import UUID

from cctv_storaged.clock import rfc3339, to_us
from cctv_storaged.model import camera_id_for
from scripts.benchmarks import fakerecorder
from scripts.benchmarks.asking import Client, client
from scripts.benchmarks.filling import filling
from scripts.benchmarks.footage import FIRST, SMALL, signed, small_film
from scripts.benchmarks.host import Host, Settings, recorder, started
from scripts.benchmarks.results import LATENCY_COLUMNS, Cells, Sample, Table, latency_row

HOST = "bench"
CAMERAS = 50
SEGMENT = timedelta(seconds=10)
PAGE = 100
WARM_UP = 50
RATE = 50.0
ABOUT = (
    "One client with one kept connection, one request after the other; the clock runs from before the"
    " request is sent until the answer is read. The journal is filled by SQL (see"
    " `scripts/benchmarks/filling.py`) with ten-second segments of 50 cameras, sources pruned, copies"
    " verified, and the file system's cache is warm.",
    "*list*: a random hour of a random camera, `limit=100`. *register*: `POST /segments` of a new 100 kB file"
    " below `api.allowed_paths`, which is opened, probed and committed to the disk; the daemon delivers it"
    " meanwhile (backend FILESYSTEM). *busy*: the same while a hundred recorders close fifty segments of"
    " 100 kB a second, which are registered and delivered, too.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Seconds from request to answer, of one kind of request in one situation."""

    rows: int
    what: str
    busy: bool
    latencies_s: tuple[float, ...]
    cpu_s: float  # of the whole daemon meanwhile


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A daemon with a full journal and what the requests are about."""

    host: Host
    rows: int
    requests: int
    folder: Path
    say: Callable[[str], None]


def measure(rows: int, requests: int, say: Callable[[str], None]) -> list[Measured]:
    with tempfile.TemporaryDirectory(prefix="cctv-bench-") as name:
        folder = Path(name)
        root, posted = folder / "recordings", folder / "posted"
        fakerecorder.make_folders(root)
        posted.mkdir()
        settings: Settings = {
            "host_id": HOST,
            "recorders": recorder(root),
            "api": {"port": 0, "allowed_paths": [str(posted)]},
        }
        with started(folder, settings):
            pass  # makes the journal
        say(f"filling the journal with {rows} segments")
        fill(folder / "data" / "journal.db", rows)
        with started(folder, settings) as host:
            say(f"ready after {time.monotonic() - host.started:.1f} s")
            bench = Bench(host=host, rows=rows, requests=requests, folder=folder, say=say)
            return [*_quiet(bench), *_busy(bench)]


def tables(measured: Sequence[Measured]) -> tuple[Table, ...]:
    title = f"{measured[0].rows} segments in the journal (aims: list 3/10 ms, register 3/15 ms)"
    columns = (*LATENCY_COLUMNS, "CPU ms each")
    return (Table(title=title, columns=columns, rows=tuple(_row(each) for each in measured)),)


def _row(each: Measured) -> Cells:
    """CPU of the whole daemon tells of a request only where nothing else happens."""
    if each.busy:
        return latency_row(f"{each.what}, busy", each.latencies_s, "")
    return latency_row(each.what, each.latencies_s, f"{each.cpu_s / len(each.latencies_s) * 1000:.2f}")


def samples(measured: Sequence[Measured]) -> tuple[Sample, ...]:
    return tuple(
        {"what": each.what, "busy": str(each.busy), "latency_ms": round(latency_s * 1000, 3)}
        for each in measured
        for latency_s in each.latencies_s
    )


def _quiet(bench: Bench) -> Iterator[Measured]:
    with client(bench.host.daemon.url) as asking:
        posted = list(_bodies(bench, "quiet"))
        yield _measured(bench, "list", _lists(bench, asking))
        yield _measured(bench, "register", _posts(asking, posted))


def _busy(bench: Bench) -> Iterator[Measured]:
    """Recorders at work for as long as the requests took in quiet, and half as long again."""
    film, ledger = bench.folder / "film.ts", bench.folder / "ledger"
    film.write_bytes(small_film())
    posted = list(_bodies(bench, "busy"))
    seconds = max(10.0, bench.requests * 0.02)
    recordings = bench.folder / "recordings"
    with (
        client(bench.host.daemon.url) as asking,
        fakerecorder.recording(recordings, film, RATE, seconds, ledger),
    ):
        time.sleep(1)
        ends = time.monotonic() + seconds - 2
        lists = _until(_lists(bench, asking), time.monotonic() + (seconds - 2) / 2)
        yield _measured(bench, "list", lists, busy=True)
        yield _measured(bench, "register", _until(_posts(asking, posted), ends), busy=True)


def _until(latencies: Iterator[float], end: float) -> Iterator[float]:
    for latency_s in latencies:
        yield latency_s
        if time.monotonic() >= end:
            return


def _measured(bench: Bench, what: str, latencies: Iterator[float], *, busy: bool = False) -> Measured:
    for _ in range(WARM_UP):
        next(latencies)
    before = bench.host.now()
    found = tuple(latencies)
    cpu_s = bench.host.now().cpu_s - before.cpu_s
    bench.say(f"{what}{', busy' if busy else ''}: {len(found)} requests")
    return Measured(rows=bench.rows, what=what, busy=busy, latencies_s=found, cpu_s=cpu_s)


# Requests


def _lists(bench: Bench, asking: Client) -> Iterator[float]:
    chance = random.Random(bench.rows)
    length_s = bench.rows // CAMERAS * int(SEGMENT.total_seconds())
    for _ in range(bench.requests + WARM_UP):
        start = FIRST + timedelta(seconds=chance.randrange(max(1, length_s - 3600)))
        span = {"start": rfc3339(start), "end": rfc3339(start + timedelta(hours=1))}
        camera = camera_id_for(HOST, f"many{chance.randrange(CAMERAS)}")
        query = urlencode({**span, "limit": PAGE})
        status, data, took_s = asking.ask("GET", f"/segments/{camera}?{query}", None)
        if status != http.client.OK or not json.loads(data)["segments"]:
            raise RuntimeError(f"a list answered {status}: {data[:500]!r}")
        yield took_s


def _posts(asking: Client, bodies: Sequence[bytes]) -> Iterator[float]:
    for body in bodies:
        status, data, took_s = asking.ask("POST", "/segments", body)
        if status != http.client.CREATED:
            raise RuntimeError(f"a registration answered {status}: {data[:500]!r}")
        yield took_s


def _bodies(bench: Bench, word: str) -> Iterator[bytes]:
    """New files, and what has to be said to register them."""
    film, camera = small_film(), camera_id_for(HOST, "posted")
    length = timedelta(seconds=SMALL.seconds)
    for number in range(bench.requests + WARM_UP):
        path = bench.folder / "posted" / f"{word}-{number:06}.ts"
        path.write_bytes(signed(film, path.name))
        start = FIRST + length * number
        yield json.dumps(_body(camera, path, start, length)).encode()


def _body(camera: UUID, path: Path, start: datetime, length: timedelta) -> Mapping[str, str | float]:
    return {
        "camera_id": str(camera),
        "start_time": rfc3339(start),
        "end_time": rfc3339(start + length),
        "file_path": str(path),
        "size_bytes": path.stat().st_size,
        "duration_seconds": length.total_seconds(),
    }


# Rows


def fill(journal: Path, rows: int, first: datetime = FIRST) -> None:
    """`rows` segments of CAMERAS cameras, one after the other without a gap, in the order of time."""
    with filling(journal) as db:
        db.executemany(
            "INSERT INTO camera (no, id, name, folder) VALUES (?, ?, ?, ?)",
            [
                (no + 1, camera_id_for(HOST, f"many{no}").bytes, f"many{no}", f"many{no}".encode())
                for no in range(CAMERAS)
            ],
        )
        parameters = {"rows": rows, "cameras": CAMERAS, "first_us": to_us(first)}
        for statement in (_FOLDERS, _SEGMENTS, _COPIES):
            _execute(db, statement, parameters)


def _execute(db: sqlite3.Connection, statement: str, parameters: Mapping[str, int]) -> None:
    db.execute(statement, dict(parameters))


# 8640 ten-second segments a day; day d of camera c (from 0) lies in folder number d * cameras + c + 1.
_FOLDERS = """
    WITH RECURSIVE counted (no) AS (
        SELECT 0 UNION ALL SELECT no + 1 FROM counted
         WHERE no + 1 < (:rows / :cameras / 8640 + 1) * :cameras)
    INSERT INTO folder (no, root, path)
    SELECT no + 1, CAST('/recordings' AS BLOB),
           CAST(printf('many%d/%s', no % :cameras,
                       date(:first_us / 1000000 + no / :cameras * 86400, 'unixepoch')) AS BLOB)
      FROM counted"""
_SEGMENTS = """
    WITH RECURSIVE
        counted (no) AS (SELECT 0 UNION ALL SELECT no + 1 FROM counted WHERE no + 1 < :rows),
        placed AS (SELECT no, no % :cameras AS camera, no / :cameras AS turn,
                          :first_us + no / :cameras * 10000000 AS start_us FROM counted)
    INSERT INTO segment (no, id, camera_no, start_us, end_us, folder_no, name, device, inode, size_bytes,
                         mtime_ns, source_state, codec, sha256, created_us, settled_us)
    SELECT no + 1, randomblob(16), camera + 1, start_us, start_us + 10000000,
           turn / 8640 * :cameras + camera + 1,
           CAST(strftime('%H-%M-%S.ts', start_us / 1000000, 'unixepoch') AS BLOB),
           64769, no + 1000, 4999860, (start_us + 10000000) * 1000, 'pruned', 'h264', randomblob(32),
           start_us + 10020000, start_us + 12000000
      FROM placed"""
_COPIES = """
    INSERT INTO copy (segment_no, backend, state, path, start_us, size_bytes, stored_us, verified_us)
    SELECT segment.no, 'FILESYSTEM', 'verified',
           printf('%s/%s/%s_10000_%s.ts', lower(hex(camera.id)),
                  strftime('%Y/%m/%d/%H', start_us / 1000000, 'unixepoch'),
                  strftime('%Y%m%dT%H%M%S.000000Z', start_us / 1000000, 'unixepoch'),
                  substr(lower(hex(sha256)), 1, 12)),
           start_us, size_bytes, settled_us, settled_us
      FROM segment JOIN camera ON camera.no = camera_no"""
