"""Proof of coverage by the real client, beside XProtect's simulator: recorded, fetched, eaten, unheard."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from cctv_storaged.alarms import Alarms
from cctv_storaged.backends.milestone.target import MilestoneTarget
from cctv_storaged.backends.milestone.xprotect import XProtect
from cctv_storaged.clock import SystemClock
from cctv_storaged.model import Segment, TimeSpan
from cctv_storaged.vms.attendance import Backoff
from cctv_storaged.vms.opening import Proof
from cctv_storaged.vms.verdict import Ingest, Rules
from tests.fakes.xprotect.pictures import ms
from tests.fakes.xprotect.simulator import Simulator
from tests.fakes.xprotect.site import EdgeFile
from tests.services.jumping import LoopClock
from tests.services.proving import NAME, proof_of, settings, store_of
from tests.services.rig import Rig, opened
from tests.services.xprotect import PASSWORD, USER, camera, running_site

SECOND = timedelta(seconds=1)
PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class OneCamera:
    """All footage is of one camera there."""

    device: UUID

    async def device_of(self, camera_id: UUID) -> UUID | None:
        return self.device

    def why_not(self, camera_id: UUID) -> str | None:
        return None


class LosesOneAnswer(XProtect):
    """The first retrieval is taken, and the connection is cut before its answer."""

    def __init__(self, target: MilestoneTarget, simulator: Simulator) -> None:
        super().__init__(target, SystemClock())
        self._to_lose, self._simulator = 1, simulator
        self.asked: list[UUID] = []

    async def retrieve(self, camera: UUID, span: TimeSpan, identifier: UUID) -> str:
        self.asked.append(identifier)
        self._simulator.site.faults.set({"lose_answer_next": self._to_lose})
        self._to_lose = 0
        return await super().retrieve(camera, span, identifier)


@dataclass(slots=True, kw_only=True)
class Beside:
    """A rig and a simulated site."""

    rig: Rig
    simulator: Simulator
    proof: Proof
    vms: LosesOneAnswer

    async def recorded_there(self, *segments: Segment) -> None:
        for each in segments:
            path = self.rig.source(each)
            await asyncio.to_thread(self.simulator.site.media.add_ts, DEVICE, path, each.span.start)

    def kept_at_edge(self, *segments: Segment) -> None:
        files = self.simulator.site.edge.setdefault(DEVICE, [])
        files += [EdgeFile(path=self.rig.source(each), start=each.span.start) for each in segments]

    async def until_verified(self, *segments: Segment) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not await self.rig.all_verified(*segments, backend=NAME):
                await asyncio.sleep(0.02)


DEVICE = camera("gate").id


@asynccontextmanager
async def beside(folder: Path, ingest: Ingest) -> AsyncIterator[Beside]:
    quick = replace(
        settings(ingest),
        rules=Rules(ingest=ingest, settle=SECOND / 10, deadline=timedelta(days=400)),
        backoff=Backoff(initial=SECOND / 10, longest=SECOND / 2),
    )
    clock = LoopClock(datetime.now(UTC))
    async with running_site(["gate"]) as simulator:
        target = MilestoneTarget(
            url=simulator.site.url, username=USER, password=PASSWORD, allow_plain_http=True
        )
        vms = LosesOneAnswer(target, simulator)
        try:
            async with opened(folder, store_of(vms, clock, OneCamera(DEVICE)), clock=clock) as rig:
                alarms = Alarms(rig.metrics, rig.hub, rig.clock)
                proof = proof_of(rig, vms, OneCamera(DEVICE), quick, alarms)
                yield Beside(rig=rig, simulator=simulator, proof=proof, vms=vms)
        finally:
            await vms.close()


async def test_what_the_simulator_recorded_is_verified_and_what_it_lost_is_not_pruned(tmp_path: Path) -> None:
    async with beside(tmp_path, "vms_recording") as host:
        segments = [await host.rig.recorded(number) for number in range(4)]
        await host.recorded_there(*segments)
        async with host.rig.delivering(host.proof.proving):
            await host.until_verified(*segments)
        eaten = segments[2]
        assert host.simulator.site.media.remove(DEVICE, ms(eaten.span.start), ms(eaten.span.end + SECOND))
        assert await host.rig.pruner(timedelta(0), required=(NAME,)).run_once() == 3
        assert host.rig.source(eaten).exists()


@pytest.mark.parametrize("reuse", ["merged", "rejected", "again"])
async def test_what_the_device_has_is_fetched_though_an_answer_is_lost(tmp_path: Path, reuse: str) -> None:
    async with beside(tmp_path, "edge_retrieval") as host:
        host.simulator.site.assumptions.set({"identifier_reuse": reuse})
        segments = [await host.rig.recorded(number) for number in range(4)]
        await host.recorded_there(segments[0])
        host.kept_at_edge(*segments[1:])
        async with host.rig.delivering(host.proof.proving):
            await host.until_verified(segments[0])
            await host.until_verified(*segments)
            async with asyncio.timeout(PATIENCE_S):
                while await host.rig.journal.retrievals.all():
                    await asyncio.sleep(0.02)
        assert len(set(host.vms.asked)) == 1
