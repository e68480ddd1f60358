"""The daemon as a process in all modes, beside XProtect's simulator, a real store and a real database."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cctv_storaged.model import TimeSpan, camera_id_for
from tests.daemon import Daemon, wait_until
from tests.footage import cached_ts
from tests.services.ports import free_ports
from tests.services.postgres import PostgresDatabase
from tests.services.seaweed import ACCESS_KEY, SECRET_KEY, SeaweedServer
from tests.services.xprotect import PASSWORD, SimulatedSite, simulator

SECOND = timedelta(seconds=1)
LENGTH = 2 * SECOND
PRUNED_S = 100.0
"""Ten seconds after the start the pruner has its first turn, and then every minute."""
QUICK = {"settle_s": 0.2, "deadline_s": 1.0, "retry": {"initial_s": 0.2, "max_s": 1.0}}


@pytest.fixture
def site() -> Iterator[SimulatedSite]:
    with simulator() as made:
        yield made


def milestone(site: SimulatedSite, **more: object) -> dict[str, Any]:
    return site.settings(None, **{**QUICK, **more})


def beginning() -> datetime:
    """A minute ago, on a whole second: old enough for every deadline of these tests."""
    return datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=2)


def recorded(daemon: Daemon, start: datetime, camera: str = "gate") -> Path:
    """A segment as the recorder leaves it, whole at once."""
    folder = daemon.recordings / camera / f"{start:%Y-%m-%d}"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{start:%H-%M-%S}.ts"
    shutil.copyfile(cached_ts(seconds=LENGTH.total_seconds()), path.with_suffix(".part"))
    closed = (start + LENGTH).timestamp()
    os.utime(path.with_suffix(".part"), (closed, closed))  # else its time would be in doubt
    path.with_suffix(".part").rename(path)
    return path


def states(daemon: Daemon, backend: str = "MILESTONE") -> list[str]:
    """Of the copies there, by the start of their segments."""
    found = sorted(daemon.segments(), key=lambda each: str(each["start_time"]))
    return [copy["state"] for each in found for copy in each["copies"] if copy["backend"] == backend]


def wait_states(daemon: Daemon, expected: list[str], backend: str = "MILESTONE") -> list[dict[str, Any]]:
    def so() -> bool:
        return states(daemon, backend) == expected

    details: Callable[[], str] = lambda: f"{states(daemon, backend)}\n{daemon.log[-4000:]}"  # noqa: E731
    wait_until(so, f"copies at {backend}: {expected}", details=details)
    return sorted(daemon.segments(), key=lambda each: str(each["start_time"]))


def wait_pruned(daemon: Daemon, source: Path) -> None:
    wait_until(
        lambda: not source.exists(),
        "its source is pruned",
        patience_s=PRUNED_S,
        details=lambda: daemon.log[-4000:],
    )


def seaweed_settings(seaweed: SeaweedServer) -> dict[str, Any]:
    bucket = seaweed.create_bucket().name
    keys = {"access_key": ACCESS_KEY, "secret_key": SECRET_KEY, "bucket_recordings": bucket}
    return {"backend": "MINIO", "minio": {"endpoint": seaweed.endpoint, **keys}}


def postgres_settings(database: PostgresDatabase) -> Mapping[str, object]:
    facts = {"host": database.host, "port": database.port, "db": database.name, "ssl": "disable"}
    return {**facts, "user": database.user, "password": database.password}


def test_in_mode_milestone_no_byte_goes_to_the_store_and_what_xprotect_holds_is_verified(
    make_daemon: Callable[..., Daemon], site: SimulatedSite, postgres_database: PostgresDatabase
) -> None:
    daemon = make_daemon(
        mode="MILESTONE", milestone=milestone(site), postgres=postgres_settings(postgres_database)
    )
    start = beginning()
    path = recorded(daemon, start)
    missed = recorded(daemon, start + 10 * SECOND)
    site.record("gate", path, start)
    daemon.start()
    held, gap = wait_states(daemon, ["verified", "gap"])
    assert held["storage_backend"] == "MILESTONE"
    device = site.cameras["gate"]
    from_ms, to_ms = held["storage_path"].rsplit("/", 1)[1].split("-")
    assert held["storage_path"].startswith("milestone://")
    assert f"/{device}/" in held["storage_path"]
    assert int(from_ms) == int(start.timestamp() * 1000)
    assert int(to_ms) - int(from_ms) == round(held["duration_seconds"] * 1000)
    assert held["checksum"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert gap["storage_backend"] is None, "nobody but the recorder's folder has it"
    assert missed.exists()
    assert not list(daemon.store.rglob("*.ts")), "no bytes of segments"
    wait_until(lambda: site.state()["alarms"] != [], "XProtect shows an alarm of the gap")
    assert daemon.metric("storage_vms_gaps") == 1
    names = [part["name"] for part in daemon.get("/ready")["parts"] if part["trouble"]]
    assert any(name.startswith("alarm vms_gap") for name in names), names

    def rows() -> list[tuple[str, str]]:
        return sorted(
            (row[0], row[1])
            for row in postgres_database.sql("SELECT storage_backend, storage_path FROM segments")
        )

    wait_until(lambda: ("MILESTONE", held["storage_path"]) in rows(), "the catalog says so too")
    assert PASSWORD not in daemon.logs


def test_a_gap_that_xprotect_fills_later_is_verified_on_request(
    make_daemon: Callable[..., Daemon], site: SimulatedSite
) -> None:
    daemon = make_daemon(mode="MILESTONE", milestone=milestone(site))
    start = beginning()
    path = recorded(daemon, start)
    daemon.start()
    wait_states(daemon, ["gap"])
    site.record("gate", path, start)
    daemon.request("POST", "/queue/retry", body={})
    wait_states(daemon, ["verified"])
    wait_until(lambda: daemon.metric("storage_vms_gaps") == 0, "no gap is told any more")


def test_what_only_xprotect_holds_is_read_back_with_true_times_and_another_checksum(
    make_daemon: Callable[..., Daemon], site: SimulatedSite
) -> None:
    daemon = make_daemon(mode="MILESTONE", milestone=milestone(site), source={"grace": "0s"})
    start = beginning()
    path = recorded(daemon, start)
    site.record("gate", path, start)
    original = path.read_bytes()
    daemon.start()
    wait_states(daemon, ["verified"])
    wait_pruned(daemon, path)
    segment = daemon.segments()[0]
    asked = f"/segments/{segment['camera_id']}/{segment['id']}/content"
    _, content = daemon.request("GET", asked)
    assert content != original
    file = daemon.folder / "back.ts"
    file.write_bytes(content)
    assert decoded_frames(file) == decoded_frames(cached_ts(seconds=LENGTH.total_seconds()))
    clip = f"/segments/{segment['camera_id']}/clip.mp4"
    query = {"start": segment["start_time"], "end": segment["end_time"]}
    _, played = daemon.request("GET", clip, query=query)
    (daemon.folder / "clip.mp4").write_bytes(played)
    assert decoded_frames(daemon.folder / "clip.mp4") > 0


def decoded_frames(path: Path) -> int:
    counted = ["ffprobe", "-v", "error", "-count_frames", "-select_streams", "v", "-show_entries"]
    argv = [*counted, "stream=nb_read_frames", "-of", "csv=p=0", str(path)]
    return int(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()[0].strip(","))


def test_retention_that_eats_footage_between_check_and_prune_costs_no_source(
    make_daemon: Callable[..., Daemon], site: SimulatedSite
) -> None:
    daemon = make_daemon(mode="MILESTONE", milestone=milestone(site), source={"grace": "4s"})
    start = beginning()
    path = recorded(daemon, start)
    site.record("gate", path, start)
    daemon.start()
    wait_states(daemon, ["verified"])
    site.purge("gate", TimeSpan(start, start + 60 * SECOND))
    wait_until(
        lambda: states(daemon) != ["verified"],
        "it is asked again before the source goes",
        patience_s=PRUNED_S,
        details=lambda: daemon.log[-4000:],
    )
    assert path.exists()


def test_in_mode_both_either_side_may_be_away_without_hurting_the_other(
    make_daemon: Callable[..., Daemon], site: SimulatedSite, seaweed: SeaweedServer
) -> None:
    daemon = make_daemon(mode="BOTH", milestone=milestone(site), **seaweed_settings(seaweed))
    start = beginning()
    first = recorded(daemon, start)
    site.record("gate", first, start)
    site.faults(management="refused")
    daemon.start()
    wait_states(daemon, ["verified"], "MINIO")
    assert states(daemon) == ["pending"], "an XProtect that is away makes no gap"
    site.faults(management="no")
    found = wait_states(daemon, ["verified"])
    assert found[0]["storage_backend"] == "MINIO", "reads prefer the object store"

    with seaweed.frozen():
        second = recorded(daemon, start + 10 * SECOND)
        site.record("gate", second, start + 10 * SECOND)
        wait_states(daemon, ["verified", "verified"])
        assert states(daemon, "MINIO") == ["verified", "pending"]
    wait_states(daemon, ["verified", "verified"], "MINIO")


def test_what_xprotect_missed_is_retrieved_from_this_host(
    make_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    """The whole circle: missing, asked for, fetched from our ONVIF device, and shown to be held."""
    http_port, rtsp_port = free_ports(2)
    onvif = {
        "enabled": True,
        "bind": "127.0.0.1",
        "http_port": http_port,
        "rtsp_port": rtsp_port,
        "username": "xprotect",
        "password": "word",
    }
    (tmp_path / "onvif-password").write_text("word")
    options = ["--retrieval", "pull", "--onvif", f"http://127.0.0.1:{http_port}"]
    options += ["--onvif-user", "xprotect", "--onvif-password-file", str(tmp_path / "onvif-password")]
    channel = camera_id_for("test-host", "gate")
    with simulator([f"gate@{channel}"], options=options) as site:
        block = milestone(site, ingest="hybrid", onvif=onvif, deadline_s=600.0)
        daemon = make_daemon(mode="MILESTONE", milestone=block)
        start = beginning()
        recorded(daemon, start)
        daemon.start()
        wait_states(daemon, ["verified"])
        assert site.calls("task:RetrieveEdgeStorage") >= 1
        (held,) = site.sequences("gate")
        assert abs(held[0] - int(start.timestamp() * 1000)) <= 1


def test_a_site_that_changes_its_mode_loses_nothing_and_delivers_nothing_twice(
    make_daemon: Callable[..., Daemon], site: SimulatedSite
) -> None:
    daemon = make_daemon(mode="LOCAL", milestone=milestone(site), filesystem={"link": False})
    daemon.settings["filesystem"]["path"] = str(daemon.store)
    start = beginning()
    paths = [recorded(daemon, start)]
    site.record("gate", paths[0], start)
    daemon.start()
    wait_states(daemon, ["verified"], "FILESYSTEM")
    assert states(daemon) == []
    stored = {path: path.stat().st_mtime_ns for path in daemon.store.rglob("*.ts")}
    assert daemon.stop() == 0

    daemon.settings["mode"] = "BOTH"
    daemon.start()
    wait_states(daemon, ["verified"])  # its source is still there, so the new mode wants it
    paths.append(recorded(daemon, start + 10 * SECOND))
    site.record("gate", paths[1], start + 10 * SECOND)
    wait_states(daemon, ["verified", "verified"])
    wait_states(daemon, ["verified", "verified"], "FILESYSTEM")
    assert daemon.stop() == 0

    daemon.settings["mode"] = "MILESTONE"
    daemon.start()
    paths.append(recorded(daemon, start + 20 * SECOND))
    site.record("gate", paths[2], start + 20 * SECOND)
    wait_states(daemon, ["verified"] * 3)
    assert states(daemon, "FILESYSTEM") == ["verified", "verified"]
    assert daemon.stop() == 0

    daemon.settings["mode"] = "LOCAL"
    daemon.start()
    wait_states(daemon, ["verified"] * 3, "FILESYSTEM")
    assert states(daemon) == ["verified"] * 3
    for path, mtime in stored.items():
        assert path.stat().st_mtime_ns == mtime, "nothing is put twice"
    for path, segment in zip(
        paths, sorted(daemon.segments(), key=lambda s: str(s["start_time"])), strict=True
    ):
        asked = f"/segments/{segment['camera_id']}/{segment['id']}/content"
        assert daemon.request("GET", asked)[1] == path.read_bytes()


def test_held_footage_is_marked_in_xprotect_until_the_hold_is_released(
    make_daemon: Callable[..., Daemon], site: SimulatedSite
) -> None:
    daemon = make_daemon(mode="MILESTONE", milestone=milestone(site))
    start = beginning()
    path = recorded(daemon, start)
    site.record("gate", path, start)
    daemon.start()
    wait_states(daemon, ["verified"])
    camera = daemon.segments()[0]["camera_id"]
    body = {
        "camera_ids": [camera],
        "start_time": start.isoformat(),
        "end_time": (start + 5 * SECOND).isoformat(),
        "reason": "INC-42",
    }
    _, hold = daemon.request("POST", "/holds", body=body)
    wait_until(lambda: len(site.state()["bookmarks"]) == 1, "a bookmark", details=lambda: daemon.log[-3000:])
    wait_until(lambda: len(site.state()["locks"]) == 1, "a lock", details=lambda: daemon.log[-3000:])
    assert site.purge("gate", TimeSpan(start, start + 60 * SECOND)) == 0, "locked footage stays"
    daemon.request("DELETE", f"/holds/{hold['id']}", query={"reason": "closed"})
    wait_until(lambda: not site.state()["bookmarks"], "the bookmark is gone")
    wait_until(lambda: not site.state()["locks"], "so is the lock")


def test_a_token_that_ends_in_the_middle_of_a_read_and_answers_in_single_bytes_harm_no_read(
    make_daemon: Callable[..., Daemon], site: SimulatedSite
) -> None:
    daemon = make_daemon(mode="MILESTONE", milestone=milestone(site), source={"grace": "0s"})
    start = beginning()
    path = recorded(daemon, start)
    site.record("gate", path, start)
    daemon.start()
    wait_states(daemon, ["verified"])
    wait_pruned(daemon, path)
    site.faults(split_every_byte=True, expire_tokens=True, expire_corporate_tokens=True)
    segment = daemon.segments()[0]
    asked = f"/segments/{segment['camera_id']}/{segment['id']}/content"
    _, content = daemon.request("GET", asked)
    (daemon.folder / "back.ts").write_bytes(content)
    expected = decoded_frames(cached_ts(seconds=LENGTH.total_seconds()))
    assert decoded_frames(daemon.folder / "back.ts") == expected


def test_deleting_says_what_xprotect_will_do_and_deletes_nothing_there(
    make_daemon: Callable[..., Daemon], site: SimulatedSite
) -> None:
    daemon = make_daemon(mode="MILESTONE", milestone=milestone(site))
    start = beginning()
    path = recorded(daemon, start)
    site.record("gate", path, start)
    daemon.start()
    wait_states(daemon, ["verified"])
    segment, before = daemon.segments()[0], site.sequences("gate")
    status, told = daemon.request("DELETE", f"/segments/{segment['camera_id']}/{segment['id']}")
    assert status == 200
    assert "retention_managed_by_vms" in str(told)
    wait_until(lambda: not path.exists(), "our file goes")
    assert site.sequences("gate") == before
