"""What may be asked of an export, and how much room it takes. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from cctv_storaged.config.units import format_duration
from cctv_storaged.errors import Fault, Unprocessable
from cctv_storaged.journal.exportrows import ExportRequest, Format, Package
from cctv_storaged.journal.material import Weight
from cctv_storaged.model import TimeSpan

MOST_CAMERAS = 64
MOST_SEGMENTS = 99_000
"""Of one export: a day of ten-second ones has 8640 a camera. Working copies and what explains a package have
to find room beside them (evidence/manifest.py: MOST_FILES)."""
OVERHEAD = 1.1
"""What containers and indexes add, generously."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What somebody asks for; field by field it is possible, and no more is known of it."""

    camera_ids: tuple[UUID, ...]
    start: datetime
    end: datetime
    format: Format
    reason: str
    case_id: str | None = None
    created_by: str | None = None
    precise: bool = False
    package: Package = "plain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """A folder's disk: what is free there, and what of it stays free."""

    folder: str
    free_bytes: int
    reserve_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """Bytes an export takes at most: while it is made, and then for good."""

    work_bytes: int
    store_bytes: int


def request_of(wish: Wish, longest: timedelta, now: datetime) -> ExportRequest:
    """The request that a wish is. Raises Unprocessable with everything that is wrong with it by itself."""
    faults = tuple(_faults(wish, longest, now))
    if faults:
        raise Unprocessable(faults)
    return ExportRequest(
        camera_ids=wish.camera_ids,
        span=TimeSpan(wish.start, wish.end),
        format=wish.format,
        reason=wish.reason,
        case_id=wish.case_id,
        created_by=wish.created_by,
        precise=wish.precise,
        package=wish.package,
    )


def _faults(wish: Wish, longest: timedelta, now: datetime) -> Iterator[Fault]:
    count = len(wish.camera_ids)
    if count > MOST_CAMERAS:
        yield Fault("camera_ids", f"names {count} cameras; one export takes at most {MOST_CAMERAS}")
    seen: set[UUID] = set()
    for number, camera_id in enumerate(wish.camera_ids):
        if camera_id in seen:
            yield Fault(f"camera_ids.{number}", f"names camera {camera_id} a second time")
        seen.add(camera_id)
    if wish.end <= wish.start:
        yield Fault("end_time", "must be later than start_time")
    elif wish.end - wish.start > longest:
        yield Fault(
            "end_time", f"is more than exports.max_span ({format_duration(longest)}) after start_time"
        )
    if wish.start >= now:
        yield Fault("start_time", "lies in the future: there is no footage yet")


def weight_faults(weights: Sequence[Weight]) -> Iterator[Fault]:
    """What is wrong with how much it is."""
    segments = sum(weight.segments for weight in weights)
    if segments > MOST_SEGMENTS:
        told = f"holds {segments} segments; at most {MOST_SEGMENTS} go into one export"
        yield Fault("end_time", told)


def needs_of(weights: Sequence[Weight], package: Package) -> Needs:
    """How much room it takes.

    Plain, of one camera: the file. Of several: their files, and the ZIP of them. Evidence: the files, and a
    ZIP that holds them and the originals.
    """
    footage = int(sum(weight.bytes for weight in weights) * OVERHEAD)
    if package == "evidence":
        return Needs(work_bytes=3 * footage, store_bytes=2 * footage)
    return Needs(work_bytes=footage if len(weights) == 1 else 2 * footage, store_bytes=footage)


def lacking(needed_bytes: int, room: Room) -> str | None:
    """What to tell where the room is too little; None where it suffices."""
    usable = max(0, room.free_bytes - room.reserve_bytes)
    if needed_bytes <= usable:
        return None
    return (
        f"the export takes up to {needed_bytes} bytes and the disk of {room.folder} has {usable} to give"
        f" ({room.free_bytes} free, {room.reserve_bytes} kept back): make room, or ask for a shorter span"
    )
