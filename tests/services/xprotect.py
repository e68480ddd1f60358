"""XProtect for tests: its simulator as a process (`simulator`), or on the test's loop (`running_site`).

No recorded real server is behind it: see tests/fakes/xprotect.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from cctv_storaged.model import TimeSpan
from tests.fakes.xprotect.simulator import Simulator, running
from tests.fakes.xprotect.site import Camera, guid, make_site

PROJECT = Path(__file__).resolve().parents[2]
PASSWORD = "canary-secret-of-the-xprotect-tests"
USER = "storaged"
_START_S = 60.0
_STOP_S = 60.0


@dataclass(slots=True)
class SimulatedSite:
    """A running simulator, steered through its control port."""

    process: subprocess.Popen[bytes] = field(repr=False)
    folder: Path
    url: str
    recorder: str
    control: str
    ca_file: Path | None
    password_file: Path
    cameras: Mapping[str, UUID]
    retrieval_event: UUID

    def settings(self, camera_map: Mapping[str, str] | None = None, **further: object) -> dict[str, Any]:
        """The block `milestone` of the daemon's settings; `camera_map`: our camera to the name of theirs.

        Left out, each camera is mapped by its own name.
        """
        by_name = camera_map or {name: name for name in self.cameras}
        block: dict[str, Any] = {
            "url": self.url,
            "username": USER,
            "password_file": str(self.password_file),
            "camera_map": {ours: str(self.cameras[theirs]) for ours, theirs in by_name.items()},
        }
        block |= {"ca_file": str(self.ca_file)} if self.ca_file else {"allow_plain_http": True}
        return block | further

    # -- what it holds and did

    def state(self) -> dict[str, Any]:
        """See tests/fakes/xprotect/control.py."""
        return self._ask("/state", None)

    def calls(self, kind: str) -> int:
        """How often a call was made, such as `token`, `task:GetSequences`, `imageserver:goto`."""
        count: int = self.state()["calls"].get(kind, 0)
        return count

    def sequences(self, camera: str) -> list[tuple[int, int]]:
        """What is recorded of a camera, in ms since 1970."""
        told = self.state()["sequences"][str(self.cameras[camera])]
        return [(start, end) for start, end in told]

    def reset_calls(self) -> None:
        self._ask("/calls/reset", {})

    # -- what befalls it

    def faults(self, **changes: object) -> None:
        """See tests/fakes/xprotect/faults.py."""
        self._ask("/faults", changes)

    def assume(self, **changes: object) -> None:
        """See tests/fakes/xprotect/assumptions.py."""
        self._ask("/assumptions", changes)

    def record(self, camera: str, path: Path, start: datetime) -> None:
        """XProtect recorded this file of the camera; its first picture at `start`."""
        self._ask("/record", self._file(camera, path, start))

    def keep_at_edge(self, camera: str, path: Path, start: datetime) -> None:
        """The camera itself keeps this file, for retrievals of the kind `instant`."""
        self._ask("/edge", self._file(camera, path, start))

    def purge(self, camera: str, span: TimeSpan) -> int:
        """Retention eats what lies in the span and is not locked; how many groups of pictures went."""
        body = {"camera": str(self.cameras[camera])}
        body |= {"start": span.start.isoformat(), "end": span.end.isoformat()}
        groups: int = self._ask("/purge", body)["groups"]
        return groups

    def _file(self, camera: str, path: Path, start: datetime) -> Mapping[str, object]:
        return {"camera": str(self.cameras[camera]), "path": str(path), "start": start.isoformat()}

    def _ask(self, path: str, body: Mapping[str, object] | None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(urllib.request.Request(self.control + path, data), timeout=60) as got:
                told: dict[str, Any] = json.load(got)
                return told
        except urllib.error.HTTPError as exc:
            raise AssertionError(f"{path}: {exc.read().decode()}") from exc


@contextlib.contextmanager
def simulator(
    cameras: Sequence[str] = ("gate", "yard"), *, tls: bool = False, options: Sequence[str] = ()
) -> Iterator[SimulatedSite]:
    """A process of its own on free ports, stopped at the end. `options`: see `python -m … --help`.

    Cameras may be given as there: `gate@{our camera's id}` is found at our ONVIF device.
    """
    with tempfile.TemporaryDirectory(prefix="xprotect-test-") as made:
        folder = Path(made)
        password_file = folder / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(PASSWORD)
        argv = ["--port", "0", "--recorder-port", "0", "--control-port", "0", "--database-delay", "0"]
        argv += ["--user", USER, "--password-file", str(password_file)]
        argv += ["--announce", str(folder / "announced"), *(["--tls"] if tls else []), *options]
        argv += [word for camera in cameras for word in ("--camera", camera)]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "tests.fakes.xprotect", *argv],
                cwd=PROJECT,
                env={**os.environ, "PYTHONPATH": f"{PROJECT / 'src'}:{PROJECT}", "TMPDIR": made},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            told = _announced(process, folder)
            yield SimulatedSite(
                process=process,
                folder=folder,
                url=told["url"],
                recorder=told["recorder"],
                control=told["control"],
                ca_file=Path(told["ca_file"]) if told["ca_file"] else None,
                password_file=password_file,
                cameras={name: UUID(camera) for name, camera in told["cameras"].items()},
                retrieval_event=UUID(told["retrieval_event"]),
            )
        finally:
            _stop(process)


@contextlib.asynccontextmanager
async def running_site(
    cameras: Sequence[Camera | str] = ("gate", "yard"), *, tls_folder: Path | None = None, **settings: Any
) -> AsyncIterator[Simulator]:
    """On this loop. `settings`: of `Site`, `faults`, `assumptions`; `tls_folder`: for its certificates.

    `.site.media.add_ts` (in a thread) records, `await .set_faults(…)` and `.site.assumptions.set({…})` steer.
    """
    made = [each if isinstance(each, Camera) else camera(each) for each in cameras]
    settings.setdefault("user", USER)
    settings.setdefault("password", PASSWORD)
    async with running(make_site(made, **settings), tls_folder=tls_folder) as started:
        yield started


def camera(name: str, **facts: Any) -> Camera:
    """One with the id that the simulator gives to a name."""
    return Camera(id=guid(f"camera {name}"), name=name, **facts)


def _announced(process: subprocess.Popen[bytes], folder: Path) -> dict[str, Any]:
    deadline = time.monotonic() + _START_S
    while not (folder / "announced").exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"the simulator does not start:\n{(folder / 'log').read_text()}")
        time.sleep(0.02)
    told: dict[str, Any] = json.loads((folder / "announced").read_text())
    return told


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(_STOP_S)
