"""The services around one real journal and one real recorder root, without a daemon: for tests of services.

Footage is real, registered by the real ingest. Backends are whatever a test hands in; time is the loop's.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from cctv_storaged.backends.base import Backend
from cctv_storaged.bringing import Bringing
from cctv_storaged.config import TimeWindow
from cctv_storaged.delivery import Delivery, DeliveryContext, DeliverySettings
from cctv_storaged.events import Event, EventHub, EventKind, Listener
from cctv_storaged.ingest import Ingest, IngestContext, Outcome
from cctv_storaged.journal.journal import Journal
from cctv_storaged.metrics import Metrics
from cctv_storaged.model import Copy, Segment, SourceState
from cctv_storaged.pacing import ByteBudget
from cctv_storaged.pins import Pins
from cctv_storaged.prune import Pruner, PruneRules
from cctv_storaged.reading import Reader
from cctv_storaged.recorder.admission import CameraBook, Root
from cctv_storaged.recorder.layout import Layout
from cctv_storaged.removal import Remover
from tests.fakes.fakecam import unique
from tests.footage import cached_ts
from tests.services.jumping import MIDNIGHT, LoopClock

HOST = "rig"
LAYOUT = "{camera}/%Y-%m-%d/%H-%M-%S.ts"
STEP = timedelta(seconds=10)
SECONDS = 1.0
DAY = timedelta(days=1)


@dataclass(slots=True, kw_only=True)
class Rig:
    """A host's parts; `opened` makes one."""

    recordings: Path
    journal: Journal
    clock: LoopClock
    metrics: Metrics
    hub: EventHub
    ingest: Ingest
    root: Root
    backends: tuple[Backend, ...]
    budget: ByteBudget
    listener: Listener
    registered: list[Segment]
    delivered: list[Segment] = field(default_factory=list)
    heard: list[Event] = field(default_factory=list)
    deliveries: list[Bringing] = field(default_factory=list)

    # The recorder

    def path_of(self, number: int, camera: str = "gate") -> str:
        """The name of a camera's `number`th segment below the root."""
        return f"{camera}/{MIDNIGHT + STEP * number:%Y-%m-%d/%H-%M-%S}.ts"

    def write(self, number: int, camera: str = "gate", *, version: int = 0, size_bytes: int = 0) -> bytes:
        """A closed file; another `version` has other bytes and a later time. Returns its bytes."""
        path = self.recordings / self.path_of(number, camera)
        path.parent.mkdir(parents=True, exist_ok=True)
        data = unique(cached_ts(seconds=SECONDS).read_bytes(), f"{camera} {number} {version}")
        packets = -(-(size_bytes - len(data)) // 188)
        data += (bytes((0x47, 0x1F, 0xFF, 0x10)) + bytes(184)) * max(0, packets)
        path.write_bytes(data)
        closed = MIDNIGHT + STEP * number + timedelta(seconds=2 + version)
        os.utime(path, ns=(0, int(closed.timestamp()) * 10**9 + 123_456_789))
        return data

    async def register(self, number: int, camera: str = "gate") -> Segment:
        """What stands under the name is looked at; it must become a segment."""
        outcome = await self.ingest.consider(self.root, self.path_of(number, camera), lambda found: True)
        assert outcome is Outcome.REGISTERED, outcome
        return self.registered[-1]

    async def recorded(self, number: int, camera: str = "gate", **facts: Any) -> Segment:
        """Written and registered."""
        self.write(number, camera, **facts)
        return await self.register(number, camera)

    def source(self, segment: Segment) -> Path:
        return Path(segment.source.root, segment.source.path)

    def beside(self, folder: Path) -> "Rig":
        """The same host's view of a second recorder root."""
        return replace(self, recordings=folder, root=root_at(folder))

    # What became of it

    async def segment(self, segment: Segment) -> Segment:
        """As the journal knows it now."""
        found = await self.journal.segments.by_id(segment.id)
        assert found is not None, f"{segment.source.path} is not in the journal"
        return found

    async def copy(self, segment: Segment, backend: str = "S3") -> Copy:
        copy = (await self.segment(segment)).copy_at(backend)
        assert copy is not None
        return copy

    async def state(self, segment: Segment, backend: str = "S3") -> str:
        return (await self.copy(segment, backend)).state

    async def all_verified(self, *segments: Segment, backend: str = "S3") -> bool:
        return all([await self.state(each, backend) == "verified" for each in segments])

    def told(self, kind: EventKind) -> list[Event]:
        """All events of a kind so far."""
        while not self.listener.queue.empty():
            self.heard.append(self.listener.queue.get_nowait())
        return [event for event in self.heard if event.kind is kind]

    def alerts(self) -> list[str]:
        return [event.detail or "" for event in self.told(EventKind.ALERT)]

    @property
    def commits(self) -> int:
        """Transactions that the journal has brought to the disk so far."""
        return self.journal._store.commits

    def metric(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    async def miss(self, segment: Segment) -> None:
        """The journal is told that the source is gone, as whoever notices first does."""
        now = self.clock.now()
        await self.journal.copies.source_gone(segment.id, SourceState.MISSING, "source_vanished", now)

    async def hold(self, segment: Segment) -> None:
        """As a hold would; holds have no door of their own yet, so straight into the journal's row."""
        await self._set_held(segment.id, 1)

    async def release(self, segment_id: UUID) -> None:
        """The hold is over."""
        await self._set_held(segment_id, 0)

    async def _set_held(self, segment_id: UUID, held: int) -> None:
        await self.journal._store.write(
            lambda db: db.execute("UPDATE segment SET held = ? WHERE id = ?", (held, segment_id.bytes))
        )

    # The services

    def delivery(
        self,
        backend: Backend,
        *,
        workers: int = 2,
        window: TimeWindow | None = None,
        newest_share: float = 0.3,
        prefix: str = "",
    ) -> Delivery:
        async def look_again(segment: Segment) -> None:
            root = root_at(Path(segment.source.root))
            await self.ingest.consider(root, segment.source.path, lambda found: True)

        settings = DeliverySettings(
            workers=workers, prefix=prefix, mode="LOCAL", window=window, newest_share=newest_share
        )
        context = DeliveryContext(
            journal=self.journal,
            clock=self.clock,
            metrics=self.metrics,
            hub=self.hub,
            budget=self.budget,
            look_again=look_again,
            delivered=self.delivered.append,
        )
        delivery = Delivery(backend, settings, context)
        self.deliveries.append(delivery)
        return delivery

    @asynccontextmanager
    async def delivering(self, *deliveries: Bringing) -> AsyncIterator[None]:
        """They run while the block lasts; what ends one of them fails the test."""
        tasks = [asyncio.create_task(delivery.run()) for delivery in deliveries]
        try:
            yield
            for task in tasks:
                assert not task.done(), task.exception()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def pruner(self, grace: timedelta = DAY, keep: timedelta = timedelta(0), **rules: Any) -> Pruner:
        facts = {"enabled": True, "required": tuple(each.name for each in self.backends), **rules}
        found = PruneRules(grace=grace, keep=keep, **facts)
        return Pruner(self.journal, self.backends, self.clock, self.metrics, found, self.hub)

    def reader(self, pruner: Pruner) -> Reader:
        """Its doubts go to the journal, as in the daemon."""
        return Reader(self.backends, self.metrics, pruner.pins, self._doubt)

    async def _doubt(self, segment: Segment, backend: str, error: str) -> None:
        await self.journal.copies.doubt(segment.id, backend, error)

    def remover(self) -> Remover:
        """Knows the deliveries made so far."""
        return Remover(
            self.journal, self.backends, self.clock, self.metrics, self.hub, tuple(self.deliveries), Pins()
        )


@asynccontextmanager
async def opened(
    folder: Path,
    *backends: Backend,
    clock: LoopClock | None = None,
    budget: ByteBudget | None = None,
    data: str = "data",
    reserve_bytes: int = 0,
) -> AsyncIterator[Rig]:
    """A rig below `folder`, closed in the end. Opened a second time it goes on where the first one ended."""
    clock = clock or LoopClock(MIDNIGHT + DAY)
    recordings = folder / "recordings"
    recordings.mkdir(exist_ok=True)
    metrics, hub, registered = Metrics(), EventHub(), list[Segment]()
    async with await Journal.open(folder / data, HOST, clock.now(), reserve_bytes=reserve_bytes) as journal:
        names = tuple(backend.name for backend in backends)
        context = IngestContext(journal=journal, backends=names, clock=clock, metrics=metrics, hub=hub)
        deliveries: list[Bringing] = []

        def on_registered(segment: Segment) -> None:
            registered.append(segment)
            for delivery in deliveries:
                delivery.offer(segment)

        ingest = Ingest(context, on_registered)
        try:
            with hub.listen() as listener:
                yield Rig(
                    recordings=recordings,
                    journal=journal,
                    clock=clock,
                    metrics=metrics,
                    hub=hub,
                    ingest=ingest,
                    root=root_at(recordings),
                    backends=backends,
                    budget=budget or ByteBudget(None),
                    listener=listener,
                    registered=registered,
                    deliveries=deliveries,
                )
        finally:
            ingest.close()


def root_at(folder: Path) -> Root:
    """A recorder root as the daemon would have it."""
    layout = Layout.parse(LAYOUT, ZoneInfo("UTC"))
    return Root(path=str(folder), layout=layout, cameras=CameraBook(HOST, ()), remote=False)
