"""The daemon as a process: started with settings of its own on a free port, asked, stopped or killed.

What a test knows of it is what a user knows: files, the API, the metrics, the log, the exit code. The
journal is only read after the process has ended.
"""

import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

PROJECT = Path(__file__).resolve().parent.parent
LAYOUT = "{camera}/%Y-%m-%d/%H-%M-%S.ts"
PATIENCE_S = 60.0
ANY_ROOM = dict.fromkeys(("warn_free", "clean_free", "emergency_free"), "0%")
"""Levels of `capacity` for tests that are not about room: how full their disk is, is no matter of theirs."""
_READY = re.compile(r"ready: API at (\S+?)/?\s")
"""The address and what ends it: a line may be read while it is being written."""


def wait_until(
    condition: Callable[[], bool],
    what: str,
    *,
    patience_s: float = PATIENCE_S,
    details: Callable[[], str] = lambda: "",
) -> None:
    """Returns when the condition holds; fails with `what` (and details) when it does not in time."""
    end = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {patience_s:g} s: {what}\n{details()}")
        time.sleep(0.05)


@dataclass(slots=True)
class Daemon:
    """One daemon with its folder; may be started again after it has ended."""

    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)
    environ: dict[str, str] = field(default_factory=dict)
    wrapper: Sequence[str] = ()  # e.g. strace with its options
    process: subprocess.Popen[bytes] | None = None
    url: str = ""
    starts: int = 0

    @property
    def recordings(self) -> Path:
        return self.folder / "recordings"

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def log_file(self) -> Path:
        return self.folder / f"log.{self.starts}"

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    @property
    def logs(self) -> str:
        """What every start so far has said."""
        return "".join(each.read_text(errors="replace") for each in sorted(self.folder.glob("log.*")))

    def start(self, *, ready: bool = True) -> "Daemon":
        """Starts the process; waits until it says that it is ready unless told otherwise."""
        self.recordings.mkdir(parents=True, exist_ok=True)
        self.store.mkdir(exist_ok=True)
        self.starts += 1
        self._write_settings()
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                [*self.wrapper, sys.executable, "-m", "cctv_storaged", "run", "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environ(),
                start_new_session=True,
            )
        if ready:
            self.wait_ready()
        return self

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    def wait_ready(self, patience_s: float = PATIENCE_S) -> None:
        def said_so() -> bool:
            if self.process is not None and self.process.poll() is not None:
                raise AssertionError(f"ended with {self.process.returncode}\n{self.log}")
            return _READY.search(self.log) is not None

        wait_until(said_so, "the daemon is ready", patience_s=patience_s, details=lambda: self.log)
        said = _READY.search(self.log)
        assert said is not None
        self.url = said[1]

    def stop(self, timeout_s: float = PATIENCE_S) -> int:
        """SIGTERM, and the exit code."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM) if self.wrapper else self.process.terminate()
        return self.process.wait(timeout_s)

    def kill(self) -> None:
        """SIGKILL, to the wrapper and its child alike."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE_S)

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    # Asking

    def get(self, path: str, **query: str | int) -> Any:
        """The JSON answer of the API; AssertionError with the body for anything but a success."""
        return self.request("GET", path, query=query)[1]

    def request(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        query: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        expect: Sequence[int] = (200, 201, 202, 204),
    ) -> tuple[int, Any]:
        """Status and parsed JSON (bytes where it is none)."""
        prefix = "" if path.startswith(("/health", "/ready", "/metrics", "/openapi")) else "/api/v1/storage"
        url = f"{self.url}{prefix}{path}"
        if query:
            url += "?" + urllib.parse.urlencode(query)
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data=data, method=method, headers=dict(headers or {}))
        if data is not None:
            request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                status, raw, kind = answer.status, answer.read(), answer.headers.get_content_type()
        except urllib.error.HTTPError as exc:
            status, raw, kind = exc.code, exc.read(), exc.headers.get_content_type()
        parsed = json.loads(raw) if kind.endswith("json") and raw else raw
        assert status in expect, f"{method} {url} answered {status}: {parsed}"
        return status, parsed

    def metric(self, name: str, **labels: str) -> float:
        """A sample of /metrics; 0 where there is none."""
        _, raw = self.request("GET", "/metrics")
        wanted = {f'{key}="{value}"' for key, value in labels.items()}
        total = 0.0
        for line in raw.decode().splitlines():
            if line.startswith("#"):
                continue
            series, value = line.rsplit(" ", 1)
            if series.split("{")[0] == name and all(label in series for label in wanted):
                total += float(value)
        return total

    def cameras(self) -> dict[str, Any]:
        """The cameras by name."""
        return {camera["name"]: camera for camera in self.get("/cameras")["cameras"]}

    def segments(self, **query: str | int) -> list[dict[str, Any]]:
        """All segments of all cameras, page by page."""
        query = {"start": "2000-01-01T00:00:00Z", "end": "2100-01-01T00:00:00Z", "limit": 1000, **query}
        found: list[dict[str, Any]] = []
        for camera in self.get("/cameras")["cameras"]:
            cursor: dict[str, str] = {}
            while True:
                page = self.get(f"/segments/{camera['id']}", **query, **cursor)
                found += page["segments"]
                if page["next_cursor"] is None:
                    break
                cursor = {"cursor": page["next_cursor"]}
        return found

    def wait_segments(self, count: int, patience_s: float = PATIENCE_S) -> list[dict[str, Any]]:
        """Until so many segments are registered."""

        def registered() -> bool:
            return sum(int(camera["segments"]) for camera in self.get("/cameras")["cameras"]) >= count

        wait_until(registered, f"{count} segments", patience_s=patience_s, details=lambda: self.log[-4000:])
        return self.segments()

    def wait_delivered(self, count: int, patience_s: float = PATIENCE_S) -> list[dict[str, Any]]:
        """Until so many segments are registered and nothing is undelivered."""
        self.wait_segments(count, patience_s)

        def drained() -> bool:
            return all(backend["segments"] == 0 for backend in self.get("/queue")["backends"])

        wait_until(
            drained, "everything is delivered", patience_s=patience_s, details=lambda: self.log[-4000:]
        )
        return self.segments()

    # After its end

    @contextlib.contextmanager
    def journal(self) -> Iterator[sqlite3.Connection]:
        """The journal of a daemon that has ended."""
        assert self.process is None or self.process.poll() is not None, (
            "only one process may open the journal"
        )
        connection = sqlite3.connect(self.data_dir / "journal.db")
        try:
            yield connection
        finally:
            connection.close()

    def _write_settings(self) -> None:
        settings: dict[str, Any] = {
            "host_id": "test-host",
            "data_dir": str(self.data_dir),
            "filesystem": {"path": str(self.store)},
            "api": {"port": 0},
            "recorders": [{"path": str(self.recordings), "layout": LAYOUT, "scan_interval": "2s"}],
            "capacity": {"reserve": "1MB", **ANY_ROOM},
            "log_format": "plain",
            "retention": {"default": {}},  # footage of tests is dated: it must not become too old one day
            **self.settings,
        }
        self.config.write_text(yaml.safe_dump(settings))

    def _environ(self) -> dict[str, str]:
        kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
        return {**kept, "PYTHONPATH": str(PROJECT / "src"), "PYTHONUNBUFFERED": "1", **self.environ}


@pytest.fixture
def make_daemon(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """Makes daemons with folders of their own; whatever still runs at the end is killed."""
    made: list[Daemon] = []

    def make(name: str = "host", **settings: Any) -> Daemon:
        folder = tmp_path / name
        folder.mkdir()
        made.append(Daemon(folder, settings=settings))
        return made[-1]

    yield make
    for daemon in made:
        daemon.kill()


@pytest.fixture
def daemon(make_daemon: Callable[..., Daemon]) -> Daemon:
    """One daemon on the embedded default, not yet started."""
    return make_daemon()
