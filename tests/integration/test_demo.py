"""`scripts/run --demo` as a newcomer meets it: requests that work as printed, and nothing left behind."""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from tests.daemon import PROJECT, Daemon, wait_until
from tests.footage import make_ts
from tests.services.ports import free_port


class Demo:
    """The demo in a folder of its own, with all that it started."""

    def __init__(self, folder: Path, **environ: str) -> None:
        self.folder = folder
        self.printed = folder / f"printed.{len(list(folder.glob('printed.*')))}"
        self.environ = os.environ | {
            "DATA_DIR": str(folder / "50% full"),  # a name that strftime would take apart
            "PORT": str(free_port()),
            "PYTHONPATH": str(PROJECT / "src"),
            **environ,
        }
        with self.printed.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, PROJECT / "scripts" / "demo.py"],
                cwd=folder,
                env=self.environ,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.family: list[psutil.Process] = []
        self.started: list[psutil.Process] = []

    @property
    def text(self) -> str:
        return self.printed.read_text(errors="replace")

    @property
    def requests(self) -> list[list[str]]:
        """Those whose lines are whole: they may be read while they are printed."""
        lines = self.text.splitlines(keepends=True)
        return [shlex.split(line) for line in lines if line.startswith("  curl ") and line.endswith("\n")]

    def wait_for_requests(self) -> None:
        def told() -> bool:
            assert self.process.poll() is None, self.text
            return len(self.requests) == 3

        wait_until(told, "the demo prints three requests", details=lambda: self.text)
        itself = psutil.Process(self.process.pid)
        self.started = itself.children()
        self.family = itself.children(recursive=True)  # the daemon's as well: a thumbnail's ffmpeg

    def wait_until_gone(self) -> None:
        wait_until(
            lambda: not any(map(is_alive, self.family)),
            "cameras and daemon have ended",
            details=lambda: str(self.family),
        )


def is_alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):  # it may end between the two questions
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


@pytest.fixture
def make_demo(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    """Starts demos in the same folder; whatever still runs at the end is killed."""
    made: list[Demo] = []

    def make(**environ: str) -> Demo:
        made.append(Demo(tmp_path, **environ))
        return made[-1]

    yield make
    for demo in made:
        if demo.process.poll() is None:
            demo.process.kill()
            demo.process.wait(60)
        for each in demo.family:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()


@pytest.fixture
def demo(make_demo: Callable[..., Demo]) -> Demo:
    return make_demo()


def answer(request: list[str], folder: Path) -> str:
    done = subprocess.run(
        [*request, "--fail"], cwd=folder, capture_output=True, text=True, timeout=30, check=True
    )
    return done.stdout


def test_the_printed_requests_work_as_they_are_and_ctrl_c_leaves_nothing(
    demo: Demo, make_demo: Callable[..., Demo]
) -> None:
    demo.wait_for_requests()
    cameras, segments, content = demo.requests
    assert {camera["name"] for camera in json.loads(answer(cameras, demo.folder))["cameras"]} <= {
        "gate",
        "yard",
    }
    segment = json.loads(answer(segments, demo.folder))["segments"][0]
    answer(content, demo.folder)
    received = demo.folder / "segment.ts"
    assert received.stat().st_size == segment["size_bytes"]
    assert codec_of(received) == "h264"

    os.killpg(demo.process.pid, signal.SIGINT)  # as a terminal does
    assert demo.process.wait(60) == 0, demo.text
    demo.wait_until_gone()
    assert len(demo.started) == 3, "two cameras and a daemon"
    assert "Traceback" not in demo.text
    assert "The first segment is registered." in demo.text

    again = make_demo(PORT=demo.environ["PORT"])
    again.wait_for_requests()
    assert "Segments of an earlier run are here already" in again.text
    assert "The first segment is registered." not in again.text


def test_a_demo_whose_daemon_cannot_start_shows_the_error_alone(
    daemon: Daemon, make_demo: Callable[..., Demo], tmp_path: Path
) -> None:
    """Another daemon answers at the port, with segments: they are not this one's."""
    daemon.start()
    now = datetime.now(UTC)
    make_ts(daemon.recordings / "gate" / f"{now:%Y-%m-%d}", name=f"{now:%H-%M-%S}.ts", seconds=1)
    daemon.wait_segments(1)
    port = daemon.url.rpartition(":")[2]
    (tmp_path / "a file").touch()
    refused = {
        make_demo(PORT=port): "cannot listen on",
        make_demo(PORT=port, DATA_DIR=str(daemon.data_dir)): "is in use by another cctv-storaged",
        make_demo(DATA_DIR=str(tmp_path / "a file")): "DATA_DIR: ",
        make_demo(PORT="none"): "PORT: ",
    }
    for demo, said in refused.items():
        assert demo.process.wait(60) in (2, 3), demo.text
        assert said in demo.text
        assert not [word for word in ("curl", "segment", "Traceback") if word in demo.text], demo.text


def test_cameras_and_daemon_end_when_the_demo_itself_is_killed(demo: Demo) -> None:
    demo.wait_for_requests()
    demo.process.kill()
    demo.wait_until_gone()


def codec_of(file: Path) -> str:
    asked = [
        "ffprobe",
        "-v",
        "error",
        "-select_streams",
        "v",
        "-show_entries",
        "stream=codec_name",
        "-of",
        "csv=p=0",
    ]
    done = subprocess.run([*asked, str(file)], capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.splitlines()[0].strip(",")
