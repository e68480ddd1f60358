"""Opening what brings footage in: from a recorder's folder to a verified copy and the catalog's row."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from cctv_storaged.assembly.vms import VmsNeeds, open_vms_parts
from cctv_storaged.backends.base import Backend
from cctv_storaged.bringing import Bringing
from cctv_storaged.cataloguing import Cataloguing
from cctv_storaged.config import secrets_of
from cctv_storaged.delivery import Delivery, DeliveryContext
from cctv_storaged.foundation import Foundation
from cctv_storaged.ingest import Ingest, IngestContext
from cctv_storaged.logs.redaction import Redactor
from cctv_storaged.model import Segment
from cctv_storaged.pacing import ByteBudget
from cctv_storaged.recorder.admission import CameraBook, Root
from cctv_storaged.supervision import FolderCensus
from cctv_storaged.thumbnailing import Thumbnailing
from cctv_storaged.vms.parts import VmsParts
from cctv_storaged.watching import RootWatch, WatchContext
from cctv_storaged.watchkeeping.hearing import Hearing
from cctv_storaged.wiring import configured_cameras, delivery_settings, recorder_root, wants_events


@dataclass(frozen=True, slots=True, kw_only=True)
class Inflow:
    """From a recorder's folder to a verified copy."""

    cameras: CameraBook
    cataloguing: Cataloguing | None
    ingest: Ingest
    watches: tuple[RootWatch, ...]
    budget: ByteBudget
    deliveries: list[Delivery]  # to the stores
    bringing: list[Bringing]  # these, and who has coverage by XProtect proven
    vms: VmsParts | None
    drawing: list[Thumbnailing]  # the one that draws, as soon as there is one
    hearing: Hearing  # how long each camera has been silent

    @property
    def roots(self) -> dict[str, Root]:
        return {watch.root.path: watch.root for watch in self.watches}

    @property
    def backends(self) -> tuple[Backend, ...]:
        """Every place that copies may be at."""
        return tuple(each.backend for each in self.bringing)


async def open_inflow(stack: AsyncExitStack, foundation: Foundation) -> Inflow:
    """All of it, looking at nothing yet; the stack closes it. Raises ConfigError."""
    settings = foundation.settings
    cameras = CameraBook(settings.host_id, configured_cameras(settings))
    bringing: list[Bringing] = []
    drawing: list[Thumbnailing] = []
    hearing = Hearing(foundation.clock, foundation.clock_guard.distrust)
    ingest = _ingest(foundation, bringing, drawing, hearing)
    stack.callback(ingest.close)
    watches, cataloguing = _watches(foundation, ingest, cameras), _cataloguing(foundation)
    budget = ByteBudget(settings.delivery.rate_limit)
    look_again = _look_again(ingest, {watch.root.path: watch.root for watch in watches})
    context = _delivery_context(foundation, budget, look_again, cataloguing)
    deliveries = [Delivery(backend, delivery_settings(settings), context) for backend in foundation.backends]
    vms = await open_vms_parts(
        stack,
        VmsNeeds(foundation=foundation, cameras=cameras, look_again=look_again, delivered=context.delivered),
    )
    bringing += deliveries if vms is None else (*deliveries, vms.proof.proving)
    return Inflow(
        cameras=cameras,
        cataloguing=cataloguing,
        ingest=ingest,
        watches=watches,
        budget=budget,
        deliveries=deliveries,
        bringing=bringing,
        vms=vms,
        drawing=drawing,
        hearing=hearing,
    )


def _ingest(
    foundation: Foundation, bringing: list[Bringing], drawing: list[Thumbnailing], hearing: Hearing
) -> Ingest:
    def registered(segment: Segment) -> None:
        hearing.hear(segment)
        for each in bringing:
            each.offer(segment)
        for artist in drawing:
            artist.offer(segment)

    def overwritten(segment: Segment) -> None:
        for each in drawing:
            each.overwritten(segment)

    context = IngestContext(
        journal=foundation.journal,
        backends=foundation.required,
        clock=foundation.clock,
        metrics=foundation.metrics,
        hub=foundation.hub,
        roots=foundation.places.roots,
    )
    return Ingest(context, registered, on_overwritten=overwritten)


def _watches(foundation: Foundation, ingest: Ingest, cameras: CameraBook) -> tuple[RootWatch, ...]:
    census = FolderCensus()
    return tuple(
        RootWatch(
            recorder_root(recorder, cameras),
            WatchContext(
                ingest=ingest,
                journal=foundation.journal,
                clock=foundation.clock,
                metrics=foundation.metrics,
                hub=foundation.hub,
                census=census,
                scan_interval=recorder.scan_interval,
                events=wants_events(recorder),
                doubt=foundation.places.doubt,
                roots=foundation.places.roots,
            ),
        )
        for recorder in foundation.settings.recorders
    )


def _look_again(ingest: Ingest, roots: dict[str, Root]) -> Callable[[Segment], Awaitable[None]]:
    async def look_again(segment: Segment) -> None:
        root = roots.get(segment.source.root)
        if root is not None:  # else it was registered by POST from an allowed path
            await ingest.consider(root, segment.source.path, lambda found: True)

    return look_again


def _delivery_context(
    foundation: Foundation,
    budget: ByteBudget,
    look_again: Callable[[Segment], Awaitable[None]],
    cataloguing: Cataloguing | None,
) -> DeliveryContext:
    def delivered(segment: Segment) -> None:
        if cataloguing is not None:
            cataloguing.wake()

    return DeliveryContext(
        journal=foundation.journal,
        clock=foundation.clock,
        metrics=foundation.metrics,
        hub=foundation.hub,
        budget=budget,
        look_again=look_again,
        delivered=delivered,
        roots=foundation.places.roots,
        star=Redactor(secrets_of(foundation.settings)),
    )


def _cataloguing(foundation: Foundation) -> Cataloguing | None:
    if foundation.catalog is None:
        return None
    return Cataloguing(
        foundation.journal,
        foundation.catalog,
        foundation.settings.host_id,
        foundation.clock,
        foundation.metrics,
        foundation.hub,
    )
