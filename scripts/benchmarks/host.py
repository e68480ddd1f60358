"""The daemon under measurement: a process on settings of its own, watched through its log and /proc.

Its log is read from the file, which costs the daemon nothing; asking its API would.
"""

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from scripts.benchmarks.usage import cpu_seconds, peak_bytes
from tests.daemon import LAYOUT, Daemon

JOURNALLED = b" segment journalled: "
VERIFIED = b" segment verified at "
BACKEND_ANSWERED = b" answers; it can: "
GLANCE_S = 0.01
_LIMIT_S = 1800.0

Settings = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Moment:
    """A point in the life of a process."""

    monotonic_s: float
    cpu_s: float


@dataclass(slots=True)
class Host:
    """One daemon that was started; `started` is from just before its process was made."""

    daemon: Daemon
    started: float

    @property
    def pid(self) -> int:
        assert self.daemon.process is not None
        return self.daemon.process.pid

    def now(self) -> Moment:
        return Moment(time.monotonic(), cpu_seconds(self.pid))

    def peak_bytes(self) -> int:
        return peak_bytes(self.pid)

    def wait_for(self, words: bytes, count: int = 1, limit_s: float = _LIMIT_S) -> Moment:
        """When the log of this start has these words so many times (noticed within some 10 ms)."""
        end = time.monotonic() + limit_s
        with self.daemon.log_file.open("rb") as log:
            seen, tail = 0, b""
            while True:
                if block := log.read():
                    tail += block
                    seen += tail.count(words)
                    tail = tail[-(len(words) - 1) :]
                    if seen >= count:
                        return self.now()
                if self.daemon.process is None or self.daemon.process.poll() is not None:
                    raise RuntimeError(f"the daemon ended:\n{self.daemon.log[-4000:]}")
                if time.monotonic() > end:
                    raise RuntimeError(f"{seen} of {count} times {words!r}:\n{self.daemon.log[-4000:]}")
                time.sleep(GLANCE_S)


def recorder(path: Path) -> list[dict[str, object]]:
    """The setting `recorders` for one root that is scanned as seldom as a careful user would."""
    return [{"path": str(path), "layout": LAYOUT, "scan_interval": "30s"}]


@contextlib.contextmanager
def started(folder: Path, settings: Settings, *, ready: bool = True) -> Iterator[Host]:
    """A daemon with its data in `folder` (which may hold that of an earlier start), running until the end.

    Nothing is deleted by its age unless the settings say so: footage here has the dates of its names.
    """
    folder.mkdir(exist_ok=True)
    daemon = Daemon(
        folder,
        settings={"retention": {"default": {}}, **settings},
        wrapper=("setpriv", "--pdeathsig", "KILL"),
    )
    begun = time.monotonic()
    try:
        daemon.start(ready=ready)
        yield Host(daemon, begun)
        code = daemon.stop()
        if code != 0:
            raise RuntimeError(f"the daemon ended with {code}:\n{daemon.log[-4000:]}")
    finally:
        daemon.kill()
