"""`cctv-storaged status` of a running daemon: what an operator sees first."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime

from tests.daemon import PROJECT, Daemon
from tests.footage import make_ts
from tests.services.ports import free_port


def status(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cctv_storaged", "status", *options],
        env={**os.environ, "PYTHONPATH": str(PROJECT / "src")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_cameras_backlog_and_disks_are_seen_at_a_glance(daemon: Daemon) -> None:
    daemon.start()
    now = datetime.now(UTC)
    # Three of its lengths and half a minute without another make a camera silent.
    make_ts(daemon.recordings / "gate" / f"{now:%Y-%m-%d}", name=f"{now:%H-%M-%S}.ts", seconds=30)
    daemon.wait_delivered(1)
    shown = status("--url", daemon.url)
    assert "gate" in shown.stdout, shown
    assert "recording" in shown.stdout
    assert "FILESYSTEM  0" in shown.stdout
    assert "CAMERA" in shown.stdout
    answers = json.loads(status("--url", daemon.url, "--json").stdout)
    assert [camera["segments"] for camera in answers["cameras"]["cameras"]] == [1]
    assert shown.returncode == (0 if answers["forecast"]["volumes"][0]["level"] == "well" else 1)


def test_a_daemon_that_does_not_run_is_told_in_a_line() -> None:
    shown = status("--url", f"http://127.0.0.1:{free_port()}")
    assert shown.returncode == 3
    assert "does the daemon run?" in shown.stderr
    assert shown.stderr.count("\n") == 1
