"""Opening what tells how the host is: readiness, gauges, the fleet."""

from cctv_storaged.assembly.inflow import Inflow
from cctv_storaged.config import Settings
from cctv_storaged.fleet import FleetParts, FleetTelling
from cctv_storaged.fleetconfig import ConfigurationInForce
from cctv_storaged.foundation import Foundation
from cctv_storaged.gauges import Gauges
from cctv_storaged.health import Health
from cctv_storaged.model import BackendKind
from cctv_storaged.onvif.server import OnvifServer
from cctv_storaged.upkeep import Upkeep


def open_health(foundation: Foundation, inflow: Inflow, onvif: OnvifServer | None) -> Health:
    return Health(
        foundation.journal,
        inflow.watches,
        inflow.bringing,
        inflow.cataloguing,
        foundation.alarms,
        None if inflow.vms is None else inflow.vms.watch,
        onvif,
    )


def open_gauges(foundation: Foundation, inflow: Inflow) -> Gauges:
    return Gauges(
        foundation.journal,
        inflow.backends,
        _disks(foundation.settings),
        foundation.clock,
        foundation.metrics,
        catalogued=inflow.cataloguing is not None,
    )


def _disks(settings: Settings) -> tuple[str, ...]:
    """Folders whose free room is told."""
    store = (settings.filesystem.path,) if settings.backend is BackendKind.FILESYSTEM else ()
    paths = (settings.data_dir, *store, *(recorder.path for recorder in settings.recorders))
    return tuple(dict.fromkeys(map(str, paths)))


def open_fleet(
    foundation: Foundation, inflow: Inflow, upkeep: Upkeep, configuration: ConfigurationInForce
) -> FleetTelling | None:
    """This host's word to the fleet; None without a catalog."""
    if foundation.catalog is None:
        return None
    return FleetTelling(
        FleetParts(
            settings=foundation.settings,
            configuration=configuration,
            journal=foundation.journal,
            catalog=foundation.catalog,
            deliveries=inflow.bringing,
            forecasting=upkeep.capacity.forecasting,
            alarms=foundation.alarms,
            clock=foundation.clock,
        )
    )
