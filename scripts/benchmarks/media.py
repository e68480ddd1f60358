"""Footage looked at and handed over: exports beside ffmpeg, playlists, thumbnails, clips."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from scripts.benchmarks import exporting, viewing
from scripts.benchmarks.host import VERIFIED, Host, Settings, recorder, started
from scripts.benchmarks.hour import Hour, write_hour
from scripts.benchmarks.machine import first_line
from scripts.benchmarks.results import Sample, Table
from scripts.benchmarks.server import running_store

ABOUT = (*exporting.ABOUT, *viewing.ABOUT)

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """How much is measured."""

    files: int
    clip: timedelta
    clips: int
    posts: int
    playlists: int


WHOLE = Amount(files=360, clip=timedelta(minutes=10), clips=60, posts=1000, playlists=300)
QUICK = Amount(files=36, clip=timedelta(minutes=1), clips=5, posts=50, playlists=20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """All of it."""

    hour: str
    runs: tuple[exporting.Run, ...]
    latencies: tuple[viewing.Measured, ...]


def measure(amount: Amount, repetitions: int, say: Say) -> Measured:
    with tempfile.TemporaryDirectory(prefix="cctv-bench-") as name:
        folder = Path(name)
        root = folder / "recordings"
        root.mkdir()
        say(f"recording {amount.files} files")
        hour = write_hour(root, amount.files)
        settings: Settings = {
            "host_id": exporting.HOST,
            "recorders": recorder(root),
            "source": {"prune": "never"},
            "thumbnails": {"on_ingest": False},
            "exports": {"workers": 1, "queue": 100_000},
        }
        with started(folder, settings) as host:
            host.wait_for(VERIFIED, len(hour.files))
            runs = tuple(exporting.measure(host, hour, repetitions, say))
            latencies = tuple(_latencies(host, hour, amount, say))
        with running_store() as store, store.bucket("bench") as bucket:
            latencies += tuple(viewing.playlists(folder, store, bucket, amount.playlists, say))
    return Measured(hour=str(hour), runs=runs, latencies=latencies)


def _latencies(host: Host, hour: Hour, amount: Amount, say: Say) -> list[viewing.Measured]:
    return [
        *viewing.thumbnails(host, hour, say),
        *viewing.clips(host, hour, amount.clip, amount.clips, say),
        *viewing.posts(host, hour, amount.posts, say),
    ]


def tables(measured: Measured) -> tuple[Table, ...]:
    return (*exporting.tables(measured.hour, measured.runs), viewing.table(measured.latencies))


def samples(measured: Measured) -> tuple[Sample, ...]:
    return (*exporting.samples(measured.runs), *viewing.samples(measured.latencies))


def versions() -> tuple[tuple[str, str], ...]:
    return (("ffmpeg", first_line(["ffmpeg", "-version"]).split()[2]),)
