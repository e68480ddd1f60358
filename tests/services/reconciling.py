"""A reconciler over a rig's journal, folders and backends, as the daemon opens one."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cctv_storaged.alarms import Alarms
from cctv_storaged.catalog.base import Catalog
from cctv_storaged.guarding.roots import UNGUARDED
from cctv_storaged.rebuilding.adopting import Adopting
from cctv_storaged.reconciling.acting import Acting, ActingContext
from cctv_storaged.reconciling.catalogue import CatalogSection
from cctv_storaged.reconciling.copies import CopiesSection
from cctv_storaged.reconciling.differences import Kind
from cctv_storaged.reconciling.folders import FolderSection
from cctv_storaged.reconciling.pace import Pace
from cctv_storaged.reconciling.reconciler import Reconciler, ReconcilerParts, Section
from cctv_storaged.reconciling.run import Run, read
from cctv_storaged.recorder.admission import CameraBook
from tests.services.rig import HOST, Rig

DAY = timedelta(days=1)
PATIENCE_S = 60.0


@dataclass(slots=True)
class Later:
    """The host's clocks some minutes on: what was made just now counts as settled."""

    ahead: timedelta = timedelta(minutes=10)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead.total_seconds()


@dataclass(slots=True, kw_only=True)
class Bench:
    """A reconciler and what it did."""

    rig: Rig
    reconciler: Reconciler
    alarms: Alarms
    rescanned: list[str] = field(default_factory=list)
    woken: list[str] = field(default_factory=list)

    async def reconciled(self, *, apply: bool = False, force: bool = False) -> Run:
        """A whole run."""
        await self.reconciler.begin(apply=apply, force=force, why="test")
        async with self.working():
            return await self.ended()

    async def ended(self) -> Run:
        """And written down as such."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            run, kept = await self.reconciler.last(), read(await self.rig.journal.reconcile.noted())
            if run is not None and run.ended and kept is not None and kept.ended:
                return run
            assert time.monotonic() < deadline, run
            await asyncio.sleep(0.005)

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """The reconciler's duty runs while the block lasts."""
        duty = asyncio.create_task(self.reconciler.run())
        try:
            yield
        finally:
            duty.cancel()
            await asyncio.gather(duty, return_exceptions=True)


def bench(
    rig: Rig,
    *,
    catalog: Catalog | None = None,
    clock: Later | None = None,
    rate: float | None = None,
    sections: Callable[[Sequence[Section]], Sequence[Section]] = lambda made: made,
    wrong_place: Callable[[Section], str | None] = lambda section: None,
) -> Bench:
    """Over all that the rig has."""
    clock = clock or Later()
    alarms = Alarms(rig.metrics, rig.hub, clock)
    rescanned: list[str] = []
    woken: list[str] = []
    pace = Pace(rate)

    def made() -> Sequence[Section]:
        found: list[Section] = [
            CopiesSection(backend, "", rig.journal, clock, pace)  # type: ignore[arg-type]
            for backend in rig.backends
        ]
        found.append(FolderSection(rig.root, rig.journal, clock, pace, UNGUARDED))
        if catalog is not None:
            found.append(CatalogSection(catalog, rig.journal, HOST, pace))
        return sections(found)

    def reopen(backend: str) -> None:
        for delivery in rig.deliveries:
            delivery.reopen()

    acting = ActingContext(
        journal=rig.journal,
        backends={backend.name: backend for backend in rig.backends},  # type: ignore[misc]
        adopting=Adopting(rig.journal, clock, CameraBook(HOST, ()), [rig.root], ""),
        clock=clock,
        metrics=rig.metrics,
        hub=rig.hub,
        reopen=reopen,
        rescan=rescanned.append,
        wake_catalog=lambda: woken.append("catalog"),
    )
    parts = ReconcilerParts(
        journal=rig.journal,
        clock=clock,
        alarms=alarms,
        acting=Acting(acting),
        sections=made,
        wrong_place=wrong_place,
        scanned=lambda: True,
    )
    made_bench = Bench(rig=rig, reconciler=Reconciler(parts, DAY), alarms=alarms)
    made_bench.rescanned, made_bench.woken = rescanned, woken
    return made_bench


def counts(run: Run) -> dict[Kind, int]:
    """What was found."""
    return {kind: count.found for kind, count in run.findings.counts.items()}
