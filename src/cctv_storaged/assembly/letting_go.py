"""Opening what lets footage go, here and at the backends, and what says how many copies it needs before."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from cctv_storaged.assembly.inflow import Inflow
from cctv_storaged.assembly.reading import ReadingSide
from cctv_storaged.errors import BackendError
from cctv_storaged.formerstores import FormerPictures, FormerStore
from cctv_storaged.foundation import Foundation
from cctv_storaged.model import Segment
from cctv_storaged.pins import Pins
from cctv_storaged.prune import Pruner
from cctv_storaged.removal import Remover
from cctv_storaged.requiring import Requiring
from cctv_storaged.thumbnailshelf import ThumbnailShelf
from cctv_storaged.wiring import prune_rules


def open_pruner(foundation: Foundation, inflow: Inflow) -> Pruner:
    """What unlinks sources that have their copies; its pins say who reads what."""
    return Pruner(
        foundation.journal,
        inflow.backends,
        foundation.clock,
        foundation.metrics,
        prune_rules(foundation.settings, foundation.required),
        foundation.hub,
        roots=foundation.places.roots,
        doubt=foundation.clock_guard.distrust_over,
    )


def open_remover(foundation: Foundation, inflow: Inflow, reading: ReadingSide, pins: Pins) -> Remover:
    """What deletes copies, and whatever was kept of their footage with them."""
    vms = inflow.vms
    former = _former_pictures(foundation)

    async def forget(segments: Sequence[Segment]) -> Mapping[UUID, BackendError]:
        if vms is not None:
            for segment in segments:
                await vms.readback.forget(segment.id)
        return {**await former.forget_many(segments), **await reading.thumbnails.forget_many(segments)}

    return Remover(
        foundation.journal,
        (*inflow.backends, *foundation.former),
        foundation.clock,
        foundation.metrics,
        foundation.hub,
        (*inflow.bringing, *map(FormerStore, foundation.former)),
        pins,
        forget,
        foundation.places.roots.opened,
    )


def _former_pictures(foundation: Foundation) -> FormerPictures:
    host_id, clock, metrics = foundation.settings.host_id, foundation.clock, foundation.metrics
    return FormerPictures(
        {
            name: ThumbnailShelf(shelf, host_id, clock, metrics)
            for name, shelf in foundation.former_thumbnails.items()
        }
    )


def open_requiring(foundation: Foundation, inflow: Inflow) -> Requiring:
    """What makes copies due that a change of mode wants."""

    def due() -> None:
        for delivery in inflow.bringing:
            delivery.reopen()

    return Requiring(foundation.journal.requirement, foundation.required, due)
