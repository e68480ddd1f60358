"""Exports on a host: footage to make them of, ways to ask for one, and to wait for its end."""

import asyncio
import os
import stat
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

from cctv_storaged.clock import rfc3339
from tests.integration.api.harness import Host, description, files_below, until
from tests.numbered import cut_up, numbered_ts

T0 = datetime(2026, 1, 1, 10, tzinfo=UTC)
SEGMENT_S = 2
ENDED = ("COMPLETED", "FAILED", "CANCELLED")
GATE, YARD, DOCK = (uuid5(UUID(int=0), name) for name in ("gate", "yard", "dock"))
CAMERAS = {"gate": GATE, "yard": YARD, "dock": DOCK}
NAMED = {"cameras": [{"id": str(id_), "name": name.title(), "folder": name} for name, id_ in CAMERAS.items()]}
"""Settings that name the cameras."""


_HELD = """#!/bin/sh
while text=$(cat "{hold}" 2>/dev/null); do
    case "$*" in *"$text"*) sleep 0.02 ;; *) break ;; esac
done
exec {real} "$@"
"""


def moment(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


async def recorded(
    host: Host, name: str = "gate", *, seconds: int = 6, without: Sequence[int] = (), **recipe: Any
) -> list[dict[str, Any]]:
    """Segments of numbered pictures from T0 on, registered; those of some numbers were never recorded."""
    paths = cut_up(
        numbered_ts(seconds=seconds, **recipe), host.recordings / name, seconds=SEGMENT_S, reset=True
    )
    made = []
    for number, path in enumerate(paths):
        if number in without:
            path.unlink()
            continue
        body = description(path, camera=CAMERAS[name], start=moment(number * SEGMENT_S), seconds=SEGMENT_S)
        reply = await host.post("/segments", body)
        assert reply.status == 201, reply
        made.append(dict(reply.json))
    return made


def body_of(*cameras: UUID, start_s: float = 0, end_s: float = 6, **more: Any) -> dict[str, Any]:
    """What is posted for an export."""
    return {
        "camera_ids": [str(camera) for camera in cameras or (GATE,)],
        "start_time": rfc3339(moment(start_s)),
        "end_time": rfc3339(moment(end_s)),
        "format": "mp4",
        "reason": "incident",
        **more,
    }


def work(host: Host) -> None:
    """Exports are worked on from now on, until the host ends."""
    host.tasks.append(asyncio.create_task(host.parts.exporting.run()))


async def asked(host: Host, *cameras: UUID, **more: Any) -> dict[str, Any]:
    """An export that was taken in."""
    reply = await host.post("/exports", body_of(*cameras, **more))
    assert reply.status == 202, reply
    return dict(reply.json)


async def state(host: Host, export: dict[str, Any]) -> dict[str, Any]:
    """The export as it is now."""
    reply = await host.get(f"/exports/{export['id']}")
    assert reply.status == 200, reply
    return dict(reply.json)


async def ended(host: Host, export: dict[str, Any], *, status: str = "COMPLETED") -> dict[str, Any]:
    """The export once it has come to its end, which is `status`."""

    async def is_ended() -> dict[str, Any] | None:
        now = await state(host, export)
        return now if now["status"] in ENDED else None

    found = await until(is_ended)
    assert found["status"] == status, found
    return found


async def fetched(host: Host, export: dict[str, Any], into: Path) -> Path:
    """The export's file, as its download gives it."""
    reply = await host.get(f"/exports/{export['id']}/download")
    assert reply.status == 200, reply
    path = into / str(export["file_name"])
    path.write_bytes(reply.body)
    return path


def work_folders(host: Host) -> list[Path]:
    """Those of exports that are being made, or were."""
    base = host.settings.data_dir / "work" / "exports"
    return sorted(base.iterdir()) if base.exists() else []


def shelf(host: Host) -> Path:
    """Where a FILESYSTEM store keeps exports."""
    return host.settings.filesystem.path / "exports"


def shelved(host: Host) -> set[str]:
    """Names of everything on it."""
    return {path.name for path in files_below(shelf(host))}


def held_ffmpeg(folder: Path) -> tuple[dict[str, str], Path]:
    """A PATH on which no ffmpeg begins that is told the text of the file given, while that is there."""
    real = next(path for each in os.environ["PATH"].split(":") if (path := Path(each) / "ffmpeg").exists())
    hold = folder / "hold"
    script = folder / "bin" / "ffmpeg"
    script.parent.mkdir()
    script.write_text(_HELD.format(hold=hold, real=real))
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return {"PATH": f"{script.parent}:{os.environ['PATH']}"}, hold
