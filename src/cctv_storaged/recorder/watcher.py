"""Hints from inotify, by watchdog: "this path may have become a segment", "something was missed".

Facts that shaped this (watchdog 7.1): a handler that raises ends the dispatch thread for good; an
overflow is only logged; a move or a hard link into the tree is FileCreated; a watch that cannot be added
is swallowed. So the handler does one thing inside a guard, the log is listened to, the threads are
checked, and the kernel is asked how many watches there are.
"""

import contextlib
import logging
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from watchdog.events import (
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers.inotify import InotifyObserver

log = logging.getLogger(__name__)

WANTED: list[type[FileSystemEvent]] = [
    FileClosedEvent,
    FileMovedEvent,
    FileCreatedEvent,
    DirCreatedEvent,
    DirMovedEvent,
]
OVERFLOW_LOGGER = "watchdog.observers.inotify_c"


class Sign(Enum):
    """What an event says about its path."""

    CLOSED = "closed"  # a writer closed it, or it was renamed to this name
    APPEARED = "appeared"  # made, moved in or linked: closed or not, one has to look
    FOLDER = "folder"  # a new folder, perhaps with files in it
    LOST = "lost"  # events were lost: look everywhere


@dataclass(frozen=True, slots=True)
class Hint:
    """An event of a recorder root. `path` is relative to the root."""

    root: str
    path: str
    sign: Sign


class Watcher:
    """Watches recorder roots; calls `tell` from its own threads. Start it anew when it is not `healthy`."""

    def __init__(self, roots: Sequence[str], tell: Callable[[Hint], None]) -> None:
        self._roots = tuple(roots)
        self._tell = tell
        self._observer = _Observer()
        self._places: list[tuple[int, int]] = []
        self._overflow = _OverflowListener(self._lost)

    def start(self) -> None:
        """Watches are live when this returns. Raises OSError if a root cannot be watched at all."""
        # watchdog warns, with a page of text, whenever a folder is watched twice: made and found at once
        warnings.filterwarnings("ignore", r"Callback with id '\d+' already exists", RuntimeWarning)
        logging.getLogger(OVERFLOW_LOGGER).addHandler(self._overflow)
        try:
            self._places = [_place(root) for root in self._roots]
            self._observer.start()
            for root in self._roots:
                self._observer.schedule(_Handler(root, self._tell), root, recursive=True, event_filter=WANTED)
        except BaseException:
            self.stop()
            raise

    def healthy(self) -> bool:
        """Whether every thread that an event passes through is alive."""
        return self._observer.is_alive() and self._observer.reading() and self._emitting()

    def in_place(self) -> bool:
        """Whether each root is the folder that is watched, and not another mounted or made under its name.

        One that is away counts as in place: it may come back as it was. Blocking.
        """
        try:
            return [_place(root) for root in self._roots] == self._places
        except OSError:
            return True

    def stop(self) -> None:
        """Ends the threads and gives the watches back."""
        logging.getLogger(OVERFLOW_LOGGER).removeHandler(self._overflow)
        self._observer.stop()
        if self._observer.is_alive():
            self._observer.join()

    def _emitting(self) -> bool:
        emitters = self._observer.emitters
        return len(emitters) == len(self._roots) and all(emitter.is_alive() for emitter in emitters)

    def _lost(self) -> None:
        for root in self._roots:
            self._tell(Hint(root, "", Sign.LOST))


def _place(root: str) -> tuple[int, int]:
    status = os.stat(root)
    return status.st_dev, status.st_ino


class _Observer(InotifyObserver):
    def reading(self) -> bool:
        """Whether the thread that reads from the kernel lives; watchdog itself never asks."""
        return self._inotify_fd.is_alive()


class _Handler(FileSystemEventHandler):
    def __init__(self, root: str, tell: Callable[[Hint], None]) -> None:
        self._root = root
        self._tell = tell

    def dispatch(self, event: FileSystemEvent) -> None:
        try:
            hint = _hint(self._root, event)
            if hint is not None:
                self._tell(hint)
        except Exception:  # the thread's item boundary: raising here would end watchdog's thread for good
            log.exception("event lost; the next scan finds its file")


def _hint(root: str, event: FileSystemEvent) -> Hint | None:
    moved = isinstance(event, (FileMovedEvent, DirMovedEvent))
    path = os.path.relpath(os.fsdecode(event.dest_path if moved else event.src_path), root)
    if isinstance(event, (FileClosedEvent, FileMovedEvent)):
        return Hint(root, path, Sign.CLOSED)
    if isinstance(event, FileCreatedEvent):
        return Hint(root, path, Sign.APPEARED)
    if isinstance(event, (DirCreatedEvent, DirMovedEvent)):
        return Hint(root, path, Sign.FOLDER)
    return None


class _OverflowListener(logging.Handler):
    def __init__(self, lost: Callable[[], None]) -> None:
        super().__init__(level=logging.WARNING)
        self._lost = lost

    def emit(self, record: logging.LogRecord) -> None:
        if "overflow" in record.getMessage().lower():
            self._lost()


def watches_held() -> int:
    """How many inotify watches this process holds, as the kernel counts them (proc(5), fdinfo)."""
    held = 0
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # closed meanwhile
            if os.readlink(f"/proc/self/fd/{descriptor}") == "anon_inode:inotify":
                held += Path(f"/proc/self/fdinfo/{descriptor}").read_text().count("inotify wd:")
    return held
