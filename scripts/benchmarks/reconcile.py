"""Comparing a million objects with the journal: rate and memory, beside `rclone check` on the same bucket."""

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.benchmarks import listed, peers
from scripts.benchmarks.host import Host, Settings, recorder, started
from scripts.benchmarks.machine import first_line
from scripts.benchmarks.results import Sample, Table
from scripts.benchmarks.server import REGION, Store
from scripts.benchmarks.usage import forget_peak, run_measured
from tests.services.seaweed import ACCESS_KEY, SECRET_KEY, SeaweedServer

AIM_BYTES = 300_000_000
CHECKERS = 4
ASKED_S = 0.1
ABOUT = (
    "Objects of one byte under the keys of ten-second segments of 100 cameras, and the same rows in the"
    " journal (filled by SQL, see `scripts/benchmarks/listed.py`): verified, their sources pruned."
    " `reconcile.rate` is no limit. The clock runs from the request that begins the comparison to the answer"
    " that it is over, noticed within 0.1 s; memory is the peak of the daemon meanwhile. It fails where"
    " anything differs.",
    "`rclone check --size-only --fast-list` compares the same bucket with a folder that has the same names"
    " and sizes: the daemon reads its side from SQLite, rclone from a file system whose cache is warm. A"
    " million objects lie in a small server of the benchmark's own (`tests/fakes/s3stub.py`, in memory),"
    " since SeaweedFS takes long to be filled with them; it holds a tenth of that.",
)
NO_LIMIT = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One comparison."""

    place: str
    contender: str
    objects: int
    wall_s: float
    cpu_s: float
    peak_bytes: int

    @property
    def per_s(self) -> float:
        return self.objects / self.wall_s


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bucket:
    """A store with the objects in it."""

    place: str
    store: Store
    name: str


def measure(count: int, say: Callable[[str], None]) -> list[Measured]:
    """`count` objects in a folder and in the stub, a tenth of them in SeaweedFS."""
    with tempfile.TemporaryDirectory(prefix="cctv-bench-") as name:
        folder = Path(name)
        (folder / "recordings").mkdir()
        keys = listed.keys_of(count)
        say(f"writing {len(keys)} files")
        (folder / "objects").mkdir()
        listed.write_files(folder / "objects", keys)
        found = [_own(folder, "FILESYSTEM", _filesystem(folder), "FILESYSTEM", keys, say)]
        with _stub(keys) as bucket:
            found += _both(folder, bucket, keys, folder / "objects", say)
        few = listed.keys_of(count // 10)
        (folder / "few").mkdir()
        listed.write_files(folder / "few", few)
        with _seaweed(few, say) as bucket:
            found += _both(folder, bucket, few, folder / "few", say)
        return found


def tables(measured: Sequence[Measured]) -> tuple[Table, ...]:
    ours = max(each.peak_bytes for each in measured if each.contender == "cctv-storaged")
    rows = tuple(
        (
            f"{each.contender}, {each.place}",
            str(each.objects),
            f"{each.wall_s:.1f}",
            f"{each.per_s:.0f}",
            f"{each.cpu_s:.1f}",
            f"{each.peak_bytes / 1e6:.0f}",
        )
        for each in measured
    )
    title = f"reconcile: peak memory {ours / 1e6:.0f} MB (aim at 1000000 objects: {AIM_BYTES / 1e6:.0f} MB)"
    return (Table(title=title, columns=("", "objects", "s", "objects/s", "CPU s", "peak MB"), rows=rows),)


def samples(measured: Sequence[Measured]) -> tuple[Sample, ...]:
    return tuple(
        {
            "place": each.place,
            "contender": each.contender,
            "objects": each.objects,
            "wall_s": round(each.wall_s, 3),
            "cpu_s": round(each.cpu_s, 3),
            "peak_bytes": each.peak_bytes,
        }
        for each in measured
    )


def versions() -> tuple[tuple[str, str], ...]:
    return (("rclone", first_line(["rclone", "version"])),)


# The daemon


def _both(
    folder: Path, bucket: _Bucket, keys: Sequence[str], same: Path, say: Callable[[str], None]
) -> list[Measured]:
    ours = [
        _own(folder, bucket.place, _settings_of(folder, bucket, kind), kind, keys, say)
        for kind in ("MINIO", "S3")
    ]
    return [*ours, _rclone(folder, bucket, same, len(keys), say)]


def _own(
    folder: Path,
    place: str,
    settings: Settings,
    backend: str,
    keys: Sequence[str],
    say: Callable[[str], None],
) -> Measured:
    home = folder / f"{place}-{backend}"
    with started(home, settings):
        pass  # makes the journal
    listed.fill(home / "data" / "journal.db", backend, keys)
    with started(home, settings) as host:
        host.wait_for(b" answers; it can: ")
        name = place if backend in place else f"{place} by {backend}"
        measured = _reconciled(host, name, len(keys))
    say(f"{name}: {measured.per_s:.0f} objects/s, {measured.peak_bytes / 1e6:.0f} MB")
    return measured


def _reconciled(host: Host, place: str, count: int) -> Measured:
    forget_peak(host.pid)
    begun = host.now()
    host.daemon.request("POST", "/reconcile", body={})
    while (answer := host.daemon.get("/reconcile"))["status"] == "running":
        time.sleep(ASKED_S)
    ended = host.now()
    run = answer["run"]
    looked = next(each["looked"] for each in run["sections"] if each["kind"] == "backend")
    if answer["status"] != "completed" or run["differences"] or looked < count:
        raise RuntimeError(f"{place}: {answer}"[:4000])
    return Measured(
        place=place,
        contender="cctv-storaged",
        objects=count,
        wall_s=ended.monotonic_s - begun.monotonic_s,
        cpu_s=ended.cpu_s - begun.cpu_s,
        peak_bytes=host.peak_bytes(),
    )


def _common(folder: Path) -> dict[str, object]:
    return {
        "host_id": listed.HOST,
        "recorders": recorder(folder / "recordings"),
        "reconcile": {"rate": NO_LIMIT},
        "retention": {"default": {}},
        "scrub": {"rotation": "10000d"},
        "source": {"prune": "never"},
        "thumbnails": {"on_ingest": False},
    }


def _filesystem(folder: Path) -> Settings:
    return {**_common(folder), "filesystem": {"path": str(folder / "objects")}}


def _settings_of(folder: Path, bucket: _Bucket, kind: str) -> Settings:
    keys = {"access_key": bucket.store.access_key, "secret_key": bucket.store.secret_key}
    block: Mapping[str, object] = {"bucket_recordings": bucket.name, **keys}
    if kind == "MINIO":
        return {
            **_common(folder),
            "backend": kind,
            "minio": {**block, "endpoint": bucket.store.endpoint, "use_ssl": False},
        }
    s3 = {**block, "endpoint_url": bucket.store.url, "region": REGION}
    return {**_common(folder), "backend": kind, "s3": s3}


# The other program


def _rclone(folder: Path, bucket: _Bucket, same: Path, count: int, say: Callable[[str], None]) -> Measured:
    scratch = folder / "rclone"
    scratch.mkdir(exist_ok=True)
    environ = {**peers.rclone_environ(bucket.store, scratch), "RCLONE_CONFIG_BENCH_LIST_VERSION": "2"}
    command = ["rclone", "check", "--size-only", "--fast-list", "--checkers", str(CHECKERS)]
    for own in ("/.cctv*", "/ledger/**"):  # what the daemon itself keeps there
        command += ["--exclude", own]
    command += ["--one-way", str(same), f"bench:{bucket.name}"]
    taken = run_measured(command, environ, scratch)
    say(f"rclone check, {bucket.place}: {count / taken.wall_s:.0f} objects/s")
    return Measured(
        place=bucket.place,
        contender="rclone check",
        objects=count,
        wall_s=taken.wall_s,
        cpu_s=taken.cpu_s,
        peak_bytes=taken.peak_bytes,
    )


# The buckets


@contextlib.contextmanager
def _stub(keys: Sequence[str]) -> Iterator[_Bucket]:
    with listed.ManyObjects(keys) as stub:
        store = Store(endpoint=stub.endpoint, pid=0)
        yield _Bucket(place="bucket in memory", store=store, name=stub.bucket)


@contextlib.contextmanager
def _seaweed(keys: Sequence[str], say: Callable[[str], None]) -> Iterator[_Bucket]:
    server = SeaweedServer()
    try:
        server.start()
        bucket = server.create_bucket()
        say(f"putting {len(keys)} objects to SeaweedFS")
        listed.put_objects(bucket, keys)
        store = Store(endpoint=server.endpoint, pid=0, access_key=ACCESS_KEY, secret_key=SECRET_KEY)
        yield _Bucket(place="SeaweedFS", store=store, name=bucket.name)
    finally:
        server.destroy()
