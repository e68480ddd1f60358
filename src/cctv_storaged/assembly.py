"""Opening the daemon's parts in order, each with what it needs, and closing them in the reverse order."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

from cctv_storaged.access import Access
from cctv_storaged.api.server import ApiServer
from cctv_storaged.api.services import Services
from cctv_storaged.assembly_upkeep import UpkeepNeeds, open_upkeep
from cctv_storaged.assembly_vms import VmsNeeds, open_vms_parts
from cctv_storaged.backends.base import Backend
from cctv_storaged.bringing import Bringing
from cctv_storaged.cataloguing import Cataloguing
from cctv_storaged.clipcache import ClipCache
from cctv_storaged.clips import Clips
from cctv_storaged.clock import Clock
from cctv_storaged.config import Settings, is_loopback, secrets_of
from cctv_storaged.delivery import Delivery, DeliveryContext
from cctv_storaged.errors import BackendError, JournalFull
from cctv_storaged.evidence.keys import HostKey
from cctv_storaged.exporting.jobs import Exporting
from cctv_storaged.exporting.opening import ExportingNeeds, open_exporting
from cctv_storaged.fleet import FleetParts, FleetReading, FleetTelling
from cctv_storaged.fleetconfig import ConfigurationInForce
from cctv_storaged.foundation import Foundation, make_embedded_folders, open_foundation
from cctv_storaged.gathering import Gathering
from cctv_storaged.gauges import Gauges
from cctv_storaged.health import Health
from cctv_storaged.ingest import Ingest, IngestContext
from cctv_storaged.logs.redaction import Redactor
from cctv_storaged.model import BackendKind, Segment
from cctv_storaged.onvif.server import OnvifServer, open_onvif
from cctv_storaged.pacing import ByteBudget
from cctv_storaged.picturecache import PictureCache
from cctv_storaged.pins import Pins
from cctv_storaged.playback import Playlists
from cctv_storaged.prune import Pruner
from cctv_storaged.reading import Reader
from cctv_storaged.recorder.admission import CameraBook, Root
from cctv_storaged.removal import Remover
from cctv_storaged.requiring import Requiring
from cctv_storaged.storyboards import Storyboards
from cctv_storaged.supervision import FolderCensus
from cctv_storaged.thumbnailing import Thumbnailing
from cctv_storaged.thumbnails import CACHE_BYTES, Thumbnails
from cctv_storaged.thumbnailshelf import ThumbnailShelf
from cctv_storaged.upkeep import Upkeep
from cctv_storaged.vms.parts import VmsParts
from cctv_storaged.watching import RootWatch, WatchContext
from cctv_storaged.watchkeeping.hearing import Hearing
from cctv_storaged.wiring import (
    configured_cameras,
    delivery_settings,
    players_store,
    prune_rules,
    recorder_root,
    wants_events,
)

log = logging.getLogger(__name__)

RECONSIDERED = ("unmatched_name", "impossible_time")
"""Files set aside for these reasons are looked at again: the settings may be others today."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Everything that works in a daemon."""

    foundation: Foundation
    cameras: CameraBook
    budget: ByteBudget
    watches: tuple[RootWatch, ...]
    deliveries: tuple[Bringing, ...]
    cataloguing: Cataloguing | None
    fleet: FleetTelling | None
    configuration: ConfigurationInForce
    pruner: Pruner
    remover: Remover
    requiring: Requiring
    upkeep: Upkeep
    thumbnailing: Thumbnailing
    exporting: Exporting
    health: Health
    gauges: Gauges
    api: ApiServer
    onvif: OnvifServer | None


@asynccontextmanager
async def assembled(settings: Settings, clock: Clock) -> AsyncIterator[Parts]:
    """A whole daemon, open and not yet running. Raises StoragedError where it cannot be."""
    make_embedded_folders(settings)
    async with AsyncExitStack() as stack:
        foundation = await open_foundation(stack, settings, clock)
        await _catch_up(foundation)
        yield await _parts(stack, foundation)


async def _catch_up(foundation: Foundation) -> None:
    """Brings the journal in line with today's settings."""
    journal, settings = foundation.journal, foundation.settings
    try:
        await journal.segments.reconsider(RECONSIDERED)
        for camera in configured_cameras(settings):
            await journal.cameras.ensure(camera)
    except JournalFull as exc:
        log.error("start-up goes on although the journal's disk is full: %s", exc)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inflow:
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


async def _inflow(stack: AsyncExitStack, foundation: Foundation) -> _Inflow:
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
    return _Inflow(
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


async def _parts(stack: AsyncExitStack, foundation: Foundation) -> Parts:
    settings, journal, clock = foundation.settings, foundation.journal, foundation.clock
    metrics, backends = foundation.metrics, foundation.backends
    inflow = await _inflow(stack, foundation)
    vms = inflow.vms
    pruner = _pruner(foundation, inflow.backends)
    doubt = _doubt(foundation, inflow.bringing)
    reader = Reader(backends, metrics, pruner.pins, doubt, None if vms is None else vms.readback)
    thumbnails = await _thumbnails(stack, foundation, reader)
    thumbnailing = Thumbnailing(thumbnails, clock, metrics, on_ingest=settings.thumbnails.on_ingest)
    inflow.drawing.append(thumbnailing)
    remover = _remover(foundation, inflow, pruner.pins, thumbnails)
    onvif = _onvif(foundation, inflow, pruner.pins, doubt)
    health = Health(
        journal,
        inflow.watches,
        inflow.bringing,
        inflow.cataloguing,
        foundation.alarms,
        None if vms is None else vms.watch,
        onvif,
    )
    signing = await _signing(settings)
    exporting = _exporting(foundation, reader, inflow.cameras, signing, pruner.pins)
    clips = await _clips(stack, foundation, reader)
    upkeep = await open_upkeep(
        UpkeepNeeds(
            foundation=foundation,
            pruner=pruner,
            remover=remover,
            reader=reader,
            signing=signing,
            cameras=inflow.cameras,
            watches=inflow.watches,
            hearing=inflow.hearing,
            deliveries=inflow.deliveries,
            bringing=inflow.bringing,
            vms=vms,
            cataloguing=inflow.cataloguing,
            caches=(clips, thumbnails) if vms is None else (clips, vms.readback, thumbnails),
        )
    )
    exporting.holds_unknown = upkeep.holds_unknown
    configuration = ConfigurationInForce(settings, metrics)
    services = Services(
        settings=settings,
        journal=journal,
        ingest=inflow.ingest,
        roots=tuple(inflow.roots.values()),
        watches=inflow.watches,
        deliveries=tuple(inflow.bringing),
        remover=remover,
        upkeep=upkeep,
        reader=reader,
        thumbnails=thumbnails,
        storyboards=Storyboards(journal, thumbnails),
        clips=clips,
        playlists=Playlists(journal, players_store(settings, backends), reader.apart, reader.shows_apart),
        exporting=exporting,
        exports_store=foundation.exports_store,
        catalog=foundation.catalog,
        fleet=None if foundation.catalog is None else FleetReading(foundation.catalog.hosts, clock),
        cataloguing=inflow.cataloguing,
        access=await _access(foundation),
        signing=signing,
        health=health,
        configuration=configuration,
        hub=foundation.hub,
        metrics=metrics,
        clock=clock,
    )
    return Parts(
        foundation=foundation,
        cameras=inflow.cameras,
        budget=inflow.budget,
        watches=inflow.watches,
        deliveries=tuple(inflow.bringing),
        cataloguing=inflow.cataloguing,
        fleet=_fleet(foundation, inflow.bringing, upkeep, configuration),
        configuration=configuration,
        pruner=pruner,
        remover=remover,
        requiring=_requiring(foundation, inflow.bringing),
        upkeep=upkeep,
        thumbnailing=thumbnailing,
        exporting=exporting,
        health=health,
        gauges=_gauges(foundation, inflow.backends, catalogued=inflow.cataloguing is not None),
        onvif=onvif,
        api=ApiServer(services),
    )


def _onvif(
    foundation: Foundation,
    inflow: _Inflow,
    pins: Pins,
    doubt: Callable[[Segment, str, str], Awaitable[None]],
) -> OnvifServer | None:
    """The device that XProtect retrieves from, where the settings want it."""
    block = foundation.settings.milestone
    if block is None:
        return None
    return open_onvif(
        block,
        host_id=foundation.journal.host_id,
        journal=foundation.journal,
        backends=foundation.backends,
        pins=pins,
        metrics=foundation.metrics,
        clock=foundation.clock,
        budget=inflow.budget,
        doubt=doubt,
    )


def _pruner(foundation: Foundation, backends: Sequence[Backend]) -> Pruner:
    return Pruner(
        foundation.journal,
        backends,
        foundation.clock,
        foundation.metrics,
        prune_rules(foundation.settings, foundation.required),
        foundation.hub,
        roots=foundation.places.roots,
        doubt=foundation.clock_guard.distrust_over,
    )


def _remover(foundation: Foundation, inflow: _Inflow, pins: Pins, thumbnails: Thumbnails) -> Remover:
    vms = inflow.vms

    async def forget(segments: Sequence[Segment]) -> Mapping[UUID, BackendError]:
        if vms is not None:
            for segment in segments:
                await vms.readback.forget(segment.id)
        return await thumbnails.forget_many(segments)

    return Remover(
        foundation.journal,
        inflow.backends,
        foundation.clock,
        foundation.metrics,
        foundation.hub,
        inflow.bringing,
        pins,
        forget,
        foundation.places.roots.opened,
    )


def _gauges(foundation: Foundation, backends: Sequence[Backend], *, catalogued: bool) -> Gauges:
    return Gauges(
        foundation.journal,
        backends,
        _disks(foundation.settings),
        foundation.clock,
        foundation.metrics,
        catalogued=catalogued,
    )


async def _clips(stack: AsyncExitStack, foundation: Foundation, reader: Reader) -> Clips:
    settings = foundation.settings
    cache = ClipCache(settings.data_dir / "cache" / "clips", settings.playback.cache)
    await cache.open()
    clips = Clips(Gathering(foundation.journal, reader), cache, foundation.metrics, settings.capacity.reserve)
    stack.push_async_callback(clips.close)
    return clips


def _disks(settings: Settings) -> tuple[str, ...]:
    """Folders whose free room is told."""
    store = (settings.filesystem.path,) if settings.backend is BackendKind.FILESYSTEM else ()
    paths = (settings.data_dir, *store, *(recorder.path for recorder in settings.recorders))
    return tuple(dict.fromkeys(map(str, paths)))


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


def _requiring(foundation: Foundation, deliveries: Sequence[Bringing]) -> Requiring:
    def due() -> None:
        for delivery in deliveries:
            delivery.reopen()

    return Requiring(foundation.journal.requirement, foundation.required, due)


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


def _fleet(
    foundation: Foundation,
    bringing: Sequence[Bringing],
    upkeep: Upkeep,
    configuration: ConfigurationInForce,
) -> FleetTelling | None:
    if foundation.catalog is None:
        return None
    return FleetTelling(
        FleetParts(
            settings=foundation.settings,
            configuration=configuration,
            journal=foundation.journal,
            catalog=foundation.catalog,
            deliveries=bringing,
            forecasting=upkeep.capacity.forecasting,
            alarms=foundation.alarms,
            clock=foundation.clock,
        )
    )


async def _access(foundation: Foundation) -> Access:
    """Who may use the API; an address that others reach is never left without a token."""
    settings = foundation.settings
    access = Access(foundation.journal.tokens, foundation.clock)
    await access.load()
    asked_for = await access.admin_asked_for(settings.data_dir)
    if asked_for is not None:
        log.warning("another admin token was asked for: it is in %s (readable by its owner)", asked_for)
    if settings.api.auth == "token" and not is_loopback(settings.api.host):
        if settings.api.tls_cert is None:
            log.warning(
                "the API listens on %s without TLS: tokens travel in the clear (set api.tls_cert and"
                " api.tls_key, or listen on loopback behind a proxy that speaks TLS)",
                settings.api.host,
            )
        made = await access.ensure_admin(settings.data_dir)
        if made is not None:
            log.warning(
                "no API token was defined: the first admin token is in %s (readable by its owner)", made
            )
    return access


async def _signing(settings: Settings) -> HostKey:
    """The key of evidence packages, made at the first start. Raises ConfigError for one that is damaged."""
    signing = HostKey(settings.data_dir)
    try:
        key = await asyncio.to_thread(signing.current)
    except JournalFull as exc:
        log.error("start-up goes on without a signing key, and it is tried again when one is needed: %s", exc)
    else:
        log.info("evidence packages are signed with the key %s", key.public.fingerprint)
    return signing


def _doubt(
    foundation: Foundation, deliveries: list[Bringing]
) -> Callable[[Segment, str, str], Awaitable[None]]:
    async def doubt(segment: Segment, backend: str, error: str) -> None:
        try:
            await foundation.journal.copies.doubt(segment.id, backend, error)
        except JournalFull:
            return  # the next reader meets the same
        for delivery in deliveries:
            delivery.reopen()

    return doubt
