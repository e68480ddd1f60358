"""Opening the reconciler: its sections from the settings' backends, roots and catalog."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from cctv_storaged.alarms import Alarms
from cctv_storaged.backends.base import Backend, Listing
from cctv_storaged.catalog.base import Catalog
from cctv_storaged.cataloguing import Cataloguing
from cctv_storaged.clock import Clock
from cctv_storaged.config import Settings
from cctv_storaged.delivery import Delivery
from cctv_storaged.events import EventHub
from cctv_storaged.guarding.places import Places
from cctv_storaged.journal.journal import Journal
from cctv_storaged.metrics import Metrics
from cctv_storaged.rebuilding.adopting import Adopting
from cctv_storaged.reconciling.acting import Acting, ActingContext
from cctv_storaged.reconciling.catalogue import CatalogSection
from cctv_storaged.reconciling.copies import CopiesSection, Held
from cctv_storaged.reconciling.differences import SectionKind
from cctv_storaged.reconciling.folders import FolderSection
from cctv_storaged.reconciling.pace import Pace
from cctv_storaged.reconciling.reconciler import Reconciler, ReconcilerParts, Reconciling, Section
from cctv_storaged.recorder.admission import CameraBook
from cctv_storaged.watching import RootWatch


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcilingNeeds:
    """What reconciling works with."""

    settings: Settings
    prefix: str  # of object keys
    journal: Journal
    clock: Clock
    alarms: Alarms
    metrics: Metrics
    hub: EventHub
    places: Places
    backends: Sequence[Backend]
    catalog: Catalog | None
    watches: Sequence[RootWatch]
    deliveries: Sequence[Delivery]
    cataloguing: Cataloguing | None
    cameras: CameraBook


def open_reconciling(needs: ReconcilingNeeds) -> Reconciling:
    """Builds it."""
    pace = Pace(needs.settings.reconcile.rate)
    backends = {
        backend.name: cast("Held", backend) for backend in needs.backends if isinstance(backend, Listing)
    }

    def sections() -> Sequence[Section]:
        return tuple(_sections(needs, backends, pace))

    roots = [watch.root for watch in needs.watches]
    adopting = Adopting(needs.journal, needs.clock, needs.cameras, roots, needs.prefix)
    parts = ReconcilerParts(
        journal=needs.journal,
        clock=needs.clock,
        alarms=needs.alarms,
        acting=Acting(_acting(needs, backends, adopting)),
        sections=sections,
        wrong_place=lambda section: _wrong_place(section, needs.places),
        scanned=lambda: all(watch.scans or watch.away for watch in needs.watches),
    )
    return Reconciling(reconciler=Reconciler(parts, needs.settings.reconcile.every), pace=pace)


def _wrong_place(section: Section, places: Places) -> str | None:
    """A backend is guarded itself."""
    return places.doubt(section.name) if section.kind is SectionKind.ROOT else None


def _sections(needs: ReconcilingNeeds, backends: Mapping[str, Held], pace: Pace) -> Iterator[Section]:
    journal, clock = needs.journal, needs.clock
    for backend in backends.values():
        yield CopiesSection(backend, needs.prefix, journal, clock, pace)
    for watch in needs.watches:
        yield FolderSection(watch.root, journal, clock, pace, needs.places.roots)
    if needs.catalog is not None:
        yield CatalogSection(needs.catalog, journal, journal.host_id, pace)


def _acting(needs: ReconcilingNeeds, backends: Mapping[str, Held], adopting: Adopting) -> ActingContext:
    deliveries = {delivery.name: delivery for delivery in needs.deliveries}
    watches = {watch.root.path: watch for watch in needs.watches}

    def reopen(backend: str) -> None:
        if backend in deliveries:
            deliveries[backend].reopen()

    def rescan(root: str) -> None:
        if root in watches:
            watches[root].rescan()

    def wake_catalog() -> None:
        if needs.cataloguing is not None:
            needs.cataloguing.wake()

    return ActingContext(
        journal=needs.journal,
        backends=backends,
        adopting=adopting,
        clock=needs.clock,
        metrics=needs.metrics,
        hub=needs.hub,
        reopen=reopen,
        rescan=rescan,
        wake_catalog=wake_catalog,
    )
