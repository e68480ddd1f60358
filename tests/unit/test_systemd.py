"""Word to the service manager, heard on a real datagram socket as systemd would hear it."""

import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from cctv_storaged.systemd import LONGEST_STATUS, ServiceManager, watchdog_interval_s


@pytest.fixture(params=["path", "abstract"])
def manager_socket(
    request: pytest.FixtureRequest, socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    """A socket that NOTIFY_SOCKET names, once in the file system and once in the abstract name space."""
    name = str(socket_path) if request.param == "path" else f"@cctv-{uuid.uuid4()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as listener:
        listener.bind(name.replace("@", "\0", 1) if name.startswith("@") else name)
        listener.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield listener


def heard(listener: socket.socket) -> list[str]:
    return listener.recv(4096).decode().split("\n")


def test_ready_stopping_and_status_are_heard(manager_socket: socket.socket) -> None:
    manager = ServiceManager()
    manager.ready("2 cameras")
    assert heard(manager_socket) == ["READY=1", "STATUS=2 cameras"]
    manager.status("17 segments wait for S3")
    assert heard(manager_socket) == ["STATUS=17 segments wait for S3"]
    manager.watchdog()
    assert heard(manager_socket) == ["WATCHDOG=1"]
    manager.extend_timeout(1.5)
    assert heard(manager_socket) == ["EXTEND_TIMEOUT_USEC=1500000"]
    manager.stopping()
    assert heard(manager_socket) == ["STOPPING=1"]


def test_a_reload_carries_the_time_of_the_monotonic_clock(manager_socket: socket.socket) -> None:
    before_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    ServiceManager().reloading()
    word, told = heard(manager_socket)
    after_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert word == "RELOADING=1"
    name, _, value = told.partition("=")
    assert name == "MONOTONIC_USEC"
    assert before_us <= int(value) <= after_us


def test_a_line_break_in_a_status_does_not_become_another_assignment(manager_socket: socket.socket) -> None:
    manager = ServiceManager()
    manager.status("scanning evil\nSTOPPING=1\udcff.ts")
    assert heard(manager_socket) == [r"STATUS=scanning evil\nSTOPPING=1\xff.ts"]
    manager.status("x" * 100_000)
    assert heard(manager_socket) == ["STATUS=" + "x" * LONGEST_STATUS]


def test_a_manager_that_went_away_is_told_about_once_and_harms_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    manager = ServiceManager()
    manager.watchdog()
    manager.watchdog()
    assert [record.message for record in caplog.records] == ["the service manager cannot be told"]


def test_without_a_manager_every_call_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    manager = ServiceManager({})
    assert not manager.listening
    manager.ready("up")
    manager.reloading()
    manager.watchdog()
    manager.stopping()
    assert caplog.records == []


def test_without_the_library_the_process_runs_and_says_once_that_it_cannot_tell(tmp_path: Path) -> None:
    """An import hook stands for a host where the extra is not installed."""
    program = (
        "import sys; sys.modules['systemd'] = None; sys.modules['systemd.daemon'] = None\n"
        "from cctv_storaged.systemd import ServiceManager\n"
        "manager = ServiceManager(); manager.ready('up'); manager.watchdog(); print(manager.listening)\n"
    )
    environ = os.environ | {
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(
        [sys.executable, "-c", program], env=environ, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "False\n"
    assert done.stderr == "the service manager waits for word, but systemd-python is not installed\n"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "60000000"}, 20.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 20.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
    ],
)
def test_the_watchdog_is_pinged_three_times_per_period_by_the_watched_process_only(
    environ: dict[str, str], expected: float | None
) -> None:
    assert watchdog_interval_s(environ) == expected
