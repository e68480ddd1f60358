"""What everything else of a daemon stands on: its folders, the journal, the backends, the catalog."""

import errno
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cctv_storaged.alarms import AlarmName, Alarms
from cctv_storaged.backends.base import Backend
from cctv_storaged.backends.shelf import Shelf
from cctv_storaged.catalog.postgres import PostgresCatalog
from cctv_storaged.clock import Clock, SystemClock
from cctv_storaged.clockguard import ClockGuard
from cctv_storaged.config import Settings
from cctv_storaged.errors import ConfigError, Fault
from cctv_storaged.events import EventHub
from cctv_storaged.formerstores import (
    name_former_places,
    open_former_stores,
    open_former_thumbnails,
)
from cctv_storaged.guarding.places import Places
from cctv_storaged.hostclock import HostBootClock
from cctv_storaged.journal.journal import Journal
from cctv_storaged.losses import count_past_losses
from cctv_storaged.metrics import Metrics
from cctv_storaged.model import BackendKind, Mode
from cctv_storaged.wiring import catalog_target, open_backend, open_shelves

_MAY_NOT = "create it and give it to this service's user, or name another folder"
_FOLDER_HINTS = {
    errno.EACCES: _MAY_NOT,
    errno.EPERM: _MAY_NOT,
    errno.EROFS: "it is mounted read-only; in a systemd unit, ReadWritePaths= opens it",
    errno.EEXIST: "a file has this name: move it away, or name another folder",
    errno.ENOTDIR: "a file is on the way: move it away, or name another folder",
    errno.ENOSPC: "free some room there",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Foundation:
    """What everything else stands on."""

    settings: Settings
    clock: Clock
    metrics: Metrics
    hub: EventHub
    alarms: Alarms
    clock_guard: ClockGuard
    journal: Journal
    places: Places
    backends: tuple[Backend, ...]
    former: tuple[Backend, ...]  # stores that `backend:` named before: read and deleted from, not put to
    catalog: PostgresCatalog | None
    exports_store: Shelf
    thumbnails_store: Shelf
    former_thumbnails: Mapping[str, Shelf]  # by the former store that they lie beside

    @property
    def readable(self) -> tuple[Backend, ...]:
        """All stores that footage is read from."""
        return (*self.backends, *self.former)

    @property
    def required(self) -> tuple[str, ...]:
        """Backends that every segment must have a copy at; the others are read and deleted from."""
        stores = tuple(backend.name for backend in self.backends)
        match self.settings.mode:
            case Mode.LOCAL:
                return stores
            case Mode.MILESTONE:
                return (BackendKind.MILESTONE,)
            case Mode.BOTH:
                return (*stores, BackendKind.MILESTONE)


async def open_foundation(stack: AsyncExitStack, settings: Settings, clock: Clock) -> Foundation:
    """Opens it; the stack closes it. Raises StoragedError where it cannot be."""
    metrics, hub = Metrics(), EventHub()
    alarms = Alarms(metrics, hub, clock)
    reserve_bytes = settings.capacity.reserve
    journal = await Journal.open(
        settings.data_dir, settings.host_id, clock.now(), reserve_bytes=reserve_bytes
    )
    stack.push_async_callback(journal.close)
    settings = with_pinned_host(settings, journal.host_id, alarms)
    if journal.opening.recovered_from is not None:
        metrics.journal_recovered.inc()
    await count_past_losses(metrics, journal)
    clock_guard = await _clock_guard(clock, alarms, journal)
    stack.push_async_callback(clock_guard.close)
    places = await _places(settings, journal, alarms, metrics, clock)
    backend = open_backend(settings, places)
    stack.push_async_callback(backend.close)
    former = open_former_stores(settings, places, alarms, partial(open_backend, places=places))
    for each in former:
        stack.push_async_callback(each.close)
    shelves = open_shelves(settings, places)
    former_thumbnails = open_former_thumbnails(
        settings, former, places, lambda of_former: open_shelves(of_former, places).thumbnails
    )
    for shelf in (shelves.exports, shelves.thumbnails, *former_thumbnails.values()):
        stack.push_async_callback(shelf.close)
    target = catalog_target(settings)
    catalog = None if target is None else PostgresCatalog(target, settings.host_id)
    if catalog is None:
        for metric in (metrics.catalog_up, metrics.catalog_lag):
            metrics.registry.unregister(metric)  # a catalog nobody wants is not one that is down
    else:
        await catalog.open()
        stack.push_async_callback(catalog.close)
    return Foundation(
        settings=settings,
        clock=clock,
        metrics=metrics,
        hub=hub,
        alarms=alarms,
        clock_guard=clock_guard,
        journal=journal,
        places=places,
        backends=(backend,),
        former=former,
        catalog=catalog,
        exports_store=shelves.exports,
        thumbnails_store=shelves.thumbnails,
        former_thumbnails=former_thumbnails,
    )


async def _clock_guard(clock: Clock, alarms: Alarms, journal: Journal) -> ClockGuard:
    boot = HostBootClock() if isinstance(clock, SystemClock) else None
    guard = ClockGuard(clock, alarms, boot, journal.clocks)
    await guard.open()
    return guard


async def _places(
    settings: Settings, journal: Journal, alarms: Alarms, metrics: Metrics, clock: Clock
) -> Places:
    """Every folder looked at once, before anything is done in one; buckets follow when they are asked."""
    places = Places(journal.places, journal.host_id, clock, alarms, metrics)
    await places.load()
    for recorder in settings.recorders:
        places.root(str(recorder.path))
    if settings.backend is BackendKind.FILESYSTEM:
        places.store(str(settings.filesystem.path))
    name_former_places(settings, places)
    await places.check()
    return places


def with_pinned_host(settings: Settings, pinned: str, alarms: Alarms) -> Settings:
    """A changed host name must not stop a recording host, nor give its footage a second identity."""
    if settings.host_id == pinned:
        alarms.end(AlarmName.HOST_ID, pinned)
        return settings
    text = (
        f"host_id is {settings.host_id!r} by the settings, or by the host's name, and this data_dir is that "
        f"of {pinned!r}, which stays in force: set host_id: {pinned!r}, or give the new host a data_dir of "
        "its own"
    )
    alarms.sound(AlarmName.HOST_ID, pinned, text)
    return settings.model_copy(update={"host_id": pinned})


def make_embedded_folders(settings: Settings) -> None:
    """data_dir and the default folders below it are ours to make; another may be a disk not mounted yet.

    Raises ConfigError where something else has the name, OSError for what may be another time.
    """
    folders = [("data_dir", settings.data_dir), ("filesystem.path", settings.filesystem.path)]
    folders += [(f"recorders[{at}].path", recorder.path) for at, recorder in enumerate(settings.recorders)]
    for key, path in folders:
        if path.is_relative_to(settings.data_dir):
            _make_folder(key, path, "data_dir" if path.parent == settings.data_dir else key)


def _make_folder(key: str, path: Path, blamed: str) -> None:
    """`blamed` is the setting to mend where no folder may be made at all."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as exc:
        raise ConfigError([_folder_fault(key, path, exc)]) from exc
    except OSError as exc:
        raise OSError(str(_folder_fault(blamed, path, exc))) from exc


def _folder_fault(key: str, path: Path, error: OSError) -> Fault:
    hint = _FOLDER_HINTS.get(error.errno or 0, "create it for this user, or name another folder")
    return Fault(key, f"the folder {path} cannot be made: {error.strerror}", hint)
