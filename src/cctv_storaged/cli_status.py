"""`cctv-storaged status`: cameras, backlog and disks of a running daemon at a glance.

Exit codes: 0 all is well; 1 a camera is silent, a backend in trouble, a copy failed, a disk low or an alarm
sounding; 2 bad usage; 3 the daemon is out of reach.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cctv_storaged.api.capacity_models import ForecastAnswer, VolumeForecastAnswer
from cctv_storaged.api.models import CameraAnswer, CamerasAnswer, PartAnswer, ReadyAnswer
from cctv_storaged.api.queue_models import BackendQueueAnswer, QueueAnswer
from cctv_storaged.cli_client import DONE, FOUND_WRONG, ApiClient, with_api
from cctv_storaged.logs.lines import one_line

Row = Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """What is asked for it."""

    cameras: CamerasAnswer
    queue: QueueAnswer
    forecast: ForecastAnswer
    ready: ReadyAnswer
    now: datetime

    @property
    def troubles(self) -> Sequence[PartAnswer]:
        """Parts and alarms of /ready that something is wrong with."""
        return [part for part in self.ready.parts if part.trouble is not None]

    @property
    def is_well(self) -> bool:
        return not (
            any(camera.state == "silent" for camera in self.cameras.cameras)
            or any(backend.trouble or backend.failed for backend in self.queue.backends)
            or (self.queue.catalog is not None and self.queue.catalog.trouble)
            or any(volume.level != "well" for volume in self.forecast.volumes)
            or self.troubles
        )


def status(options: argparse.Namespace) -> int:
    """Asks and prints; an exit code."""
    return with_api(options, lambda api: _shown(api, as_json=options.json))


def _shown(api: ApiClient, *, as_json: bool) -> int:
    glance = Glance(
        cameras=api.get("/cameras", CamerasAnswer),
        queue=api.get("/queue", QueueAnswer),
        forecast=api.get("/retention/forecast", ForecastAnswer),
        ready=api.ready(ReadyAnswer),
        now=datetime.now(UTC),
    )
    if as_json:
        answers = {
            "cameras": glance.cameras,
            "queue": glance.queue,
            "forecast": glance.forecast,
            "ready": glance.ready,
        }
        print(json.dumps({name: each.model_dump(mode="json") for name, each in answers.items()}, indent=2))
    else:
        print("\n".join(told(glance)))
    return DONE if glance.is_well else FOUND_WRONG


def told(glance: Glance) -> Iterator[str]:
    """The lines for people. Pure."""
    yield from _table(("CAMERA", "STATE", "LAST", "SEGMENTS", "SIZE", "RATE"), _cameras(glance))
    yield ""
    yield from _table(
        ("BACKEND", "WAITING", "SIZE", "OLDEST", "FAILED", "GAPS", "TROUBLE"), _backends(glance)
    )
    yield ""
    yield from _table(("DISK", "LEVEL", "FREE", "OF", "LASTS"), map(_volume, glance.forecast.volumes))
    if glance.troubles:
        yield ""
        yield "wrong now (GET /ready):"
        yield from (f"  {one_line(part.name)}: {one_line(part.trouble or '')}" for part in glance.troubles)
    aside = {reason: count for reason, count in glance.queue.set_aside.items() if count}
    if aside:
        yield ""
        yield "files that are no segments: " + ", ".join(
            f"{count} {reason}" for reason, count in aside.items()
        )


def _cameras(glance: Glance) -> Iterator[Row]:
    for camera in glance.cameras.cameras:
        rate = "-" if camera.bit_rate is None else f"{camera.bit_rate / 1e6:.1f} Mbit/s"
        yield (
            one_line(camera.name),
            camera.state,
            _ago(camera, glance.now),
            str(camera.segments),
            _size(camera.bytes),
            rate,
        )


def _ago(camera: CameraAnswer, now: datetime) -> str:
    return "never" if camera.last_footage is None else f"{_duration(now - camera.last_footage)} ago"


def _backends(glance: Glance) -> Iterator[Row]:
    for backend in glance.queue.backends:
        yield _backend(backend, glance.now)
    catalog = glance.queue.catalog
    if catalog is not None:
        yield ("PostgreSQL", str(catalog.segments), "-", "-", "-", "-", one_line(catalog.trouble or "-"))


def _backend(backend: BackendQueueAnswer, now: datetime) -> Row:
    return (
        backend.name,
        str(backend.segments),
        _size(backend.bytes),
        "-" if backend.oldest is None else _duration(now - backend.oldest),
        str(backend.failed),
        str(backend.gaps),
        one_line(backend.trouble or "-"),
    )


def _volume(volume: VolumeForecastAnswer) -> Row:
    lasts = "-" if volume.days_left is None else f"{volume.days_left:.1f} days"
    return one_line(volume.name), volume.level, _size(volume.free_bytes), _size(volume.total_bytes), lasts


def _table(heads: Row, rows: Iterator[Row]) -> Iterator[str]:
    lines = [heads, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    for line in lines:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
    if len(lines) == 1:
        yield "none"


def _size(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if number < 1000 or unit == "TB":
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    raise AssertionError("the last unit takes all")


def _duration(span: timedelta) -> str:
    seconds = max(0, round(span.total_seconds()))
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"
