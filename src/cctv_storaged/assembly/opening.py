"""A whole daemon, part after part."""

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from cctv_storaged.api.server import ApiServer
from cctv_storaged.assembly.api import ApiNeeds, open_onvif_device, open_services, open_signing
from cctv_storaged.assembly.inflow import open_inflow
from cctv_storaged.assembly.letting_go import open_pruner, open_remover, open_requiring
from cctv_storaged.assembly.parts import Parts
from cctv_storaged.assembly.reading import open_reading_side
from cctv_storaged.assembly.telling import open_fleet, open_gauges, open_health
from cctv_storaged.assembly.upkeep import UpkeepNeeds, open_upkeep
from cctv_storaged.clock import Clock
from cctv_storaged.config import Settings
from cctv_storaged.errors import JournalFull
from cctv_storaged.fleetconfig import ConfigurationInForce
from cctv_storaged.foundation import Foundation, make_embedded_folders, open_foundation
from cctv_storaged.holding.successors import follow_folders
from cctv_storaged.recorder.admission import CameraBook
from cctv_storaged.wiring import configured_cameras

log = logging.getLogger(__name__)

RECONSIDERED = ("unmatched_name", "impossible_time")
"""Files set aside for these reasons are looked at again: the settings may be others today."""


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
        book = CameraBook(settings.host_id, configured_cameras(settings))
        await follow_folders(journal.cameras, book)
    except JournalFull as exc:
        log.error("start-up goes on although the journal's disk is full: %s", exc)


async def _parts(stack: AsyncExitStack, foundation: Foundation) -> Parts:
    inflow = await open_inflow(stack, foundation)
    pruner = open_pruner(foundation, inflow)
    signing = await open_signing(foundation.settings)
    reading = await open_reading_side(stack, foundation, inflow, pruner.pins, signing)
    remover = open_remover(foundation, inflow, reading, pruner.pins)
    onvif = open_onvif_device(foundation, inflow, reading, pruner.pins)
    health = open_health(foundation, inflow, onvif)
    needs = UpkeepNeeds(
        foundation=foundation,
        inflow=inflow,
        reading=reading,
        pruner=pruner,
        remover=remover,
        signing=signing,
    )
    upkeep = await open_upkeep(needs)
    reading.exporting.holds_unknown = upkeep.holds_unknown
    configuration = ConfigurationInForce(foundation.settings, foundation.metrics)
    services = await open_services(
        ApiNeeds(
            foundation=foundation,
            inflow=inflow,
            reading=reading,
            remover=remover,
            upkeep=upkeep,
            signing=signing,
            health=health,
            configuration=configuration,
        )
    )
    return Parts(
        foundation=foundation,
        cameras=inflow.cameras,
        budget=inflow.budget,
        watches=inflow.watches,
        deliveries=tuple(inflow.bringing),
        cataloguing=inflow.cataloguing,
        fleet=open_fleet(foundation, inflow, upkeep, configuration),
        configuration=configuration,
        pruner=pruner,
        remover=remover,
        requiring=open_requiring(foundation, inflow),
        upkeep=upkeep,
        thumbnailing=reading.thumbnailing,
        exporting=reading.exporting,
        health=health,
        gauges=open_gauges(foundation, inflow),
        onvif=onvif,
        api=ApiServer(services),
    )
