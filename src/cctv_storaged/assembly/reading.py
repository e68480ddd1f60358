"""Opening what reads footage: for players, pictures, clips and exports."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from cctv_storaged.assembly.inflow import Inflow
from cctv_storaged.bringing import Bringing
from cctv_storaged.clipcache import ClipCache
from cctv_storaged.clips import Clips
from cctv_storaged.errors import JournalFull
from cctv_storaged.evidence.keys import HostKey
from cctv_storaged.exporting.jobs import Exporting
from cctv_storaged.exporting.opening import ExportingNeeds, open_exporting
from cctv_storaged.formerstores import FormerDoubts
from cctv_storaged.foundation import Foundation
from cctv_storaged.gathering import Gathering
from cctv_storaged.model import Segment
from cctv_storaged.picturecache import PictureCache
from cctv_storaged.pins import Pins
from cctv_storaged.playback import Playlists
from cctv_storaged.reading import Reader
from cctv_storaged.recorder.admission import CameraBook
from cctv_storaged.storyboards import Storyboards
from cctv_storaged.thumbnailing import Thumbnailing
from cctv_storaged.thumbnails import CACHE_BYTES, Thumbnails
from cctv_storaged.thumbnailshelf import ThumbnailShelf
from cctv_storaged.wiring import players_store

Doubt = Callable[[Segment, str, str], Awaitable[None]]
"""A copy, by its backend, gave other bytes than it should, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingSide:
    """Everything through which footage is seen or handed over."""

    doubt: Doubt
    reader: Reader
    thumbnails: Thumbnails
    thumbnailing: Thumbnailing
    storyboards: Storyboards
    clips: Clips
    playlists: Playlists
    exporting: Exporting


async def open_reading_side(
    stack: AsyncExitStack, foundation: Foundation, inflow: Inflow, pins: Pins, signing: HostKey
) -> ReadingSide:
    """All of it, reading nothing yet; the stack closes it. New segments are drawn from here on."""
    settings, journal = foundation.settings, foundation.journal
    doubt = _doubt(foundation, inflow.bringing)
    readback = None if inflow.vms is None else inflow.vms.readback
    reader = Reader(foundation.readable, foundation.metrics, pins, doubt, readback)
    thumbnails = await _thumbnails(stack, foundation, reader)
    thumbnailing = Thumbnailing(
        thumbnails, foundation.clock, foundation.metrics, on_ingest=settings.thumbnails.on_ingest
    )
    inflow.drawing.append(thumbnailing)
    store = players_store(settings, foundation.backends)
    return ReadingSide(
        doubt=doubt,
        reader=reader,
        thumbnails=thumbnails,
        thumbnailing=thumbnailing,
        storyboards=Storyboards(journal, thumbnails),
        clips=await _clips(stack, foundation, reader),
        playlists=Playlists(journal, store, reader.apart, reader.shows_apart),
        exporting=_exporting(foundation, reader, inflow.cameras, signing, pins),
    )


async def _thumbnails(stack: AsyncExitStack, foundation: Foundation, reader: Reader) -> Thumbnails:
    settings, clock, metrics = foundation.settings, foundation.clock, foundation.metrics
    cache = PictureCache(settings.data_dir / "cache" / "thumbnails", CACHE_BYTES)
    await cache.open()
    thumbnails = Thumbnails(
        journal=foundation.journal,
        reader=reader,
        shelf=ThumbnailShelf(foundation.thumbnails_store, settings.host_id, clock, metrics),
        cache=cache,
        clock=clock,
        metrics=metrics,
        width=settings.thumbnails.width,
    )
    stack.push_async_callback(thumbnails.close)
    return thumbnails


async def _clips(stack: AsyncExitStack, foundation: Foundation, reader: Reader) -> Clips:
    settings = foundation.settings
    cache = ClipCache(settings.data_dir / "cache" / "clips", settings.playback.cache)
    await cache.open()
    clips = Clips(Gathering(foundation.journal, reader), cache, foundation.metrics, settings.capacity.reserve)
    stack.push_async_callback(clips.close)
    return clips


def _exporting(
    foundation: Foundation, reader: Reader, cameras: CameraBook, key: HostKey, pins: Pins
) -> Exporting:
    return open_exporting(
        ExportingNeeds(
            settings=foundation.settings,
            journal=foundation.journal,
            reader=reader,
            shelf=foundation.exports_store,
            cameras=cameras,
            key=key,
            pins=pins,
            clock=foundation.clock,
            clock_guard=foundation.clock_guard,
            metrics=foundation.metrics,
            hub=foundation.hub,
        )
    )


def _doubt(foundation: Foundation, deliveries: Sequence[Bringing]) -> Doubt:
    former = FormerDoubts(
        stores=foundation.former,
        copies=foundation.journal.copies,
        clock=foundation.clock,
        metrics=foundation.metrics,
        hub=foundation.hub,
    )

    async def doubt(segment: Segment, backend: str, error: str) -> None:
        try:
            if backend in former:
                await former.prove(segment, backend)
                return
            await foundation.journal.copies.doubt(segment.id, backend, error)
        except JournalFull:
            return  # the next reader meets the same
        for delivery in deliveries:
            delivery.reopen()

    return doubt
