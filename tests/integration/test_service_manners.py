"""The daemon as a service: what systemd hears of it, and what its words never contain."""

import contextlib
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from tests.daemon import PROJECT, Daemon, wait_until
from tests.footage import make_ts

Heard = dict[str, str]


class ServiceManagerSocket:
    """The other end of NOTIFY_SOCKET. As the real one it always reads: who finds ten words unread there
    (net.unix.max_dgram_qlen) waits, and could not even end.
    """

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.bind(str(path))
        self._words: queue.Queue[str] = queue.Queue()
        self._reading = threading.Thread(target=self._read)
        self._reading.start()
        self.path = path

    def _read(self) -> None:
        while word := self._socket.recv(8192):
            self._words.put(word.decode())

    def next(self, patience_s: float = 30.0) -> Heard:
        """Raises queue.Empty after so long."""
        lines = self._words.get(timeout=patience_s).splitlines()
        return dict(line.partition("=")[::2] for line in lines)

    def wait_for(self, name: str) -> tuple[Heard, list[Heard]]:
        """The next message that sets `name`, and those before it."""
        before: list[Heard] = []
        while name not in (heard := self.next()):
            before.append(heard)
        return heard, before

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ending:
            ending.sendto(b"", str(self.path))  # the empty word ends the reading
        self._reading.join()
        self._socket.close()


@pytest.fixture
def manager(socket_path: Path) -> Iterator[ServiceManagerSocket]:
    manager = ServiceManagerSocket(socket_path)
    yield manager
    manager.close()


def test_systemd_hears_start_life_reload_and_stop(daemon: Daemon, manager: ServiceManagerSocket) -> None:
    daemon.environ |= {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "600000"}
    daemon.start()
    ready, before = manager.wait_for("READY")
    assert ready["STATUS"]
    assert any("EXTEND_TIMEOUT_USEC" in heard for heard in before)
    assert not any("WATCHDOG" in heard for heard in before)
    for _ in range(3):
        manager.wait_for("WATCHDOG")

    daemon.signal(signal.SIGHUP)
    reloading, _ = manager.wait_for("RELOADING")
    assert int(reloading["MONOTONIC_USEC"]) > 0
    _, between = manager.wait_for("READY")
    assert not any("STOPPING" in heard for heard in between)

    daemon.signal(signal.SIGTERM)
    manager.wait_for("STOPPING")
    assert daemon.process is not None
    assert daemon.process.wait(30) == 0


def test_a_reload_asked_for_while_it_starts_does_not_end_it(daemon: Daemon) -> None:
    """SIGHUP's default would, and systemd takes that for a clean end: it would not start it again."""
    daemon.folder.mkdir(exist_ok=True)
    os.mkfifo(pipe := daemon.folder / "settings")
    with daemon.log_file.open("wb") as log:
        daemon.process = subprocess.Popen(
            [sys.executable, "-m", "cctv_storaged", "run", "--config", str(pipe)],
            stdout=log,
            stderr=log,
            env=daemon._environ(),
            start_new_session=True,
        )
    with pipe.open("w") as settings:  # opens once the daemon reads: it starts, and is not ready
        daemon.signal(signal.SIGHUP)
        settings.write(f"data_dir: {daemon.data_dir}\napi: {{port: 0}}\nlog_format: plain\n")
    daemon.wait_ready()
    assert daemon.stop() == 0


PATIENT = """
from cctv_storaged import cli
from cctv_storaged.api import server
server.STOP_TIMEOUT_S = 3600
cli.main()
"""


def test_a_second_signal_waits_for_no_client(daemon: Daemon) -> None:
    """With an API that would wait an hour for a download that nobody takes."""
    daemon.start()
    assert daemon.stop() == 0
    with daemon.log_file.open("wb") as log:
        daemon.process = subprocess.Popen(
            [sys.executable, "-c", PATIENT, "run", "--config", str(daemon.config)],
            stdout=log,
            stderr=log,
            env=daemon._environ(),
            start_new_session=True,
        )
    daemon.wait_ready()
    video = make_ts(daemon.folder, seconds=1).read_bytes()
    day = daemon.recordings / "gate" / "2026-11-22"
    day.mkdir(parents=True)
    (day / "10-00-00.ts").write_bytes(video * (32 * 2**20 // len(video)))  # more than sockets hold
    (segment,) = daemon.wait_segments(1)
    address = urlsplit(daemon.url)
    with socket.create_connection((address.hostname or "", address.port or 0)) as client:
        path = f"/api/v1/storage/segments/{segment['camera_id']}/{segment['id']}/content"
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert client.recv(1)
        daemon.signal(signal.SIGTERM)
        wait_until(lambda: "stopping" in daemon.log, "the first signal is heard", details=lambda: daemon.log)
        assert daemon.stop() == 0


def test_a_reload_without_a_settings_file_says_that_there_is_none(daemon: Daemon) -> None:
    with daemon.log_file.open("wb") as log:
        daemon.process = subprocess.Popen(
            [sys.executable, "-m", "cctv_storaged", "run"],
            cwd=daemon.folder,
            stdout=log,
            stderr=log,
            env=daemon._environ() | {"PORT": "0"},
            start_new_session=True,
        )
    daemon.wait_ready()
    daemon.signal(signal.SIGHUP)
    wait_until(lambda: "settings reloaded" in daemon.log, "the reload", details=lambda: daemon.log)
    assert "reloaded: nothing changed; there is no settings file (--config FILE)" in daemon.log
    assert "put off" not in daemon.log
    assert daemon.stop() == 0


def test_cameras_keep_their_ids_when_a_host_that_was_renamed_reloads(daemon: Daemon) -> None:
    """The journal pins the host's id, from which the ids of cameras follow."""
    daemon.settings["cameras"] = [{"folder": "gate"}]
    daemon.start()
    make_ts(daemon.recordings / "gate" / "2026-01-23", name="10-00-00.ts", seconds=1)
    daemon.wait_segments(1)
    before = {camera["id"] for camera in daemon.get("/cameras")["cameras"]}
    assert daemon.stop() == 0
    daemon.settings["host_id"] = "renamed"
    daemon.start()
    daemon.signal(signal.SIGHUP)
    wait_until(lambda: "settings reloaded" in daemon.log, "the reload", details=lambda: daemon.log)
    assert {camera["id"] for camera in daemon.get("/cameras")["cameras"]} == before


def test_a_reload_that_fails_in_any_way_leaves_the_old_settings_in_force(
    daemon: Daemon, manager: ServiceManagerSocket
) -> None:
    daemon.environ |= {"NOTIFY_SOCKET": str(manager.path)}
    daemon.start()
    manager.wait_for("READY")
    daemon.config.write_text("mode: SIDEWAYS\nlog_levle: debug\n")
    daemon.signal(signal.SIGHUP)
    manager.wait_for("RELOADING")
    manager.wait_for("READY")
    said = [line for line in daemon.log.splitlines() if "the old ones stay in force" in line]
    assert len(said) == 2, "one line for each fault"
    daemon.config.unlink()
    daemon.config.symlink_to(daemon.config)
    daemon.signal(signal.SIGHUP)
    manager.wait_for("RELOADING")
    manager.wait_for("READY")
    assert daemon.request("GET", "/health")[0] == 200


@pytest.mark.parametrize("command", ["run", "check-config"])
def test_closed_standard_streams_harm_nothing(tmp_path: Path, command: str) -> None:
    shell = f'exec "$@" {command} --config "$0" >&- 2>&-'
    broken = tmp_path / "config.yaml"
    broken.write_text("mode: SIDEWAYS\n")
    ended = subprocess.run(
        ["sh", "-c", shell, str(broken), sys.executable, "-m", "cctv_storaged"], cwd=PROJECT, check=False
    )
    assert ended.returncode == 2


def test_what_cannot_be_printed_is_told_in_one_line(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "cctv_storaged", "check-config"],
            cwd=tmp_path,
            env={"PYTHONPATH": str(PROJECT / "src")},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert ended.returncode == 3
    assert ended.stderr == "cctv-storaged: [Errno 28] No space left on device\n"


def test_a_stopped_process_is_silent_so_that_systemd_restarts_it(
    daemon: Daemon, manager: ServiceManagerSocket
) -> None:
    daemon.environ |= {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "600000"}
    daemon.start()
    manager.wait_for("WATCHDOG")
    daemon.signal(signal.SIGSTOP)
    wait_for_silence(manager)
    daemon.signal(signal.SIGCONT)
    manager.wait_for("WATCHDOG")


def wait_for_silence(manager: ServiceManagerSocket) -> None:
    """Behind what was said before it stopped there is nothing for three seconds, five periods."""
    end = time.monotonic() + 60
    with contextlib.suppress(queue.Empty):
        while True:
            manager.next(patience_s=3)
            assert time.monotonic() < end, "it is not silent"


SECRETS = {
    "MINIO_ACCESS_KEY": "canary-access-5c1f",
    "MINIO_SECRET_KEY": "canary-secret-key/+= 91",
    "S3_ACCESS_KEY": "canary-access-77aa",
    "S3_SECRET_KEY": "canary-s3-secret/+= 92",
    "POSTGRES_PASSWORD": "canary-postgres@:pw",
}


class ChattyStore(BaseHTTPRequestHandler):
    """Refuses everything and repeats what it was sent, as a proxy's error page may."""

    def do_GET(self) -> None:
        sent = escape(f"{self.command} {self.path} {dict(self.headers)}")
        body = f"<Error><Code>AccessDenied</Code><Message>{sent}</Message></Error>".encode()
        self.send_response(403)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_PUT = do_POST = do_HEAD = do_DELETE = do_GET  # noqa: N815 - http.server's names

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Not on the tests' standard error."""


@pytest.fixture
def chatty_store() -> Iterator[int]:
    """Its port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), ChattyStore)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("backend", ["MINIO", "S3"])
def test_secrets_are_nowhere_in_log_api_and_metrics_while_everything_fails(
    make_daemon: Callable[..., Daemon], chatty_store: int, backend: str
) -> None:
    daemon = make_daemon(
        backend=backend,
        log_level="debug",
        minio={"endpoint": f"127.0.0.1:{chatty_store}"},
        s3={"endpoint_url": f"http://127.0.0.1:{chatty_store}", "bucket_recordings": "b-one"},
        postgres={"host": "127.0.0.1", "port": chatty_store},
    )
    daemon.environ |= SECRETS
    daemon.start()
    make_ts(daemon.recordings / "gate" / "2026-11-22", name="10-00-00.ts", seconds=1)
    daemon.wait_segments(1)
    wait_until(
        lambda: daemon.metric("storage_backend_up", backend=backend) == 0 and " is away " in daemon.log,
        "the backend is seen to be away",
        details=lambda: daemon.log,
    )
    (store,) = daemon.get("/queue")["backends"]
    (part,) = [
        each
        for each in daemon.request("GET", "/ready", expect=range(200, 600))[1]["parts"]
        if each["name"] == f"backend {backend}"
    ]
    for trouble in (store["trouble"], part["trouble"]):
        assert trouble.startswith("auth: "), "the sentence of the log, not the word alone"
        assert "check access key" in trouble
    assert daemon.metric("storage_errors_total", operation="put", backend=backend) > 0
    answers = [
        daemon.get("/queue"),
        daemon.get("/cameras"),
        daemon.segments(),
        daemon.request("GET", "/metrics"),
        daemon.request("GET", "/ready", expect=range(200, 600)),
    ]
    assert daemon.stop() == 0
    said = "\n".join([daemon.log, *map(str, answers)])
    assert "AccessDenied" in said or "403" in said  # it did speak with the store, and told of it
    assert [word for word in ("canary", quote("canary-secret-key/+= 91"), "Signature=") if word in said] == []


def test_log_lines_stay_one_line_each_whatever_the_files_are_called(daemon: Daemon) -> None:
    daemon.settings["log_level"] = "debug"
    daemon.start()
    folder = daemon.recordings / "gate\n2026-01-01T00:00:00.000Z CRITICAL forged" / "2026-11-22"
    folder.mkdir(parents=True)
    for name in (b"10-00-00\x1b[2J.ts", b"bad\xff\n.ts", "\u202e10-00-10.ts".encode(), b"10-00-20.ts"):
        with open(os.path.join(os.fsencode(folder), name), "wb") as file:
            file.write(b"\x47" + bytes(187))
    wait_until(lambda: daemon.log.count("10-00-20") > 0, "the files were seen", details=lambda: daemon.log)
    daemon.stop()
    lines = daemon.log.split("\n")
    assert lines.pop() == ""
    assert [line for line in lines if not line.isprintable()] == []
    assert [line for line in lines if line.split()[1] not in {"DEBUG", "INFO", "WARNING", "ERROR"}] == []
