"""Events as they happen, for whoever listens right now (SSE). Nothing is kept: the journal is the truth."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

QUEUE = 1000
"""A listener this far behind misses events; it is told how many."""


class EventKind(StrEnum):
    """What happened."""

    SEGMENT = "segment"  # registered
    COPY = "copy"  # changed its state
    SET_ASIDE = "set_aside"
    LOST = "lost"
    DELETED = "deleted"
    EXPORT = "export"  # created, advanced, ended; the state says which
    ALERT = "alert"  # something an operator should know, or its end


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened; `detail` is for people, the ids for programs."""

    kind: EventKind
    at: datetime
    camera_id: UUID | None = None
    segment_id: UUID | None = None
    export_id: UUID | None = None
    backend: str | None = None
    state: str | None = None
    detail: str | None = None


@dataclass(slots=True, eq=False)  # a listener is itself, whatever it holds
class Listener:
    """A subscriber's own queue."""

    queue: asyncio.Queue[Event] = field(default_factory=lambda: asyncio.Queue(QUEUE))
    missed: int = 0
    wants: Callable[[Event], bool] | None = None  # None: all; others are not even counted


class EventHub:
    """Hands each event to every listener; never waits for one."""

    def __init__(self) -> None:
        self._listeners: set[Listener] = set()

    def publish(self, event: Event) -> None:
        for listener in self._listeners:
            if listener.wants is not None and not listener.wants(event):
                continue
            if listener.queue.full():
                listener.missed += 1
            else:
                listener.queue.put_nowait(event)

    @contextmanager
    def listen(self, wants: Callable[[Event], bool] | None = None) -> Iterator[Listener]:
        """Events from now on, until the block is left; `wants`: those only."""
        listener = Listener(wants=wants)
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
