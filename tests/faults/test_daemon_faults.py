"""T-11 to T-13, T-15, T-39 and the service manners: the daemon killed, stopped, starved and asked."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.daemon import ANY_ROOM, Daemon, wait_until
from tests.fakes.fakecam import FakeCam, write_direct
from tests.footage import cached_ts
from tests.oracle import digests_below, require_all_delivered, require_nothing_lost

EVERY_STEP = bool(os.environ.get("CCTV_EVERY_SYSTEM_CALL"))
"""Sweep T-11 over every call and count; CI takes a sample of them."""
CALLS = ("pread64", "pwrite64", "fdatasync", "fsync", "linkat", "link", "rename", "mkdir", "unlink")
COUNTS = tuple(range(1, 12)) if EVERY_STEP else (1, 2, 4)


def tiny() -> bytes:
    return cached_ts(seconds=0.4, size="64x64", rate=5).read_bytes()


def cam_of(daemon: Daemon, name: str = "gate") -> FakeCam:
    return FakeCam(daemon.recordings, name, tiny(), daemon.folder / "aside")


@contextlib.contextmanager
def killing_at(pid: int, call: str, count: int) -> Iterator[subprocess.Popen[bytes]]:
    """strace attached: SIGKILL when the process makes the `count`th call of that kind from now on."""
    fault = f"-einject={call}:signal=KILL:when={count}"
    strace = subprocess.Popen(
        ["strace", "-f", "-q", "-o", "/dev/null", "-p", str(pid), f"-etrace={call}", fault],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        wait_until(lambda: _traced(pid), "strace has attached")
        yield strace
    finally:
        strace.terminate()
        strace.communicate(timeout=60)


def outlived(daemon: Daemon) -> bool:
    """Whether the daemon lives now that nobody traces it: the kill may have met it when its work was done.

    An answer to what is asked only now proves it: a process that was killed gives none any more.
    """
    with contextlib.suppress(OSError, http.client.HTTPException):
        return daemon.request("GET", "/health")[0] == 200
    assert daemon.process is not None
    daemon.process.wait(60)
    return False


def _traced(pid: int) -> bool:
    """Whether every thread has a tracer (proc(5), TracerPid)."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        return all("TracerPid:\t0" not in (thread / "status").read_text() for thread in threads)
    except FileNotFoundError:
        return False


@pytest.mark.timeout(600)
def test_a_kill_at_any_system_call_of_a_segments_life_loses_nothing(
    make_daemon: Callable[..., Daemon],
) -> None:
    """T-11: registered, journalled, linked, verified: killed in every step, started again, all is there."""
    # No pictures: the kill would meet their ffmpeg, which is followed as a child.
    daemon = make_daemon(filesystem={"path": "", "link": True}, thumbnails={"on_ingest": False})
    daemon.settings["filesystem"]["path"] = str(daemon.store)
    cam = cam_of(daemon)
    daemon.start()
    kills = 0
    for call in CALLS:
        for count in COUNTS:
            assert daemon.process is not None
            with killing_at(daemon.process.pid, call, count):
                cam.write(write_direct)
                died = _dies_or_delivers(daemon, len(cam.written))
            if not died and outlived(daemon):
                break  # the life of a segment has fewer calls of this kind: on with the next kind
            kills += 1
            daemon.start()
            segments = daemon.wait_delivered(len(cam.written))
            require_all_delivered(cam.written, segments, digests_below(daemon.store))
            require_nothing_lost(cam.written, segments, digests_below(daemon.store), daemon.recordings)
            assert len(segments) == len(cam.written), "nothing is known twice"
    assert kills >= 5, f"only {kills} kills: the sweep has missed what it was to interrupt"
    assert daemon.metric("storage_segments_lost_total") == 0
    assert daemon.stop() == 0


def _dies_or_delivers(daemon: Daemon, count: int) -> bool:
    """True once the process is dead, False once everything is delivered."""
    assert daemon.process is not None
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if daemon.process.poll() is not None:
            return True
        with contextlib.suppress(OSError, http.client.HTTPException, AssertionError):
            done = sum(int(camera["segments"]) for camera in daemon.get("/cameras")["cameras"]) >= count
            if done and all(backend["segments"] == 0 for backend in daemon.get("/queue")["backends"]):
                return False
        time.sleep(0.05)
    raise AssertionError(f"neither dead nor done\n{daemon.log[-3000:]}")


def test_a_kill_storm_under_load_loses_nothing(daemon: Daemon) -> None:
    """T-12, small: killed at odd moments while segments come in."""
    cam = cam_of(daemon)
    for number in range(6):
        daemon.start()
        for _ in range(25):
            cam.write()
        time.sleep(0.05 * number)  # not a wait for anything: the moment of the kill
        daemon.kill()
    daemon.start()
    segments = daemon.wait_delivered(len(cam.written))
    assert len(segments) == len(cam.written)
    require_all_delivered(cam.written, segments, digests_below(daemon.store))


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(128)
        yield int(server.getsockname()[1])


def minio_at(port: int) -> dict[str, object]:
    return {
        "backend": "MINIO",
        "minio": {
            "endpoint": f"127.0.0.1:{port}",
            "access_key": "CANARYKEY",
            "secret_key": "canary-secret-1",
        },
    }


def test_a_stop_with_a_hung_backend_is_in_time_and_clean(make_daemon: Callable[..., Daemon]) -> None:
    """T-13: a backlog, a store that accepts connections and never answers, SIGTERM."""
    with black_hole() as port:
        daemon = make_daemon(**minio_at(port)).start()
        cam = cam_of(daemon)
        for _ in range(200):
            cam.write()
        daemon.wait_segments(200)
        started = time.monotonic()
        assert daemon.stop(timeout_s=40) == 0
        assert time.monotonic() - started < 35
        with daemon.journal() as journal:
            assert journal.execute("SELECT count(*) FROM copy WHERE state = 'pending'").fetchone()[0] == 200
            assert journal.execute("SELECT value FROM meta WHERE key = 'closed_cleanly'").fetchone()[0] == "1"
        assert not (daemon.data_dir / "journal.db-wal").exists()


def test_a_second_signal_stops_at_once(make_daemon: Callable[..., Daemon]) -> None:
    with black_hole() as port:
        daemon = make_daemon(**minio_at(port)).start()
        cam_of(daemon).write()
        daemon.wait_segments(1)
        daemon.signal(signal.SIGTERM)
        wait_until(lambda: "stopping" in daemon.log, "the first signal is heard")
        started = time.monotonic()
        assert daemon.stop(timeout_s=20) == 0
        assert time.monotonic() - started < 10


def test_a_full_disk_under_the_journal_is_told_survived_and_left_behind(
    make_daemon: Callable[..., Daemon],
) -> None:
    """T-15: the data folder on a tmpfs of its own, filled up and emptied again."""
    daemon = make_daemon(capacity={"reserve": "200kB", **ANY_ROOM})
    daemon.data_dir.mkdir()
    mount = f'mount -t tmpfs -o size=6m tmpfs "{daemon.data_dir}" && exec "$@"'
    daemon.wrapper = ["unshare", "--mount", "sh", "-c", mount, "sh"]
    daemon.start()
    assert daemon.process is not None
    inside = Path(f"/proc/{daemon.process.pid}/root{daemon.data_dir}")
    cam = cam_of(daemon)
    cam.write()
    daemon.wait_delivered(1)
    with (inside / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while filler.write(bytes(4096)):
            pass

    def fills_up() -> bool:
        cam.write()
        return daemon.metric("storage_journal_full") == 1 or "no room" in daemon.log or "FULL" in daemon.log

    wait_until(fills_up, "the journal finds no room", patience_s=60, details=lambda: daemon.log[-2000:])
    assert daemon.process.poll() is None, "the process lives"
    assert daemon.request("GET", "/health")[0] == 200
    (inside / "filler").unlink()
    segments = daemon.wait_delivered(len(cam.written), patience_s=90)
    require_all_delivered(cam.written, segments, digests_below(daemon.store))
    assert daemon.stop() == 0


def test_no_secret_is_said_anywhere(make_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    """T-39: canaries in every secret; logs at debug, metrics, API, check-config, command line."""
    canaries = {"minio": "canary-minio-7f3a", "postgres": "canary-pg-91bc", "access": "CANARYACCESS4242"}
    (tmp_path / "password").write_text(canaries["postgres"] + "\n")
    with black_hole() as port:
        daemon = make_daemon(
            backend="MINIO",
            log_level="debug",
            minio={
                "endpoint": f"127.0.0.1:{port}",
                "access_key": canaries["access"],
                "secret_key": canaries["minio"],
            },
            postgres={"host": "127.0.0.1", "port": port, "user": "cctv"},
        )
        daemon.environ["POSTGRES_PASSWORD_FILE"] = str(tmp_path / "password")
        daemon.start()
        cam_of(daemon).write()
        daemon.wait_segments(1)
        said = [json.dumps(daemon.get("/queue")), json.dumps(daemon.request("GET", "/ready")[1])]
        said.append(str(daemon.request("GET", "/metrics")[1]))
        assert daemon.process is not None
        said.append(Path(f"/proc/{daemon.process.pid}/cmdline").read_text())
        shown = subprocess.run(
            [sys.executable, "-m", "cctv_storaged", "check-config", "--config", str(daemon.config)],
            env=daemon._environ(),
            capture_output=True,
            text=True,
            check=True,
        )
        said += [shown.stdout, shown.stderr]
        daemon.signal(signal.SIGTERM)
        daemon.stop()
        said.append(daemon.logs)
    assert "********" in shown.stdout
    for name, canary in canaries.items():
        assert not any(canary in text for text in said), f"the {name} secret was said"


def test_a_reload_changes_what_can_change_and_a_bad_file_changes_nothing(daemon: Daemon) -> None:
    daemon.start()
    text = daemon.config.read_text()
    camera = "cameras:\n- {id: 123e4567-e89b-12d3-a456-426614174000, name: Front gate, folder: gate}\n"
    daemon.config.write_text(text + "log_level: debug\nnonsense: 1\n")
    daemon.signal(signal.SIGHUP)
    wait_until(lambda: "nonsense" in daemon.log, "the bad key is told")
    assert "settings reloaded" not in daemon.log
    daemon.config.write_text(text + camera)
    daemon.signal(signal.SIGHUP)
    wait_until(lambda: "settings reloaded" in daemon.log, "the good file is taken")
    cam_of(daemon).write()
    segments = daemon.wait_delivered(1)
    assert segments[0]["camera_id"] == "123e4567-e89b-12d3-a456-426614174000"
    assert "Front gate" in daemon.cameras()
    assert daemon.stop() == 0


class Manager:
    """The service manager's end of NOTIFY_SOCKET (sd_notify(3))."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)
        self.said: list[str] = []

    def heard(self, word: str) -> bool:
        with contextlib.suppress(BlockingIOError):
            while True:
                self.said += self._socket.recv(65536).decode().splitlines()
        return any(line.startswith(word) for line in self.said)

    def close(self) -> None:
        self._socket.close()


def test_the_service_manager_is_told_ready_watchdog_and_stopping(
    make_daemon: Callable[..., Daemon], socket_path: Path
) -> None:
    pytest.importorskip("systemd.daemon", reason="the extra `systemd`, which scripts/test installs")
    manager = Manager(socket_path)
    with contextlib.closing(manager):
        daemon = make_daemon()
        daemon.environ |= {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "1500000"}
        process = daemon.start().process
        assert process is not None
        wait_until(lambda: manager.heard("READY=1"), "READY=1")
        wait_until(lambda: manager.heard("WATCHDOG=1"), "an earned sign of life")
        assert manager.heard("STATUS=")
        daemon.signal(signal.SIGHUP)
        wait_until(lambda: manager.heard("RELOADING=1"), "RELOADING=1")
        daemon.signal(signal.SIGTERM)  # and heard on meanwhile: a full queue would hold the daemon up
        wait_until(lambda: manager.heard("STOPPING=1"), "STOPPING=1")
        wait_until(lambda: manager.heard("") and process.poll() is not None, "the daemon ends")
        assert process.returncode == 0


def test_two_daemons_do_not_share_a_journal(daemon: Daemon) -> None:
    daemon.start()
    other = Daemon(daemon.folder, settings={"api": {"port": 0}})
    other.starts = 10
    other.start(ready=False)
    assert other.process is not None
    assert other.process.wait(30) == 3
    assert "in use by another cctv-storaged" in other.log
    assert daemon.request("GET", "/health")[0] == 200


def test_bad_settings_are_refused_all_at_once(daemon: Daemon) -> None:
    daemon.settings = {
        "mode": "SIDEWAYS",
        "delivry": {},
        "recorders": [{"path": "/x", "layout": "no-time.ts"}],
    }
    daemon.start(ready=False)
    assert daemon.process is not None
    assert daemon.process.wait(30) == 2
    for word in ("mode", "delivry"):
        assert word in daemon.log
    assert len(daemon.log.splitlines()) >= 2
    assert "Traceback" not in daemon.log


def test_sources_are_pruned_only_after_their_grace(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon(source={"grace": "0s"}).start()
    cam = cam_of(daemon)
    for _ in range(5):
        cam.write()
    daemon.wait_delivered(5)

    def pruned() -> bool:
        return not any((daemon.recordings / entry.path).exists() for entry in cam.written)

    wait_until(pruned, "the sources are pruned", patience_s=100)
    segments = daemon.segments()
    require_all_delivered(cam.written, segments, digests_below(daemon.store))
    camera = segments[0]["camera_id"]
    status, content = daemon.request("GET", f"/segments/{camera}/{segments[0]['id']}/content")
    assert status == 200
    assert len(content) == segments[0]["size_bytes"]


def test_a_running_daemon_answers_for_what_it_has(daemon: Daemon) -> None:
    """Coverage over a gap, through the API of the process."""
    daemon.start()
    cam = cam_of(daemon)
    cam.step = timedelta(seconds=0.4)
    cam.start = datetime(2026, 11, 1, 12, tzinfo=UTC)
    cam.write()
    segments = daemon.wait_delivered(1)
    camera = segments[0]["camera_id"]
    answer = daemon.get(
        f"/cameras/{camera}/coverage", start="2026-11-01T11:59:00Z", end="2026-11-01T12:01:00Z"
    )
    assert len(answer["spans"]) == 1
    assert [gap["cause"] for gap in answer["gaps"]] == ["before_first", "unknown"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", answer["spans"][0]["end"])
