"""A host on a disk of a few megabytes that a recorder fills, told step by step on standard output.

`python -m tests.faults.capacity_small_disk FOLDER full|readonly`, with FOLDER a small file system of its own.
Every name that is unlinked below its recordings is told, by whichever code.
"""

import asyncio
import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

from cctv_storaged.alarms import Alarms
from cctv_storaged.capacity.levels import Limit, Limits
from cctv_storaged.capacity.opening import CapacityNeeds, open_capacity
from cctv_storaged.capacity.room import Plan, RoomKeeper
from cctv_storaged.capacity.volumes import places_of
from cctv_storaged.config import Retention
from cctv_storaged.guarding.roots import UNGUARDED
from cctv_storaged.model import Segment
from cctv_storaged.retention.rules import policy_of
from tests.fakes.scripted_backend import ScriptedBackend, Unavailable
from tests.services.jumping import JumpingLoop, eventually
from tests.services.rig import Rig, opened
from tests.services.smalldisk import unlinks_below

FILE = 250_000
NEVER = timedelta(0)
LIMITS = Limits(warn=Limit(0.4, NEVER), clean=Limit(0.3, NEVER), emergency=Limit(0.15, NEVER))


async def filled(rig: Rig, first: int) -> list[Segment]:
    """The recorder writes until the disk takes no more; what is cut off there is its own loss."""
    segments: list[Segment] = []
    for number in range(first, first + 1000):
        try:
            rig.write(number, size_bytes=FILE)
        except OSError:
            (rig.recordings / rig.path_of(number)).unlink(missing_ok=True)
            return segments
        segments.append(await rig.register(number))
    raise AssertionError("never full")


def keeper_of(rig: Rig, *, gives_up: bool) -> tuple[RoomKeeper, Alarms]:
    alarms = Alarms(rig.metrics, rig.hub, rig.clock)
    plan = Plan(
        places=places_of([str(rig.recordings)], None, str(rig.recordings.parent)),
        limits=LIMITS,
        gives_up=gives_up,
        links=True,
        policy=policy_of(Retention()),
    )
    needs = CapacityNeeds(
        plan=plan,
        store_backend=None,
        journal=rig.journal,
        pruner=rig.pruner(),
        remover=rig.remover(),
        deliveries=tuple(rig.deliveries),
        caches=(),
        guard=lambda folders: None,
        roots=UNGUARDED,
        clock=rig.clock,
        distrust=lambda: None,
        metrics=rig.metrics,
        hub=rig.hub,
        alarms=alarms,
    )
    return open_capacity(needs).keeper, alarms


async def made(keeper: RoomKeeper) -> None:
    keeper.change(keeper.plan)
    await keeper.look()
    await keeper.make_room()


def share_free(folder: Path) -> float:
    disk = os.statvfs(folder)
    return disk.f_bavail / disk.f_blocks


def sounding(alarms: Alarms) -> list[str]:
    return sorted(alarm.name for alarm in alarms.standing)


async def live(folder: Path, data: str, fault: str) -> dict[str, object]:
    told: dict[str, object] = {}
    backend = ScriptedBackend()
    async with opened(folder, backend, data=data) as rig:
        delivered = [await rig.recorded(number, size_bytes=FILE) for number in range(4)]
        async with rig.delivering(rig.delivery(backend)):
            await eventually(lambda: rig.all_verified(*delivered), "all verified")
        others = await filled(rig, 4)
        told["undelivered"] = len(others)
        keeper, alarms = keeper_of(rig, gives_up=False)
        if fault == "readonly":
            remount(folder, "ro")
            with unlinks_below(rig.recordings) as unlinks:
                await made(keeper)
            told["read_only"] = {"unlinks": unlinks.names, "alarms": sounding(alarms)}
            remount(folder, "rw")
        else:
            backend.always(Unavailable())
            with unlinks_below(rig.recordings) as unlinks:
                for _ in range(3):
                    await made(keeper)
            told["backend_away"] = {"unlinks": unlinks.names, "alarms": sounding(alarms)}
            backend.recover()
        with unlinks_below(rig.recordings) as unlinks:
            await made(keeper)
        told["cleaned"] = {
            "unlinks": sorted(unlinks.names),
            "delivered": sorted(each.source.path for each in delivered),
            "alarms": sounding(alarms),
            "free": share_free(folder),
            "losses": await rig.journal.ledger.losses(),
        }
        await filled(rig, 500)
        keeper, alarms = keeper_of(rig, gives_up=True)
        backend.always(Unavailable())
        with unlinks_below(rig.recordings) as unlinks:
            await made(keeper)
        told["given_up"] = {
            "unlinks": unlinks.names,
            "oldest": [each.source.path for each in others][: len(unlinks.names)],
            "losses": await rig.journal.ledger.losses(),
            "free": share_free(folder),
        }
    return told


def remount(folder: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], check=True)


def main() -> None:
    folder = Path(sys.argv[1])
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        told = runner.run(live(folder, sys.argv[3], sys.argv[2]))
    os.write(1, json.dumps(told).encode())


if __name__ == "__main__":
    main()
