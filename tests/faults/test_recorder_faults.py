"""T-02, T-06, T-08: what recorders and kernels do to the daemon, as a process."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Literal

import pytest

from tests.daemon import Daemon, wait_until
from tests.fakes.fakecam import FakeCam, unique
from tests.footage import cached_ts, recorder_command
from tests.oracle import digests_below, require_all_delivered

OVERFLOW_FILES = int(os.environ.get("CCTV_OVERFLOW_FILES", "0"))
"""How many files are a flood; 0 for what the kernel's queue asks for: it holds 16,384 events by default."""
NAMES, STRFTIME = "%H-%M-%S.ts", ("-strftime", "1")


def tiny() -> bytes:
    return cached_ts(seconds=0.4, size="64x64", rate=5).read_bytes()


def queue_limit() -> int:
    return int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())


def rarely_scanned(daemon: Daemon) -> None:
    """Only events can find files soon: no scan comes before them by chance."""
    daemon.settings["recorders"] = [
        {"path": str(daemon.recordings), "layout": "{camera}/%Y-%m-%d/%H-%M-%S.ts", "scan_interval": "1h"}
    ]


@pytest.mark.timeout(900)
def test_an_overflow_of_the_kernels_queue_loses_nothing(daemon: Daemon) -> None:
    """T-02: the daemon is stopped, a flood of files and new folders comes, the daemon goes on."""
    rarely_scanned(daemon)
    daemon.start()
    folder = daemon.recordings / "flood" / "2026-11-01"
    folder.mkdir(parents=True)
    first = FakeCam(daemon.recordings, "flood", tiny(), daemon.folder / "aside", step=timedelta(seconds=5))
    first.write()
    daemon.wait_segments(1)
    files = OVERFLOW_FILES or queue_limit() * 11 // 20  # two events a file
    assert queue_limit() < 2 * files, "the flood is no overflow on this machine"
    daemon.signal(signal.SIGSTOP)
    for _ in range(files):
        first.write()
    others = [FakeCam(daemon.recordings, f"new{n}", tiny(), daemon.folder / "aside") for n in range(50)]
    for cam in others:
        cam.write()
    daemon.signal(signal.SIGCONT)
    count = len(first.written) + len(others)
    daemon.wait_segments(count, patience_s=400)
    assert daemon.metric("storage_watcher_overflows_total") >= 1
    late = others[7].write()
    daemon.wait_segments(count + 1, patience_s=400)
    assert late.path in daemon.log, "folders made during the overflow are watched"


def test_a_killed_recorder_leaves_empty_or_partial_segments_and_nothing_is_deleted(daemon: Daemon) -> None:
    """T-06: SIGKILL of ffmpeg in the middle of a segment, several times."""
    daemon.start()
    before: set[Path] = set()
    for number in range(4):
        folder = daemon.recordings / f"cam{number}" / time.strftime("%Y-%m-%d", time.gmtime())
        command = recorder_command(
            folder, pattern=NAMES, segment_s=1, seconds=30, rate=10, gop=10, realtime=True, options=STRFTIME
        )
        ffmpeg = subprocess.Popen(command, env={**os.environ, "TZ": "UTC"}, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda folder=folder: len(list(folder.rglob("*.ts"))) >= 2, "a second segment began")  # type: ignore[misc]
        finally:
            ffmpeg.send_signal(signal.SIGKILL)
            ffmpeg.wait()
        before |= set(folder.rglob("*.ts"))

    def settled() -> bool:
        aside = sum(daemon.get("/queue")["set_aside"].values())
        return int(sum(c["segments"] for c in daemon.get("/cameras")["cameras"])) + int(aside) >= len(before)

    wait_until(settled, "every file is a segment or set aside", details=lambda: daemon.log[-3000:])
    reasons = daemon.get("/queue")["set_aside"]
    assert set(reasons) <= {"empty", "no_program", "not_mpegts"}, reasons
    assert set(daemon.recordings.rglob("*.ts")) == before, "nothing was removed"
    daemon.wait_delivered(len(before) - sum(reasons.values()))


def test_hostile_names_are_one_line_each_in_the_log(daemon: Daemon) -> None:
    """T-08."""
    daemon.start()
    names = ["new\nline", "\x1b[31mred", "\u202egnp", b"\xff\xfe".decode(errors="surrogateescape"), "-y"]
    for name in names:
        folder = daemon.recordings / name / "2026-11-01"
        folder.mkdir(parents=True)
        (folder / "10-00-00.ts").write_bytes(unique(tiny(), ascii(name)))
        (folder / "no\nsegment.ts").write_bytes(b"x")
    daemon.wait_delivered(len(names))
    wait_until(lambda: daemon.log.count("set aside") == len(names), "all oddities are set aside")
    assert daemon.stop() == 0
    for line in daemon.log_file.read_bytes().splitlines():
        assert line[:2] == b"20", f"a line that begins with no time: {line!r}"
        assert b"\x1b" not in line
        assert line.decode("utf-8").isprintable() or "\u202e" not in line.decode("utf-8")


@pytest.mark.parametrize("muxer", ["segment", "hls"])
def test_a_real_recorder_is_followed_segment_by_segment(
    daemon: Daemon, muxer: Literal["segment", "hls"]
) -> None:
    """ffmpeg's two muxers, one-second names, new folders as it goes; hls writes to .tmp and renames."""
    rarely_scanned(daemon)
    daemon.start()
    folder = daemon.recordings / "live" / time.strftime("%Y-%m-%d", time.gmtime())
    options = ["-hls_flags", "temp_file"] if muxer == "hls" else ["-reset_timestamps", "1"]
    command = recorder_command(
        folder,
        pattern=NAMES,
        muxer=muxer,
        segment_s=2,
        seconds=8,
        rate=10,
        gop=10,
        realtime=True,
        options=[*STRFTIME, *options],
    )
    subprocess.run(
        command, env={**os.environ, "TZ": "UTC"}, check=True, stderr=subprocess.DEVNULL, timeout=60
    )
    files = list(folder.rglob("*.ts"))
    assert len(files) >= 3
    segments = daemon.wait_delivered(len(files))
    assert len(segments) == len(files)
    total = sum(segment["duration_seconds"] for segment in segments)
    assert 7 <= total <= 9, f"{total} s of footage from an 8 s stream"
    assert daemon.metric("storage_scan_found_total") == 0, "events found them all"


def test_files_written_while_the_daemon_was_down_are_found(
    make_daemon: Callable[..., Daemon],
) -> None:
    daemon = make_daemon().start()
    cam = FakeCam(daemon.recordings, "gate", tiny(), daemon.folder / "aside")
    for _ in range(3):
        cam.write()
    daemon.wait_delivered(3)
    assert daemon.stop() == 0
    for _ in range(3):
        cam.write()
    daemon.start()
    segments = daemon.wait_delivered(6)
    require_all_delivered(cam.written, segments, digests_below(daemon.store))
    assert daemon.metric("storage_scan_found_total") == 3


def test_a_root_that_is_away_is_told_and_found_again(daemon: Daemon) -> None:
    daemon.start()
    cam = FakeCam(daemon.recordings, "gate", tiny(), daemon.folder / "aside")
    cam.write()
    daemon.wait_delivered(1)
    daemon.recordings.rename(daemon.folder / "unmounted")
    wait_until(lambda: daemon.metric("storage_root_up") == 0, "the missing root is noticed")
    _, ready = daemon.request("GET", "/ready", expect=(503,))
    assert not ready["ready"]
    assert len(daemon.segments()) == 1, "nothing is marked missing"
    shutil.move(daemon.folder / "unmounted", daemon.recordings)
    wait_until(lambda: daemon.metric("storage_root_up") == 1, "the root is back", patience_s=30)
    cam.write()
    daemon.wait_delivered(2)
    assert daemon.metric("storage_segments_lost_total") == 0
