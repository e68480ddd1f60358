"""T-37, seen by the kernel: what a daemon opens while it is asked for what it may not read (strace(1))."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from tests.daemon import Daemon
from tests.footage import cached_ts, make_ts

START, END = "2025-01-23T10:00:00Z", "2025-01-23T10:00:02Z"
OPTIONS = ("-f", "-qq", "-y", "-s", "4096", "-e", "trace=open,openat,openat2")
OPENED = re.compile(r"open(?:at|at2)?(?:\(| resumed>).*\)\s+=\s+\d+<(?P<path>[^>]*)>")
"""In one line, or in two where another thread's came between."""


def test_no_file_outside_is_opened(make_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    outside = make_ts(tmp_path / "outside", name="secret.ts")
    root = {"path": str(tmp_path / "watched"), "watch": "poll", "scan_interval": "1h"}
    daemon = make_daemon(recorders=[root])
    daemon.wrapper = ["strace", *OPTIONS, "-o", str(trace)]
    gate = tmp_path / "watched" / "gate"
    make_ts(gate, name="real.ts")
    (gate / "link.ts").symlink_to(outside)
    (gate / "linked").symlink_to(outside.parent)
    (gate / "proc.ts").symlink_to("/proc/self/environ")
    os.mkfifo(gate / "fifo.ts")
    daemon.start()
    asked = [
        str(outside),
        "/etc/passwd",
        "/proc/self/environ",
        f"{gate}/link.ts",
        f"{gate}/linked/secret.ts",
        f"{gate}/proc.ts",
        f"{gate}/fifo.ts",
        f"{gate}/../../outside/secret.ts",
        f"{gate}/real.ts/../../../outside/secret.ts",
    ]
    for path in asked:
        status, told = daemon.request("POST", "/segments", body=body_of(path), expect=(422,))
        assert [error["field"] for error in told["errors"]] == ["file_path"], (status, told)
    status, made = daemon.request("POST", "/segments", body=body_of(f"{gate}/real.ts"))
    content = f"/segments/{made['camera_id']}/{made['id']}/content"
    assert daemon.request("GET", content)[1] == cached_ts().read_bytes()
    daemon.stop()
    opened = {match["path"] for match in OPENED.finditer(trace.read_text(errors="replace"))}
    assert f"{gate}/real.ts" in opened, "the trace shows nothing at all"
    assert not [path for path in opened if path.startswith(str(outside.parent))]
    assert not [path for path in opened if re.fullmatch(r"/proc/\w+/environ", path)]


def body_of(path: str) -> dict[str, object]:
    """Right in everything but the path."""
    return {
        "camera_id": str(uuid4()),
        "start_time": START,
        "end_time": END,
        "file_path": path,
        "size_bytes": cached_ts().stat().st_size,
        "duration_seconds": 2,
    }
