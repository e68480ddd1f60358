"""Opening what others ask: the API's services, who may use them, and the ONVIF device beside it."""

import asyncio
import logging
from dataclasses import dataclass

from cctv_storaged.access import Access
from cctv_storaged.api.services import Services
from cctv_storaged.assembly.inflow import Inflow
from cctv_storaged.assembly.reading import ReadingSide
from cctv_storaged.config import Settings, is_loopback
from cctv_storaged.errors import JournalFull
from cctv_storaged.evidence.keys import HostKey
from cctv_storaged.fleet import FleetReading
from cctv_storaged.fleetconfig import ConfigurationInForce
from cctv_storaged.foundation import Foundation
from cctv_storaged.health import Health
from cctv_storaged.onvif.server import OnvifServer, open_onvif
from cctv_storaged.pins import Pins
from cctv_storaged.removal import Remover
from cctv_storaged.upkeep import Upkeep

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiNeeds:
    """What the API's services are taken from."""

    foundation: Foundation
    inflow: Inflow
    reading: ReadingSide
    remover: Remover
    upkeep: Upkeep
    signing: HostKey
    health: Health
    configuration: ConfigurationInForce


async def open_services(needs: ApiNeeds) -> Services:
    """Everything that the API asks."""
    foundation, inflow, reading = needs.foundation, needs.inflow, needs.reading
    return Services(
        settings=foundation.settings,
        journal=foundation.journal,
        ingest=inflow.ingest,
        roots=tuple(inflow.roots.values()),
        watches=inflow.watches,
        deliveries=tuple(inflow.bringing),
        remover=needs.remover,
        upkeep=needs.upkeep,
        reader=reading.reader,
        thumbnails=reading.thumbnails,
        storyboards=reading.storyboards,
        clips=reading.clips,
        playlists=reading.playlists,
        exporting=reading.exporting,
        exports_store=foundation.exports_store,
        catalog=foundation.catalog,
        fleet=_fleet(foundation),
        cataloguing=inflow.cataloguing,
        access=await _access(foundation),
        signing=needs.signing,
        health=needs.health,
        configuration=needs.configuration,
        hub=foundation.hub,
        metrics=foundation.metrics,
        clock=foundation.clock,
    )


def _fleet(foundation: Foundation) -> FleetReading | None:
    """What the catalog says of all hosts; None without one."""
    catalog = foundation.catalog
    return None if catalog is None else FleetReading(catalog.hosts, foundation.clock)


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


async def open_signing(settings: Settings) -> HostKey:
    """The key of evidence packages, made at the first start. Raises ConfigError for one that is damaged."""
    signing = HostKey(settings.data_dir)
    try:
        key = await asyncio.to_thread(signing.current)
    except JournalFull as exc:
        log.error("start-up goes on without a signing key, and it is tried again when one is needed: %s", exc)
    else:
        log.info("evidence packages are signed with the key %s", key.public.fingerprint)
    return signing


def open_onvif_device(
    foundation: Foundation, inflow: Inflow, reading: ReadingSide, pins: Pins
) -> OnvifServer | None:
    """The device that XProtect retrieves from, where the settings want it."""
    block = foundation.settings.milestone
    if block is None:
        return None
    return open_onvif(
        block,
        host_id=foundation.journal.host_id,
        journal=foundation.journal,
        backends=foundation.readable,
        pins=pins,
        metrics=foundation.metrics,
        clock=foundation.clock,
        budget=inflow.budget,
        doubt=reading.doubt,
    )
