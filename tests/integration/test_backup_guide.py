"""docs/guide/backup.md, done as it stands there: a host saved, lost, and restored into another folder."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.daemon import PROJECT, Daemon, wait_until
from tests.footage import make_ts

PAGE = PROJECT / "docs" / "guide" / "backup.md"
HOME, ARCHIVE = "/var/lib/cctv-storaged", "/backup/cctv-storaged.tgz"
HOLD_START, HOLD_END = "2026-03-01T10:00:00Z", "2026-03-01T10:01:00Z"


def commands(heading: str, program: str) -> list[str]:
    """Those of a program below a heading, one line each."""
    section = PAGE.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    text = "\n".join(re.findall(r"```sh\n(.*?)```", section, re.S)).replace("\\\n", " ")
    return [line for line in text.splitlines() if re.search(rf"\b{program}\b", line)]


def done(command: str, home: Path, archive: Path) -> None:
    told = command.replace(HOME, str(home)).replace(ARCHIVE, str(archive))
    subprocess.run(["sh", "-c", told], check=True)


def record(daemon: Daemon, second: int) -> None:
    """One segment of the camera, whose bytes are its own, whole at the moment it is there."""
    made = make_ts(daemon.folder, seconds=1 + second / 25)
    os.utime(made, (1_772_359_200 + second + 2,) * 2)  # closed when the name says so
    folder = daemon.recordings / "gate" / "2026-03-01"
    folder.mkdir(parents=True, exist_ok=True)
    made.rename(folder / f"10-00-{second:02}.ts")


def save_snapshot(daemon: Daemon, archive: Path) -> None:
    """What a file system's snapshot has: files of one moment, of a daemon that was told nothing."""
    snapshot = daemon.folder / "snapshot"
    assert daemon.process is not None
    daemon.signal(signal.SIGSTOP)
    os.waitid(os.P_PID, daemon.process.pid, os.WSTOPPED)  # kill(2) does not wait for its threads
    shutil.copytree(daemon.data_dir, snapshot)
    daemon.signal(signal.SIGCONT)
    save(snapshot, archive)


def save(data_dir: Path, archive: Path) -> None:
    (tar,) = commands("Saving it", "tar")
    done(tar, data_dir, archive)
    saved = set(subprocess.check_output(["tar", "-tzf", archive], text=True).split())
    assert {"./journal.db", "./signing-key.pem"} <= saved
    assert not [name for name in saved if re.match(r"\./(cache|work|journal\.db\.reserve)", name)]


def told(segments: list[dict[str, Any]]) -> dict[str, tuple[str, list[str]]]:
    return {each["id"]: (each["checksum"], [copy["state"] for copy in each["copies"]]) for each in segments}


def test_a_host_is_restored_from_what_the_guide_says_to_save(
    daemon: Daemon, make_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    archive, of_stopped = tmp_path / "snapshot.tgz", tmp_path / "stopped.tgz"
    daemon.start()
    for second in (0, 2):
        record(daemon, second)
    daemon.wait_delivered(2)
    camera = daemon.cameras()["gate"]["id"]
    body = {"camera_ids": [camera], "start_time": HOLD_START, "end_time": HOLD_END, "reason": "theft"}
    _, hold = daemon.request("POST", "/holds", body=body)
    key = daemon.get("/signing-key")["fingerprint"]
    save_snapshot(daemon, archive)
    record(daemon, 5)  # what is recorded after the backup is on disk and in the store
    before = told(daemon.wait_delivered(3))
    assert daemon.stop() == 0
    save(daemon.data_dir, of_stopped)
    tried(of_stopped, tmp_path / "try", "test-host")

    restored = make_daemon("restored")
    restored.settings = {
        "filesystem": {"path": str(daemon.store)},
        "recorders": [{"path": str(daemon.recordings), "scan_interval": "2s"}],
    }
    restored.data_dir.mkdir()
    shutil.rmtree(daemon.data_dir)
    (untar,) = [each for each in commands("Restoring it", "tar") if each.startswith("tar")]
    done(untar, restored.data_dir, archive)
    restored.start()
    assert told(restored.wait_delivered(3)) == before
    assert restored.get("/signing-key")["fingerprint"] == key
    assert [each["id"] for each in restored.get("/holds")["holds"]] == [hold["id"]]
    assert restored.metric("storage_segments_lost_total") == 0
    wait_until(lambda: all(each["held"] for each in restored.segments()), "what is held is marked so")
    for segment in restored.segments():
        path = f"/segments/{camera}/{segment['id']}"
        assert len(restored.request("GET", f"{path}/content")[1]) == segment["size_bytes"]
    assert reconciled(restored) == "completed"


def reconciled(daemon: Daemon) -> str:
    daemon.request("POST", "/reconcile", body={"apply": True, "force": False})
    wait_until(lambda: daemon.get("/reconcile")["status"] != "running", "it is reconciled")
    found = daemon.get("/reconcile")
    left = [each for each in found["run"]["differences"] if each["found"] > each["applied"]]
    assert left == []
    return str(found["status"])


def tried(archive: Path, folder: Path, host_id: str) -> None:
    """Without a daemon, and beside one."""
    unpack, verify = commands("Trying it", "tar")[0], commands("Trying it", "verify")[0]
    done(unpack.replace("/tmp/try", str(folder)), folder, archive)
    settings = folder.with_suffix(".yaml")
    settings.write_text(f"host_id: {host_id}\ndata_dir: {folder}\n")
    argv = [sys.executable, "-m", "cctv_storaged", *verify.replace("TRY.yaml", str(settings)).split()[1:]]
    proven = subprocess.run(argv, cwd=PROJECT / "src", capture_output=True, text=True, check=False)
    assert proven.returncode == 0, proven.stdout + proven.stderr
