"""What the API asks: the services of one daemon, handed over in one value."""

from collections.abc import Sequence
from dataclasses import dataclass

from cctv_storaged.access import Access
from cctv_storaged.backends.shelf import Shelf
from cctv_storaged.bringing import Bringing
from cctv_storaged.catalog.base import Catalog
from cctv_storaged.cataloguing import Cataloguing
from cctv_storaged.clips import Clips
from cctv_storaged.clock import Clock
from cctv_storaged.config import Settings
from cctv_storaged.events import EventHub
from cctv_storaged.evidence.keys import HostKey
from cctv_storaged.exporting.jobs import Exporting
from cctv_storaged.fleet import FleetReading
from cctv_storaged.fleetconfig import ConfigurationInForce
from cctv_storaged.health import Health
from cctv_storaged.ingest import Ingest
from cctv_storaged.journal.journal import Journal
from cctv_storaged.metrics import Metrics
from cctv_storaged.playback import Playlists
from cctv_storaged.reading import Reader
from cctv_storaged.recorder.admission import CameraBook, Root
from cctv_storaged.removal import Remover
from cctv_storaged.storyboards import Storyboards
from cctv_storaged.thumbnails import Thumbnails
from cctv_storaged.upkeep import Upkeep
from cctv_storaged.watching import RootWatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Filled in by the daemon; every part is open before the API starts and outlives it."""

    settings: Settings
    journal: Journal
    ingest: Ingest
    roots: Sequence[Root]
    watches: Sequence[RootWatch]
    deliveries: Sequence[Bringing]
    remover: Remover
    upkeep: Upkeep
    reader: Reader
    playlists: Playlists
    clips: Clips
    thumbnails: Thumbnails
    storyboards: Storyboards
    exporting: Exporting
    exports_store: Shelf
    catalog: Catalog | None
    fleet: FleetReading | None  # with a catalog
    cataloguing: Cataloguing | None
    access: Access
    signing: HostKey
    health: Health
    configuration: ConfigurationInForce
    hub: EventHub
    metrics: Metrics
    clock: Clock

    @property
    def cameras(self) -> CameraBook:
        """The configured cameras, as the recorder roots know them: a reload changes their one book."""
        if self.roots:
            return self.roots[0].cameras
        return CameraBook(self.settings.host_id, self.settings.known_cameras())
