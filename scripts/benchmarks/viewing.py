"""How soon footage can be looked at: playlists, thumbnails, clips; and how soon an export is accepted."""

import contextlib
import http.client
import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlencode

from cctv_storaged.clock import rfc3339, to_us
from cctv_storaged.model import TimeSpan, camera_id_for
from scripts.benchmarks.asking import Client, client
from scripts.benchmarks.exporting import HOST, wish
from scripts.benchmarks.filling import filling
from scripts.benchmarks.footage import FIRST
from scripts.benchmarks.host import Host, Settings, recorder, started
from scripts.benchmarks.hour import CAMERA, SEGMENT, Hour
from scripts.benchmarks.results import LATENCY_COLUMNS, Sample, Table, latency_row
from scripts.benchmarks.server import REGION, Store
from scripts.benchmarks.usage import child_pids

WARM_UP = 10
DAY = timedelta(days=1)
DAYS = 3
PER_DAY = 8640
ABOUT = (
    "*Latencies*: one client with one kept connection, one request after the other; the clock runs from"
    " before the request is sent until the answer is read. *thumbnail*: of the hour's segments (1920 × 1080),"
    " each asked for the first time (cold) and the second (cached); none is made on ingest. *clip.mp4*: spans"
    " that begin at any second of the hour, none made before; the clock runs until the first byte of the"
    " body, and until the last. *POST /exports*: each another span of 10 to 60 s. The daemon has one worker"
    " for exports: it makes an export of the hour first, whose ffmpeg is stopped (SIGSTOP) so that the others"
    " only wait; then it goes on, and the rest is asked for while it works (*busy*).",
    "*playlist*: a day out of three, that is 8640 segments of ten seconds on one stream clock, in a journal"
    " filled by SQL: sources pruned with copies verified, and sources present. *presigned*: the copies are at"
    " an S3 server, and every segment's URL is signed.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Seconds of one kind of request."""

    what: str
    aim: str  # p50/p99 in ms, or one figure
    latencies_s: tuple[float, ...]
    cpu_s: float | None = None  # of the daemon and its children meanwhile


Say = Callable[[str], None]


def _measured(host: Host, what: str, aim: str, latencies: Iterator[float], say: Say) -> Measured:
    before = host.now()
    found = tuple(latencies)
    say(f"{what}: {len(found)} requests")
    return Measured(what=what, aim=aim, latencies_s=found, cpu_s=host.now().cpu_s - before.cpu_s)


# The hour's


def thumbnails(host: Host, hour: Hour, say: Say) -> Iterator[Measured]:
    """Of every segment; the first few are the warming up."""
    camera = camera_id_for(HOST, CAMERA)
    found = host.daemon.segments()
    if len(found) != len(hour.files):
        raise RuntimeError(f"{len(found)} segments are known instead of {len(hour.files)}")
    paths = [f"/segments/{camera}/{segment['id']}/thumbnail.jpg" for segment in found]
    random.Random(len(paths)).shuffle(paths)
    with client(host.daemon.url) as asking:
        list(_pictures(asking, paths[:WARM_UP]))
        for what, aim in (("thumbnail, cold", "150"), ("thumbnail, cached", "3")):
            yield _measured(host, what, aim, _pictures(asking, paths[WARM_UP:]), say)


def _pictures(asking: Client, paths: Sequence[str]) -> Iterator[float]:
    for path in paths:
        status, data, took_s = asking.ask("GET", path)
        if status != http.client.OK or not data.startswith(b"\xff\xd8"):
            raise RuntimeError(f"a thumbnail answered {status}: {data[:500]!r}")
        yield took_s


def clips(host: Host, hour: Hour, length: timedelta, count: int, say: Say) -> Iterator[Measured]:
    """Distinct spans, in no order."""
    spare_s = int((hour.span.duration - length).total_seconds())
    offsets = random.Random(count).sample(range(1, spare_s), min(count + 1, spare_s - 1))
    camera, before = camera_id_for(HOST, CAMERA), host.now()
    first, whole = [], []
    with client(host.daemon.url) as asking:
        for number, offset in enumerate(offsets):
            start = FIRST + timedelta(seconds=offset)
            span = {"start": rfc3339(start), "end": rfc3339(start + length)}
            got = asking.stream(f"/segments/{camera}/clip.mp4?{urlencode(span)}")
            if got.status != http.client.OK or got.size_bytes < 100_000:
                raise RuntimeError(f"a clip answered {got.status} with {got.size_bytes} bytes")
            if number:  # the first asks for ffmpeg's version
                first.append(got.first_byte_s)
                whole.append(got.whole_s)
    say(f"clips: {len(first)} requests")
    cpu_s, minutes = host.now().cpu_s - before.cpu_s, f"{length.seconds // 60} min"
    yield Measured(what=f"clip.mp4 of {minutes}, first byte", aim="150", latencies_s=tuple(first))
    yield Measured(what=f"clip.mp4 of {minutes}, whole", aim="", latencies_s=tuple(whole), cpu_s=cpu_s)


# Asking for exports


def posts(host: Host, hour: Hour, count: int, say: Say) -> Iterator[Measured]:
    """Leaves a long queue behind: the daemon is good for nothing else then."""
    with client(host.daemon.url) as asking:
        with _paused_export(host, asking, hour):
            list(_posted(asking, hour, "warm", WARM_UP))
            yield _measured(host, "POST /exports", "5/50", _posted(asking, hour, "quiet", count), say)
        latencies = tuple(_posted(asking, hour, "busy", count))
        say(f"POST /exports, busy: {len(latencies)} requests")
        yield Measured(what="POST /exports, busy", aim="", latencies_s=latencies)


def _posted(asking: Client, hour: Hour, word: str, count: int) -> Iterator[float]:
    chance = random.Random(word)
    spare_ms = int(hour.span.duration.total_seconds() * 1000) - 60_000
    for number in range(count):
        start = FIRST + timedelta(milliseconds=chance.randrange(spare_ms))
        span = TimeSpan(start, start + timedelta(milliseconds=chance.randrange(10_000, 60_000)))
        _, took_s = asking.create("/exports", wish(span, f"benchmark {word} {number}"))
        yield took_s


@contextlib.contextmanager
def _paused_export(host: Host, asking: Client, hour: Hour) -> Iterator[None]:
    """One export under way whose ffmpeg stands still while the block lasts: its worker waits."""
    asking.create("/exports", wish(hour.span, "benchmark pause"))
    end = time.monotonic() + 30
    while not (pids := child_pids(host.pid)):
        if time.monotonic() > end:
            raise RuntimeError("no export was begun")
        time.sleep(0.005)
    os.kill(pids[0], signal.SIGSTOP)
    try:
        time.sleep(1)  # until the pipe is full
        yield
    finally:
        os.kill(pids[0], signal.SIGCONT)


# Playlists


def playlists(folder: Path, store: Store, bucket: str, count: int, say: Say) -> Iterator[Measured]:
    """A journal for each way in which players can be sent to segments."""
    s3: Settings = {
        "backend": "S3",
        "s3": {
            "endpoint_url": store.url,
            "region": REGION,
            "access_key": store.access_key,
            "secret_key": store.secret_key,
            "bucket_recordings": bucket,
        },
        "playback": {"segments": "presigned"},
    }
    ways: Sequence[tuple[str, Settings]] = (("FILESYSTEM", {}), ("S3", s3))
    for backend, more in ways:
        home = folder / backend.lower()
        root = home / "recordings"
        root.mkdir(parents=True)
        settings: Settings = {
            "host_id": HOST,
            "recorders": recorder(root),
            "source": {"prune": "never"},
            **more,
        }
        with started(home, settings):
            pass  # makes the journal
        _fill(home / "data" / "journal.db", backend)
        with started(home, settings) as host, client(host.daemon.url) as asking:
            for number, state in enumerate(STATES):
                if backend == "S3" and state == "present":
                    continue  # the URL is the copy's, wherever the source is
                what = f"playlist, {'presigned' if backend == 'S3' else f'source {state}'}"
                aim = "" if backend == "S3" else "20"
                asked = _playlists(asking, number, count, signed=backend == "S3")
                yield _measured(host, what, aim, asked, say)


def _playlists(asking: Client, number: int, count: int, *, signed: bool) -> Iterator[float]:
    chance = random.Random(number)
    camera = camera_id_for(HOST, f"days{number}")
    for turn in range(WARM_UP + count):
        start = FIRST + SEGMENT * chance.randrange((DAYS - 1) * PER_DAY)
        query = urlencode({"start": rfc3339(start), "end": rfc3339(start + DAY)})
        status, data, took_s = asking.ask("GET", f"/segments/{camera}/playlist.m3u8?{query}")
        if status != http.client.OK or data.count(b"#EXTINF") != PER_DAY:
            raise RuntimeError(f"a playlist answered {status} with {data.count(b'#EXTINF')} segments")
        if (data.count(b"X-Amz-Signature") == PER_DAY) != signed:
            raise RuntimeError("a playlist sends players elsewhere than it was told to")
        if turn >= WARM_UP:
            yield took_s


STATES = ("pruned", "present")
_PLACED = """
    WITH RECURSIVE
        counted (no) AS (SELECT 0 UNION ALL SELECT no + 1 FROM counted WHERE no + 1 < :rows),
        placed AS (SELECT no, no + 1 + (:camera - 1) * :rows AS row, :first_us + no * 10000000 AS start_us
                     FROM counted)"""
_SEGMENTS = f"""{_PLACED}
    INSERT INTO segment (no, id, camera_no, start_us, end_us, folder_no, name, device, inode, size_bytes,
                         mtime_ns, source_state, codec, sha256, created_us, settled_us, stream_ticks,
                         stream_print)
    SELECT row, randomblob(16), :camera, start_us, start_us + 10000000, :camera, CAST(no || '.ts' AS BLOB),
           64769, row + 1000, 4999860, (start_us + 10000000) * 1000, :state, 'h264', randomblob(32),
           start_us + 10020000, start_us + 12000000, no * 900000 % 8589934592, X'0011223344556677'
      FROM placed"""
_COPIES = f"""{_PLACED}
    INSERT INTO copy (segment_no, backend, state, path, start_us, size_bytes, stored_us, verified_us)
    SELECT row, :backend, 'verified', printf('days%d/%d_10000_0123456789ab.ts', :camera, no), start_us,
           4999860, start_us + 12000000, start_us + 12000000
      FROM placed"""


def _fill(journal: Path, backend: str) -> None:
    """Three days of a camera for each state of the source, below a root that no scan looks at."""
    with filling(journal) as db:
        for number, state in enumerate(STATES):
            name = f"days{number}"
            row = (number + 1, camera_id_for(HOST, name).bytes, name, name.encode())
            db.execute("INSERT INTO camera (no, id, name, folder) VALUES (?, ?, ?, ?)", row)
            db.execute(
                "INSERT INTO folder (no, root, path) VALUES (?, CAST('/recordings' AS BLOB), ?)",
                (number + 1, name.encode()),
            )
            parameters: Mapping[str, str | int] = {
                "rows": DAYS * PER_DAY,
                "camera": number + 1,
                "first_us": to_us(FIRST),
                "state": state,
                "backend": backend,
            }
            for statement in (_SEGMENTS, _COPIES):
                db.execute(statement, dict(parameters))


# The table


def table(measured: Sequence[Measured]) -> Table:
    return Table(
        title="latencies (aims: p50/p99, or both)",
        columns=(*LATENCY_COLUMNS, "aim ms", "CPU ms each"),
        rows=tuple(
            latency_row(
                each.what,
                each.latencies_s,
                each.aim,
                "" if each.cpu_s is None else f"{each.cpu_s / len(each.latencies_s) * 1000:.1f}",
            )
            for each in measured
        ),
    )


def samples(measured: Sequence[Measured]) -> Iterator[Sample]:
    for each in measured:
        for latency_s in each.latencies_s:
            yield {"what": each.what, "latency_ms": round(latency_s * 1000, 3)}
