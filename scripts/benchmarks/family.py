"""A daemon and its children, looked at every few hundredths of a second: memory, and who lived when."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from scripts.benchmarks.usage import child_pids, forget_peak, peak_bytes, resident_bytes

GLANCE_S = 0.02


@dataclass(slots=True)
class Child:
    """One that was seen; its peak is the kernel's own as long as it was."""

    name: str
    first_s: float  # monotonic
    last_s: float
    peak_bytes: int = 0


@dataclass(slots=True)
class Family:
    """What was seen of a process and its children."""

    pid: int
    children: dict[int, Child] = field(default_factory=dict)
    own_peak_bytes: int = 0
    together_bytes: int = 0  # at the same moment, at most
    noticed_s: float | None = None  # when what was looked out for was there

    def look(self) -> None:
        now, together = time.monotonic(), resident_bytes(self.pid)
        for pid in child_pids(self.pid):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError, RuntimeError):  # it is gone
                name = Path(f"/proc/{pid}/comm").read_text().strip()
                together += resident_bytes(pid)
                child = self.children.setdefault(pid, Child(name, now, now))
                child.name, child.last_s = name, now
                child.peak_bytes = max(child.peak_bytes, peak_bytes(pid))
        self.together_bytes = max(self.together_bytes, together)

    def longest(self) -> Child:
        """The child that lived longest. Raises RuntimeError where none was seen."""
        if not self.children:
            raise RuntimeError("no child was seen: it was too quick, or there was none")
        return max(self.children.values(), key=lambda child: child.last_s - child.first_s)

    @property
    def child_peak_bytes(self) -> int:
        return max((child.peak_bytes for child in self.children.values()), default=0)


@contextlib.contextmanager
def watched(pid: int, look_out: Callable[[], bool]) -> Iterator[Family]:
    """The family as it is seen while the block lasts; `look_out` is asked until it says yes."""
    family, over = Family(pid), threading.Event()

    def watch() -> None:
        while not over.wait(GLANCE_S):
            family.look()
            if family.noticed_s is None and look_out():
                family.noticed_s = time.monotonic()

    forget_peak(pid)
    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield family
    finally:
        over.set()
        watching.join()
    family.own_peak_bytes = peak_bytes(pid)
