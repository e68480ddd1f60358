"""Exports and the daemon as a process: killed in every phase, on a disk that fills up, ended in order."""

import contextlib
import hashlib
import http.client
import json
import os
import time
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.daemon import ANY_ROOM, Daemon, wait_until
from tests.faults.test_daemon_faults import EVERY_STEP, killing_at, outlived
from tests.integration.api.exported import held_ffmpeg
from tests.numbered import cut_up, numbered_ts, pictures_in

START = datetime(2026, 1, 1, 10, tzinfo=UTC)
SEGMENT_S = 2
CALLS: tuple[str, ...] = ("mkdir", "rename", "linkat", "rmdir")
"""Of the work folder, a whole take's sidecar, the shelf, and the tidying up after the mark."""
if EVERY_STEP:
    CALLS += ("fdatasync", "fsync", "pwrite64", "unlinkat")  # not write: ffmpeg would be killed for it
FILE = "Z.mp4"
"""How the name of an export's file ends."""
COUNTS = tuple(range(1, 9)) if EVERY_STEP else (1,)


def record(daemon: Daemon, *cameras: str) -> None:
    """Six seconds of each camera, in three segments, as the layout has them."""
    for number, camera in enumerate(cameras):
        cut = cut_up(
            numbered_ts(seconds=6, first=100 * number), daemon.folder / camera, seconds=SEGMENT_S, reset=True
        )
        folder = daemon.recordings / camera / f"{START:%Y-%m-%d}"
        folder.mkdir(parents=True)
        for at, path in enumerate(cut):
            path.rename(folder / f"10-00-{SEGMENT_S * at:02d}.ts")


def body_of(daemon: Daemon, *cameras: str, **more: Any) -> dict[str, Any]:
    known = daemon.cameras()
    return {
        "camera_ids": [known[camera]["id"] for camera in cameras],
        "start_time": "2026-01-01T10:00:00Z",
        "end_time": "2026-01-01T10:00:06Z",
        "format": "mp4",
        "reason": "incident",
        **more,
    }


def ask(daemon: Daemon, body: dict[str, Any], key: str) -> dict[str, Any]:
    """The export of that key, made now or before."""
    return dict(daemon.request("POST", "/exports", body=body, headers={"Idempotency-Key": key})[1])


def state(daemon: Daemon, export: dict[str, Any]) -> dict[str, Any]:
    return dict(daemon.get(f"/exports/{export['id']}"))


def wait_ended(daemon: Daemon, export: dict[str, Any]) -> dict[str, Any]:
    def is_ended() -> bool:
        return bool(state(daemon, export)["completed_at"])

    wait_until(is_ended, "the export ends", details=lambda: daemon.logs[-4000:])
    return state(daemon, export)


def work_of(daemon: Daemon) -> Path:
    return daemon.data_dir / "work" / "exports"


def leftovers(daemon: Daemon) -> list[Path]:
    return list(work_of(daemon).iterdir()) if work_of(daemon).exists() else []


def shelved(daemon: Daemon) -> dict[str, bytes]:
    """Everything on the exports' shelf."""
    return {path.name: path.read_bytes() for path in (daemon.store / "exports").rglob("*") if path.is_file()}


def require_whole(daemon: Daemon, export: dict[str, Any], folder: Path) -> None:
    """One object and its manifest, whole, with every picture of both cameras; no work left."""
    done = wait_ended(daemon, export)
    assert (done["status"], done["gaps"]) == ("COMPLETED", []), done
    wait_until(lambda: not leftovers(daemon), "the work folder goes")
    objects = {name: data for name, data in shelved(daemon).items() if name.startswith(done["id"])}
    assert set(objects) == {f"{done['id']}.zip", f"{done['id']}.manifest.json"}
    assert hashlib.sha256(objects[f"{done['id']}.zip"]).hexdigest() == done["checksum"]
    told = json.loads(objects[f"{done['id']}.manifest.json"])
    assert told["file"]["sha256"] == done["checksum"]
    package = folder / f"{done['id']}.zip"
    package.write_bytes(objects[f"{done['id']}.zip"])
    with zipfile.ZipFile(package) as packed:
        packed.extractall(folder / done["id"])
        names = sorted(name for name in packed.namelist() if name.endswith(".mp4"))
    shown = [[each.number for each in pictures_in(folder / done["id"] / name)] for name in names]
    assert shown == [list(range(60)), list(range(100, 160))]


@pytest.mark.timeout(600)
def test_a_kill_in_any_phase_of_an_export_is_made_good_by_the_next_start(
    make_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    """T-12 for exports: no phase is lost, none is done twice to anybody's harm, nothing stays behind."""
    daemon = make_daemon()
    record(daemon, "gate", "yard")
    daemon.start()
    daemon.wait_delivered(6)
    kills, asked = 0, 0
    for call in CALLS:
        for count in COUNTS:
            assert daemon.process is not None
            asked += 1
            key, body = f"{call}-{count}", body_of(daemon, "gate", "yard")
            with killing_at(daemon.process.pid, call, count):
                died = _dies_or_completes(daemon, body, key)
            died = died or not outlived(daemon)
            if died:
                kills += 1
                daemon.start()
            require_whole(daemon, ask(daemon, body, key), tmp_path)
            if not died:
                break
    met = False
    while not met:  # a busy machine may not look while the package is there: the next one, then
        asked += 1
        export = ask(daemon, body_of(daemon, "gate", "yard"), f"package-{asked}")
        met = _meets_package(daemon, export)
        if met:
            daemon.kill()
            daemon.start()
        require_whole(daemon, export, tmp_path)
    assert kills >= len(CALLS) - 1, f"only {kills} kills: the sweep has missed what it was to interrupt"
    assert len(shelved(daemon)) == 2 * asked == 2 * len(daemon.get("/exports", limit=100)["exports"])
    assert daemon.stop() == 0


def _meets_package(daemon: Daemon, export: dict[str, Any]) -> bool:
    """True while the package is packed, shelved or marked, False if the export ended unseen."""
    work, begun = work_of(daemon) / export["id"], False
    end = time.monotonic() + 60
    while not (work / "package.zip").exists():
        if begun and not work.exists():
            return False
        begun = begun or work.exists()
        if not begun and time.monotonic() > end:
            assert state(daemon, export)["completed_at"], "nobody begins it"
            return False
        time.sleep(0.001)
    return True


def _dies_or_completes(daemon: Daemon, body: dict[str, Any], key: str) -> bool:
    """True once the process is dead, False once the export has ended."""
    assert daemon.process is not None
    export: dict[str, Any] = {}
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if daemon.process.poll() is not None:
            return True
        with contextlib.suppress(OSError, http.client.HTTPException, AssertionError):
            export = export or ask(daemon, body, key)
            if state(daemon, export)["completed_at"] and not leftovers(daemon):
                return False
        time.sleep(0.02)
    raise AssertionError(f"neither dead nor done\n{daemon.log[-3000:]}")


@contextlib.contextmanager
def holding(daemon: Daemon) -> Iterator[Path]:
    """No ffmpeg of the daemon begins an export's file while the one given is there."""
    daemon.environ, hold = held_ffmpeg(daemon.folder)
    hold.write_text(FILE)
    yield hold


def joining(daemon: Daemon) -> bool:
    """Whether an ffmpeg of the daemon, or what holds it back, is to write an export's file."""
    assert daemon.process is not None
    lines: list[str] = []
    for child in psutil.Process(daemon.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            lines.append(" ".join(child.cmdline()))
    return any("ffmpeg" in line and FILE in line for line in lines)


def test_a_kill_and_a_stop_while_ffmpeg_works_leave_an_export_that_goes_on(
    daemon: Daemon, tmp_path: Path
) -> None:
    record(daemon, "gate", "yard")
    with holding(daemon) as hold:
        daemon.start()
        daemon.wait_delivered(6)
        export = ask(daemon, body_of(daemon, "gate", "yard"), "k")
        wait_until(lambda: joining(daemon), "ffmpeg works")
        daemon.kill()
        daemon.start()
        wait_until(lambda: joining(daemon), "ffmpeg works again")
        assert state(daemon, export)["status"] == "PROCESSING"
        assert daemon.stop() == 0
        daemon.start()
        wait_until(lambda: joining(daemon), "ffmpeg works again")
        hold.unlink()
        require_whole(daemon, export, tmp_path)
        assert state(daemon, export)["status"] == "COMPLETED"


def test_a_disk_that_fills_up_meanwhile_fails_the_export_and_names_the_folder(daemon: Daemon) -> None:
    """The work folder has a disk of its own, with room for what was asked until somebody else takes it."""
    record(daemon, "gate")
    work_of(daemon).mkdir(parents=True)
    mount = f'mount -t tmpfs -o size=2m tmpfs "{work_of(daemon)}" && exec "$@"'
    daemon.wrapper = ["unshare", "--mount", "sh", "-c", mount, "sh"]
    daemon.settings = {"capacity": {"reserve": 0, **ANY_ROOM}}
    with holding(daemon) as hold:
        daemon.start()
        daemon.wait_delivered(3)
        assert daemon.process is not None
        inside = Path(f"/proc/{daemon.process.pid}/root{work_of(daemon)}")
        export = ask(daemon, body_of(daemon, "gate"), "k")
        wait_until(lambda: joining(daemon), "ffmpeg works")
        with contextlib.suppress(OSError), (inside / "somebody's").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        hold.unlink()
        failed = wait_ended(daemon, export)
        assert failed["status"] == "FAILED"
        assert "no room" in failed["error"] and str(work_of(daemon)) in failed["error"]
        wait_until(lambda: os.listdir(inside) == ["somebody's"], "the work folder goes")
        assert shelved(daemon) == {}
        (inside / "somebody's").unlink()
        again = ask(daemon, body_of(daemon, "gate"), "again")
        assert wait_ended(daemon, again)["status"] == "COMPLETED"
