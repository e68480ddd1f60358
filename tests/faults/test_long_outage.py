"""The main job with every real part, and T-27: an outage of the store with a backlog, scaled by parameters.

CCTV_OUTAGE_SEGMENTS=100000 pytest tests/faults/test_long_outage.py      # the full size
"""

import hashlib
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.daemon import Daemon, wait_until
from tests.fakes.fakecam import FakeCam, unique
from tests.footage import cached_ts
from tests.services.postgres import PostgresDatabase
from tests.services.seaweed import ACCESS_KEY, SECRET_KEY, Bucket, SeaweedServer

SEGMENTS = int(os.environ.get("CCTV_OUTAGE_SEGMENTS", "2000"))
NEWEST_WITHIN_S = 120.0
MOST_BYTES = 300 * 10**6


def small() -> bytes:
    return cached_ts(seconds=0.4, size="64x64", rate=5).read_bytes()


def store_settings(kind: str, bucket: Bucket) -> dict[str, Any]:
    keys = {"access_key": ACCESS_KEY, "secret_key": SECRET_KEY, "bucket_recordings": bucket.name}
    if kind == "MINIO":
        return {"backend": "MINIO", "minio": {"endpoint": bucket.server.endpoint, **keys}}
    return {"backend": "S3", "s3": {"endpoint_url": bucket.server.url, **keys}}


def stored(bucket: Bucket, segments: list[dict[str, Any]]) -> dict[str, str]:
    """What the store really holds for these segments, read past S3."""
    return {
        segment["storage_path"]: hashlib.sha256(bucket.read(segment["storage_path"])).hexdigest()
        for segment in segments
    }


@pytest.mark.parametrize("kind", ["MINIO", "S3"])
def test_the_main_job_with_every_real_part(
    make_daemon: Callable[..., Daemon], seaweed_bucket: Bucket, postgres_database: PostgresDatabase, kind: str
) -> None:
    """Recorder folder → journal → object store → PostgreSQL → REST, on real footage."""
    database = postgres_database
    daemon = make_daemon(
        **store_settings(kind, seaweed_bucket),
        postgres={
            "host": database.host,
            "port": database.port,
            "db": database.name,
            "user": database.user,
            "password": database.password,
            "ssl": "disable",
        },
    ).start()
    footage = {
        "gate": cached_ts(seconds=2, audio=True).read_bytes(),
        "yard": cached_ts(seconds=2, codec="hevc", bframes=2).read_bytes(),
    }
    cams = [FakeCam(daemon.recordings, name, data, daemon.folder / "aside") for name, data in footage.items()]
    for _ in range(10):
        for cam in cams:
            cam.write()
    segments = daemon.wait_delivered(20)
    held = stored(seaweed_bucket, segments)
    assert sorted(held.values()) == sorted(entry.sha256 for cam in cams for entry in cam.written)
    assert all(held[segment["storage_path"]] == segment["checksum"] for segment in segments)

    def catalogued() -> bool:
        rows = database.sql("SELECT id, checksum, storage_backend, host_id FROM segments")
        return {(row[0], row[1]) for row in rows} == {(s["id"], s["checksum"]) for s in segments}

    def verified() -> bool:
        counted = database.sql("SELECT count(*) FROM segment_copies WHERE state = 'verified'")
        return counted == [["20"]]

    wait_until(catalogued, "PostgreSQL has the same rows")
    wait_until(verified, "and knows that all are verified, which may be told later")
    camera = segments[0]["camera_id"]
    fleet = daemon.get(
        f"/segments/{camera}", scope="fleet", start="2026-11-01T00:00:00Z", end="2026-11-02T00:00:00Z"
    )
    assert len(fleet["segments"]) == 10
    (daemon.recordings / "gate").rename(daemon.folder / "gone")
    (daemon.recordings / "yard").rename(daemon.folder / "gone2")
    for segment in segments[:3]:
        path = f"/segments/{segment['camera_id']}/{segment['id']}/content"
        _, content = daemon.request("GET", path)
        assert hashlib.sha256(content).hexdigest() == segment["checksum"], "read back from the store"
    assert daemon.stop() == 0


@pytest.mark.timeout(max(400, SEGMENTS // 40))
def test_a_long_outage_ends_with_everything_delivered_the_newest_first(
    make_daemon: Callable[..., Daemon], seaweed: SeaweedServer, seaweed_bucket: Bucket
) -> None:
    """T-27: the store is away, a backlog grows over two restarts, the store comes back."""
    daemon = make_daemon(**store_settings("S3", seaweed_bucket))
    seaweed.stop()
    cam = FakeCam(daemon.recordings, "gate", small(), daemon.folder / "aside")
    real = FakeCam(daemon.recordings, "yard", cached_ts(seconds=2).read_bytes(), daemon.folder / "aside")
    third = SEGMENTS // 3
    for part in range(3):
        for _ in range(third):
            cam.write()
        real.write()
        daemon.start()
        daemon.wait_segments(third * (part + 1) + part + 1, patience_s=max(60.0, SEGMENTS / 100))
        assert daemon.request("GET", "/ready")[0] == 200, (
            "a store that is away does not make the host unready"
        )
        if part < 2:
            assert daemon.stop() == 0
    wait_until(lambda: daemon.metric("storage_backend_up") == 0, "this start has noticed it, too")
    seaweed.start()
    back_at = time.monotonic()
    live = FakeCam(daemon.recordings, "live", small(), daemon.folder / "aside", start=datetime.now(UTC))
    newest = live.write()
    wait_until(
        lambda: newest.sha256 in _delivered(daemon, "live"), "the newest segment", patience_s=NEWEST_WITHIN_S
    )
    newest_s = time.monotonic() - back_at
    total = len(cam.written) + len(real.written) + 1
    segments = daemon.wait_delivered(total, patience_s=max(120.0, SEGMENTS / 20))
    assert len(segments) == total
    assert not [copy for s in segments for copy in s["copies"] if copy["state"] != "verified"]
    assert not [copy for s in segments for copy in s["copies"] if copy["attempts"]], "an outage burns none"
    sample = segments[:: max(1, total // 200)]
    assert stored(seaweed_bucket, sample) == {s["storage_path"]: s["checksum"] for s in sample}
    assert daemon.process is not None
    peak = _peak_bytes(daemon.process.pid)
    print(f"newest after {newest_s:.1f} s, peak {peak / 1e6:.0f} MB with {total} segments")
    assert peak < MOST_BYTES
    assert psutil.pid_exists(daemon.process.pid)


def _delivered(daemon: Daemon, camera: str) -> set[str]:
    known = daemon.cameras()
    if camera not in known:
        return set()
    page = daemon.get(f"/segments/{known[camera]['id']}", limit=1000)
    return {
        segment["checksum"]
        for segment in page["segments"]
        if all(copy["state"] == "verified" for copy in segment["copies"])
    }


def _peak_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


@pytest.mark.timeout(400)
def test_hour_long_segments_go_in_parts_with_bounded_memory(
    make_daemon: Callable[..., Daemon], seaweed_bucket: Bucket
) -> None:
    """150 MiB of real packets: multipart, verified, and the daemon stays small."""
    daemon = make_daemon(**store_settings("S3", seaweed_bucket)).start()
    cam = FakeCam(daemon.recordings, "gate", b"", daemon.folder / "aside", step=timedelta(hours=1))
    film = cached_ts(seconds=2).read_bytes()
    large = unique(film, "large") + (film[: 188 * 500] * (150 * 2**20 // (188 * 500)))
    cam.footage = large
    for _ in range(2):
        cam.write()
    segments = daemon.wait_delivered(2, patience_s=120)
    assert all(segment["size_bytes"] > 150 * 2**20 for segment in segments)
    for segment in segments:
        assert hashlib.sha256(seaweed_bucket.read(segment["storage_path"])).hexdigest() == segment["checksum"]
    assert daemon.process is not None
    assert _peak_bytes(daemon.process.pid) < 200 * 10**6
