"""Every deletion held against the rules by somebody else: the kernel's unlink(2) calls and what a store was
asked to delete, each recomputed from its own name, the rules and the holds.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cctv_storaged.clock import rfc3339
from tests.daemon import Daemon, wait_until
from tests.fakes.fakecam import unique
from tests.fakes.recordingproxy import RecordingProxy, recording
from tests.footage import cached_ts
from tests.services.seaweed import ACCESS_KEY, SECRET_KEY, Bucket

AT_MOST = timedelta(days=2)
HOUR = timedelta(hours=1)
AGES = (5 * AT_MOST, 2 * AT_MOST, AT_MOST + HOUR, AT_MOST - HOUR, timedelta(minutes=5))
CAMERAS = ("gate", "vault", "yard")
RULES: dict[str, timedelta | None] = {"gate": AT_MOST, "vault": None, "yard": AT_MOST}
LENGTH_S = 2.0
TRACED = re.compile(
    r'^\d+ +(\d+\.\d+) unlinkat\(\d+<([^>]*)>, "([^"]+)", 0(?:\) += 0| <unfinished \.\.\.>)$', re.M
)
"""Moment, folder and name; `-y` makes strace tell which folder a descriptor is."""
SOURCE = re.compile(r"/recordings/(?P<camera>[^/]+)/(?P<day>[\d-]+)/(?P<time>[\d-]+)\.ts$")
OBJECT = re.compile(
    r"/(?P<camera>[0-9a-f-]{36})/[\d/]+/(?P<start>[\dT]+)\.\d+Z_(?P<ms>\d+)_[0-9a-f]{12}(\.\d)?\.ts$"
)


@pytest.fixture
def host(make_daemon: Callable[..., Daemon], request: pytest.FixtureRequest) -> Iterator[tuple[Daemon, Any]]:
    """With footage of all ages, delivered and held in part; the rules are in force from the next start on."""
    if request.param == "FILESYSTEM":
        yield _filled(make_daemon(source={"prune": "never"}, retention={"default": {}})), None
        return
    bucket: Bucket = request.getfixturevalue("seaweed_bucket")
    with recording("127.0.0.1", bucket.server.s3_port) as proxy:
        store = {
            "endpoint_url": f"http://127.0.0.1:{proxy.port}",
            "access_key": ACCESS_KEY,
            "secret_key": SECRET_KEY,
            "bucket_recordings": bucket.name,
        }
        daemon = make_daemon(backend="S3", s3=store, source={"prune": "never"}, retention={"default": {}})
        yield _filled(daemon), proxy


def _filled(daemon: Daemon) -> Daemon:
    now = datetime.now(UTC)
    film = cached_ts(seconds=LENGTH_S).read_bytes()
    for camera in CAMERAS:
        for age in AGES:
            start = (now - age - timedelta(seconds=LENGTH_S)).replace(microsecond=0)
            path = daemon.recordings / camera / f"{start:%Y-%m-%d/%H-%M-%S}.ts"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(unique(film, str(path)))
            os.utime(path, (start.timestamp() + LENGTH_S,) * 2)
    daemon.start()
    daemon.wait_delivered(len(CAMERAS) * len(AGES))
    return daemon


@pytest.mark.parametrize("host", ["FILESYSTEM", "S3"], indirect=True)
def test_every_unlink_and_delete_is_one_that_the_rules_demand(
    host: tuple[Daemon, RecordingProxy | None], tmp_path: Path
) -> None:
    daemon, proxy = host
    ids = {name: str(camera["id"]) for name, camera in daemon.cameras().items()}
    held = (datetime.now(UTC) - 2 * AT_MOST - HOUR, datetime.now(UTC) - 2 * AT_MOST + HOUR)
    body = {
        "camera_ids": [ids["yard"]],
        "start_time": rfc3339(held[0]),
        "end_time": rfc3339(held[1]),
        "reason": "the oracle's",
    }
    daemon.request("POST", "/holds", body=body)
    before = {(each["camera_id"], each["start_time"]): each for each in daemon.segments()}
    daemon.stop()
    trace = tmp_path / "trace"
    strace = shutil.which("strace") or "strace"
    daemon.wrapper = (strace, "-f", "-qq", "-y", "--seccomp-bpf", "-ttt", "-o", str(trace), "-e", "unlinkat")
    daemon.settings["retention"] = {"default": {"at_most": "2d"}, "per_camera": {"vault": {}}}
    daemon.start()
    expected = 3 + 2  # of the gate all past two days; of the yard all but what is held
    wait_until(
        lambda: len(list(daemon.recordings.rglob("*.ts"))) == len(before) - expected,  # a source goes last
        "the first pass",
        details=lambda: daemon.log[-4000:],
    )
    left = {(each["camera_id"], each["start_time"]) for each in daemon.segments()}
    daemon.stop()
    gone = set(before) - left

    cameras = {id_: name for name, id_ in ids.items()}
    calls = [
        (datetime.fromtimestamp(float(at), UTC), f"{folder}/{name}")
        for at, folder, name in TRACED.findall(trace.read_text())
    ]
    calls += [(datetime.now(UTC), key) for key in (proxy.deleted() if proxy else [])]
    judged = [found for at, path in calls if (found := _judged(at, path, cameras, held)) is not None]
    assert all(allowed for _, allowed in judged), [path for path, allowed in judged if not allowed]
    sources = {path for path, _ in judged if SOURCE.search(path)}
    objects = {path for path, _ in judged if OBJECT.search(path)}
    assert len(sources) == expected, "each source once, and no other"
    wanted = {str(before[key]["storage_path"]) for key in gone}
    assert len(wanted) == expected
    assert all(any(path.endswith(each) for path in objects) for each in wanted), "every copy was deleted"


def _judged(
    at: datetime, path: str, cameras: dict[str, str], held: tuple[datetime, datetime]
) -> tuple[str, bool] | None:
    """A deletion of footage and whether the rules demand it; None for what is no footage."""
    if (source := SOURCE.search(path)) is not None:
        camera = source["camera"]
        start = datetime.strptime(f"{source['day']} {source['time']}", "%Y-%m-%d %H-%M-%S").replace(
            tzinfo=UTC
        )
        length = timedelta(seconds=LENGTH_S)
    elif (found := OBJECT.search(path)) is not None:
        camera = cameras[found["camera"]]
        start = datetime.strptime(found["start"], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
        length = timedelta(milliseconds=int(found["ms"]))
    else:
        assert not path.endswith(".ts"), f"footage under a name that nobody expects: {path}"
        return None
    limit = RULES[camera]
    too_old = limit is not None and at - (start + length) >= limit - timedelta(seconds=1)
    under_hold = camera == "yard" and start < held[1] and start + length > held[0]
    return path, too_old and not under_hold
