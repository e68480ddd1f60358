"""Exporting put together from the daemon's parts."""

from dataclasses import dataclass
from pathlib import Path

from cctv_storaged.backends.shelf import Shelf
from cctv_storaged.clock import Clock
from cctv_storaged.clockguard import ClockGuard
from cctv_storaged.config import Settings, secrets_of
from cctv_storaged.errors import MediaError
from cctv_storaged.events import EventHub
from cctv_storaged.evidence.keys import HostKey
from cctv_storaged.exporting.admission import Admission, Disks
from cctv_storaged.exporting.jobs import Exporting, ExportingParts
from cctv_storaged.exporting.making import Making, MakingParts
from cctv_storaged.exporting.packing import Packing
from cctv_storaged.exporting.putting import Puts
from cctv_storaged.exporting.takes import Takes
from cctv_storaged.exporting.telling import Telling
from cctv_storaged.exporting.trying import Trying, TryingParts
from cctv_storaged.exporting.work import WorkFolders
from cctv_storaged.gathering import Gathering
from cctv_storaged.journal.journal import Journal
from cctv_storaged.logs.redaction import Redactor
from cctv_storaged.media.ffmpeg import version
from cctv_storaged.metrics import Metrics
from cctv_storaged.model import BackendKind
from cctv_storaged.pins import Pins
from cctv_storaged.reading import Reader
from cctv_storaged.recorder.admission import CameraBook

FOLDER = Path("work", "exports")
"""Below data_dir."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportingNeeds:
    """What the daemon hands over."""

    settings: Settings
    journal: Journal
    reader: Reader
    shelf: Shelf
    cameras: CameraBook
    key: HostKey
    pins: Pins
    clock: Clock
    clock_guard: ClockGuard
    metrics: Metrics
    hub: EventHub


def open_exporting(needs: ExportingNeeds) -> Exporting:
    """Everything of exporting; it touches no disk before it runs."""
    settings, journal, clock = needs.settings, needs.journal, needs.clock
    work = WorkFolders(settings.data_dir / FOLDER)
    telling = Telling(clock, needs.metrics, needs.hub)
    disks = _disks(settings, work)
    admission = Admission(journal, needs.cameras, disks, settings.exports.max_span, clock)
    gathering, puts = Gathering(journal, needs.reader), Puts()
    making = Making(
        MakingParts(
            gathering=gathering,
            takes=Takes(journal, gathering, clock),
            packing=Packing(gathering, needs.reader, needs.key),
            work=work,
            shelf=needs.shelf,
            puts=puts,
            pins=needs.pins,
            clock=clock,
            host_id=settings.host_id,
            camera=admission.camera,
            ffmpeg=_ffmpeg_version,
        )
    )
    trying = Trying(
        TryingParts(
            exports=journal.exports,
            admission=admission,
            making=making,
            work=work,
            clock=clock,
            telling=telling,
            expire=settings.exports.expire,
            star=Redactor(secrets_of(settings)),
        )
    )
    parts = ExportingParts(
        exports=journal.exports,
        admission=admission,
        trying=trying,
        telling=telling,
        work=work,
        shelf=needs.shelf,
        puts=puts,
        clock=clock,
        clock_guard=needs.clock_guard,
        expire=settings.exports.expire,
    )
    return Exporting(parts, settings.exports.workers, settings.exports.queue)


def _disks(settings: Settings, work: WorkFolders) -> Disks:
    stored_here = settings.backend is BackendKind.FILESYSTEM
    return Disks(
        work=work.base,
        store=settings.filesystem.path if stored_here else None,
        linked=settings.filesystem.link,
        reserve_bytes=settings.capacity.reserve,
        reserve_share=settings.capacity.emergency_free,
    )


async def _ffmpeg_version() -> str | None:
    try:
        return await version()
    except MediaError:
        return None
