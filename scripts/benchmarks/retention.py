"""What deleting a hundred thousand expired segments costs those who ask meanwhile, and how long it takes."""

import http.client
import json
import random
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from urllib.parse import urlencode

from cctv_storaged.clock import rfc3339
from cctv_storaged.model import camera_id_for
from scripts.benchmarks import api
from scripts.benchmarks.asking import Client, client
from scripts.benchmarks.footage import SMALL, signed, small_film
from scripts.benchmarks.host import Host, Settings, recorder, started
from scripts.benchmarks.results import LATENCY_COLUMNS, Sample, Table, latency_row

PASS_DONE = b" segments older than "
"""In the log once for each camera of which something was deleted."""
POSTS = 100_000
"""More than are ever sent."""
PAUSE_S = 0.005
"""Between two requests: a client that waits for nothing would measure its own load."""
ABOUT = (
    "The daemon on a journal filled by SQL (see `scripts/benchmarks/filling.py`) with ten-second"
    " segments of 50 cameras, copies verified at FILESYSTEM. The oldest hundredth is past `at_most`,"
    " each with its file in the store; the first pass of retention deletes them while one client asks"
    " for lists of segments, for all cameras, and registers new files. The clock of the pass runs from"
    " the first file that is gone to the last line of the log that says what was deleted.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One pass."""

    rows: int
    expired: int
    took_s: float
    cpu_s: float
    peak_bytes: int
    latencies_s: dict[str, tuple[float, ...]]  # by kind of request
    idle_s: dict[str, tuple[float, ...]]  # the same before it began


def measure(rows: int, say: Callable[[str], None]) -> Measured:
    each = rows // api.CAMERAS // 100
    with tempfile.TemporaryDirectory(prefix="cctv-bench-") as name:
        folder = Path(name)
        (folder / "recordings").mkdir()
        (folder / "posted").mkdir()
        with started(folder, _settings(folder, timedelta(days=30_000))):
            pass  # makes the journal
        say(f"filling the journal with {rows} segments")
        journal = folder / "data" / "journal.db"
        begun = _first(rows)
        api.fill(journal, rows, begun)
        first = _write_expired(journal, folder / "store", each)
        say(f"{each * api.CAMERAS} files of expired segments are in the store")
        cutoff = begun + api.SEGMENT * each
        with started(folder, _settings(folder, datetime.now(UTC) - cutoff)) as host:
            return _watched(host, folder, first, rows, begun, say)


def tables(found: Measured) -> tuple[Table, ...]:
    requests = [
        latency_row(f"{word}{when}", seconds)
        for when, kinds in ((", before", found.idle_s), (", meanwhile", found.latencies_s))
        for word, seconds in kinds.items()
    ]
    slowest = max(each for seconds in found.latencies_s.values() for each in seconds)
    title = (
        f"{found.expired} of {found.rows} segments deleted in {found.took_s:.1f} s,"
        f" slowest request {slowest * 1000:.1f} ms (aims: 60 s, 50 ms)"
    )
    facts = (
        ("seconds", f"{found.took_s:.1f}"),
        ("segments per second", f"{found.expired / found.took_s:.0f}"),
        ("CPU seconds", f"{found.cpu_s:.1f}"),
        ("peak MB", f"{found.peak_bytes / 1e6:.0f}"),
    )
    return (
        Table(title=title, columns=LATENCY_COLUMNS, rows=tuple(requests)),
        Table(title="the pass", columns=("", "figure"), rows=facts),
    )


def samples(found: Measured) -> tuple[Sample, ...]:
    return tuple(
        {"what": word, "latency_ms": round(latency_s * 1000, 3)}
        for word, seconds in found.latencies_s.items()
        for latency_s in seconds
    )


def _first(rows: int) -> datetime:
    """So that the newest footage is of today: of a clock that is far from it nothing is believed."""
    length = api.SEGMENT * (rows // api.CAMERAS)
    return (datetime.now(UTC) - length).replace(hour=0, minute=0, second=0, microsecond=0)


def _settings(folder: Path, at_most: timedelta) -> Settings:
    return {
        "host_id": api.HOST,
        "recorders": recorder(folder / "recordings"),
        "filesystem": {"path": str(folder / "store")},
        "api": {"port": 0, "allowed_paths": [str(folder / "posted")]},
        "retention": {"default": {"at_most": f"{int(at_most.total_seconds() * 1000)}ms"}},
        "thumbnails": {"on_ingest": False},
    }


def _write_expired(journal: Path, store: Path, each: int) -> Path:
    """A file for every expired copy; the one that goes first."""
    db = sqlite3.connect(journal)
    query = """SELECT path FROM copy JOIN segment ON no = segment_no
                WHERE camera_no = ? ORDER BY segment.start_us LIMIT ?"""
    paths = [store / row[0] for no in range(1, api.CAMERAS + 1) for row in db.execute(query, (no, each))]
    db.close()
    for folder in dict.fromkeys(path.parent for path in paths):
        folder.mkdir(parents=True)
    for path in paths:
        path.write_bytes(b"expired")
    gone_first: Path = paths[0]
    return gone_first


def _watched(
    host: Host, folder: Path, first: Path, rows: int, begun_at: datetime, say: Callable[[str], None]
) -> Measured:
    over, noted = threading.Event(), list[tuple[float, str, float]]()
    asking = threading.Thread(target=_ask, args=(host, folder, rows, begun_at, over, noted))
    asking.start()
    try:
        while first.exists():
            time.sleep(0.005)
        begun, before = time.perf_counter(), host.now()
        say("the pass has begun")
        after = host.wait_for(PASS_DONE, api.CAMERAS)
        ended = time.perf_counter()
    finally:
        over.set()
        asking.join()
    expired = sum(1 for line in host.daemon.log.splitlines() if "segments older than" in line)
    assert expired == api.CAMERAS
    return Measured(
        rows=rows,
        expired=rows // 100,
        took_s=ended - begun,
        cpu_s=after.cpu_s - before.cpu_s,
        peak_bytes=host.peak_bytes(),
        latencies_s=_by_kind(noted, lambda at: begun <= at <= ended),
        idle_s=_by_kind(noted, lambda at: at < begun - 1),
    )


def _by_kind(
    noted: Sequence[tuple[float, str, float]], wanted: Callable[[float], bool]
) -> dict[str, tuple[float, ...]]:
    found: dict[str, list[float]] = {}
    for at, word, took_s in noted:
        if wanted(at):
            found.setdefault(word, []).append(took_s)
    return {word: tuple(seconds) for word, seconds in found.items()}


def _ask(
    host: Host,
    folder: Path,
    rows: int,
    begun_at: datetime,
    over: threading.Event,
    noted: list[tuple[float, str, float]],
) -> None:
    chance, bodies = random.Random(rows), _bodies(folder)
    with client(host.daemon.url) as asking:
        while not over.wait(PAUSE_S):
            word = chance.choice(("list", "list", "cameras", "register"))
            at = time.perf_counter()
            noted.append((at, word, _one(asking, word, partial(_list, rows, begun_at, chance), bodies)))


def _one(asking: Client, word: str, listing: Callable[[], str], bodies: Iterator[bytes]) -> float:
    if word == "register":
        status, data, took_s = asking.ask("POST", "/segments", next(bodies))
        wanted = http.client.CREATED
    else:
        path = "/cameras" if word == "cameras" else listing()
        status, data, took_s = asking.ask("GET", path)
        wanted = http.client.OK
    if status != wanted:
        raise RuntimeError(f"{word} answered {status}: {data[:500]!r}")
    return took_s


def _list(rows: int, begun_at: datetime, chance: random.Random) -> str:
    length_s = rows // api.CAMERAS * int(api.SEGMENT.total_seconds())
    start = begun_at + timedelta(seconds=chance.randrange(max(1, length_s - 3600)))
    query = urlencode({"start": rfc3339(start), "end": rfc3339(start + timedelta(hours=1)), "limit": 100})
    return f"/segments/{camera_id_for(api.HOST, f'many{chance.randrange(api.CAMERAS)}')}?{query}"


def _bodies(folder: Path) -> Iterator[bytes]:
    film, camera, length = small_film(), camera_id_for(api.HOST, "posted"), timedelta(seconds=SMALL.seconds)
    begun = datetime.now(UTC).replace(microsecond=0) - length
    for number in range(POSTS):
        path = folder / "posted" / f"{number:06}.ts"
        path.write_bytes(signed(film, path.name))
        start = begun - length * number
        body = {
            "camera_id": str(camera),
            "start_time": rfc3339(start),
            "end_time": rfc3339(start + length),
            "file_path": str(path),
            "size_bytes": path.stat().st_size,
            "duration_seconds": length.total_seconds(),
        }
        yield json.dumps(body).encode()
