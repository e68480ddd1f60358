"""Opening the reconciler: its sections from the settings' backends, roots and catalog."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from cctv_storaged.backends.base import Listing
from cctv_storaged.cataloguing import Cataloguing
from cctv_storaged.config import Settings
from cctv_storaged.delivery import Delivery
from cctv_storaged.foundation import Foundation
from cctv_storaged.guarding.places import Places
from cctv_storaged.rebuilding.adopting import Adopting
from cctv_storaged.reconciling.acting import Acting, ActingContext
from cctv_storaged.reconciling.catalogue import CatalogSection
from cctv_storaged.reconciling.copies import CopiesSection, Held
from cctv_storaged.reconciling.differences import SectionKind
from cctv_storaged.reconciling.folders import FolderSection
from cctv_storaged.reconciling.pace import Pace
from cctv_storaged.reconciling.reconciler import Reconciler, ReconcilerParts, Section
from cctv_storaged.recorder.admission import CameraBook
from cctv_storaged.watching import RootWatch
from cctv_storaged.wiring import delivery_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcilingNeeds:
    """What reconciling works with."""

    foundation: Foundation
    watches: Sequence[RootWatch]
    deliveries: Sequence[Delivery]
    cataloguing: Cataloguing | None
    cameras: CameraBook


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciling:
    """The reconciler, and how fast it goes."""

    reconciler: Reconciler
    pace: Pace

    def apply(self, settings: Settings) -> None:
        """Takes over settings that a reload changed."""
        self.pace.change(settings.reconcile.rate)
        self.reconciler.change(settings.reconcile.every)


def open_reconciling(needs: ReconcilingNeeds) -> Reconciling:
    """Builds it."""
    foundation, settings = needs.foundation, needs.foundation.settings
    pace = Pace(settings.reconcile.rate)
    backends = {
        backend.name: cast("Held", backend) for backend in foundation.backends if isinstance(backend, Listing)
    }

    def sections() -> Sequence[Section]:
        return tuple(_sections(needs, backends, pace))

    prefix = delivery_settings(settings).prefix
    roots = [watch.root for watch in needs.watches]
    adopting = Adopting(foundation.journal, foundation.clock, needs.cameras, roots, prefix)
    parts = ReconcilerParts(
        journal=foundation.journal,
        clock=foundation.clock,
        alarms=foundation.alarms,
        acting=Acting(_acting(needs, backends, adopting)),
        sections=sections,
        wrong_place=lambda section: _wrong_place(section, foundation.places),
        scanned=lambda: all(watch.scans or watch.away for watch in needs.watches),
    )
    return Reconciling(reconciler=Reconciler(parts, settings.reconcile.every), pace=pace)


def _wrong_place(section: Section, places: Places) -> str | None:
    """A backend is guarded itself."""
    return places.doubt(section.name) if section.kind is SectionKind.ROOT else None


def _sections(needs: ReconcilingNeeds, backends: Mapping[str, Held], pace: Pace) -> Iterator[Section]:
    foundation = needs.foundation
    journal, clock = foundation.journal, foundation.clock
    for backend in backends.values():
        yield CopiesSection(backend, delivery_settings(foundation.settings).prefix, journal, clock, pace)
    for watch in needs.watches:
        yield FolderSection(watch.root, journal, clock, pace, foundation.places.roots)
    if foundation.catalog is not None:
        yield CatalogSection(foundation.catalog, journal, foundation.settings.host_id, pace)


def _acting(needs: ReconcilingNeeds, backends: Mapping[str, Held], adopting: Adopting) -> ActingContext:
    foundation = needs.foundation
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
        journal=foundation.journal,
        backends=backends,
        adopting=adopting,
        clock=foundation.clock,
        metrics=foundation.metrics,
        hub=foundation.hub,
        reopen=reopen,
        rescan=rescan,
        wake_catalog=wake_catalog,
    )
