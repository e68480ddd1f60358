"""All that works in a daemon, as its duties and the tests of it take it."""

from dataclasses import dataclass

from cctv_storaged.api.server import ApiServer
from cctv_storaged.bringing import Bringing
from cctv_storaged.cataloguing import Cataloguing
from cctv_storaged.exporting.jobs import Exporting
from cctv_storaged.fleet import FleetTelling
from cctv_storaged.fleetconfig import ConfigurationInForce
from cctv_storaged.foundation import Foundation
from cctv_storaged.gauges import Gauges
from cctv_storaged.health import Health
from cctv_storaged.onvif.server import OnvifServer
from cctv_storaged.pacing import ByteBudget
from cctv_storaged.prune import Pruner
from cctv_storaged.recorder.admission import CameraBook
from cctv_storaged.removal import Remover
from cctv_storaged.requiring import Requiring
from cctv_storaged.thumbnailing import Thumbnailing
from cctv_storaged.upkeep import Upkeep
from cctv_storaged.watching import RootWatch


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
