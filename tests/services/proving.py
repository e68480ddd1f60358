"""Proving around a rig: a stand-in for XProtect, and whatever of the journal a test needs to know."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from cctv_storaged.alarms import Alarms
from cctv_storaged.backends.base import Backend
from cctv_storaged.backends.milestone.base import Vms
from cctv_storaged.clockguard import ClockGuard
from cctv_storaged.model import Segment, TimeSpan
from cctv_storaged.vms.attendance import Backoff
from cctv_storaged.vms.ground import Ground, Mapping, ProvingSettings
from cctv_storaged.vms.opening import Proof, open_proof
from cctv_storaged.vms.store import MilestoneStore
from cctv_storaged.vms.verdict import Ingest, Rules
from tests.fakes.scripted_vms import ScriptedVms, Twice, all_but
from tests.services.jumping import MIDNIGHT, LoopClock
from tests.services.rig import Rig, opened, root_at

SETTLE = timedelta(seconds=15)
DEADLINE = timedelta(hours=1)
WINDOW = timedelta(minutes=15)
TOLERANCE = timedelta(seconds=0.2)  # the rig's segments are a second long
EVENT = UUID(int=5)
NAME = "MILESTONE"
ASKED = frozenset(
    {
        *("site", "cameras", "storage", "reach", "recorded"),
        *("retrieve", "task", "clean_up", "send_event", "raise_alarm"),
    }
)
"""What a site is asked whose recordings are to be proven."""


@dataclass(slots=True)
class OneToOne:
    """A mapping: XProtect's camera has our id with another first byte; of `unknown` there is none."""

    unknown: set[UUID] = field(default_factory=set)
    others: dict[UUID, UUID] = field(default_factory=dict)  # that are mapped otherwise

    async def device_of(self, camera_id: UUID) -> UUID | None:
        return None if camera_id in self.unknown else self.others.get(camera_id, device_of(camera_id))

    def why_not(self, camera_id: UUID) -> str | None:
        return "it has no counterpart" if camera_id in self.unknown else None


def device_of(camera_id: UUID) -> UUID:
    """XProtect's GUID of our camera."""
    return UUID(int=camera_id.int ^ (0xFF << 120))


def proving_site(*, twice: Twice = Twice.ACCEPTED) -> ScriptedVms:
    """It holds nothing yet."""
    unasked = AssertionError("nobody who proves asks for that")
    return ScriptedVms(channels=None, skew=None, twice=twice, errors=all_but(ASKED, unasked))


@dataclass(slots=True, kw_only=True)
class Proven:
    """A rig with an XProtect."""

    rig: Rig
    vms: ScriptedVms
    mapping: OneToOne
    proof: Proof
    store: MilestoneStore
    alarms: Alarms

    def holds(self, *segments: Segment) -> None:
        """XProtect has recorded them."""
        for each in segments:
            self.vms.record(device_of(each.camera_id), each.span)

    def keeps_at_edge(self, *segments: Segment) -> None:
        for each in segments:
            self.vms.edge.setdefault(device_of(each.camera_id), []).append(each.span)

    def loses(self, *segments: Segment) -> None:
        for each in segments:
            self.vms.lose(device_of(each.camera_id), each.span)

    async def verified(self, *segments: Segment) -> bool:
        return await self.rig.all_verified(*segments, backend=NAME)

    async def states(self, *segments: Segment) -> list[str]:
        return [await self.rig.state(each, NAME) for each in segments]

    def running(self) -> AbstractAsyncContextManager[None]:
        """Proving works while the block lasts."""
        return self.rig.delivering(self.proof.proving)


def settings(
    ingest: Ingest = "vms_recording", *, deadline: timedelta = DEADLINE, max_retrievals: int = 2
) -> ProvingSettings:
    return ProvingSettings(
        rules=Rules(ingest=ingest, settle=SETTLE, deadline=deadline),
        window_max=WINDOW,
        tolerance=TOLERANCE,
        max_retrievals=max_retrievals,
        event_id=EVENT,
        backoff=Backoff(initial=timedelta(seconds=1), longest=timedelta(minutes=5)),
        mode="MILESTONE",
        window=None,
        newest_share=0.3,
    )


def proof_of(
    rig: Rig,
    vms: Vms,
    mapping: Mapping,
    chosen: ProvingSettings,
    alarms: Alarms,
    doubt: Callable[[timedelta], str | None] = lambda span: None,
    store: MilestoneStore | None = None,
) -> Proof:
    """Not running."""

    async def look_again(segment: Segment) -> None:
        root = root_at(Path(segment.source.root))
        await rig.ingest.consider(root, segment.source.path, lambda found: True)

    ground = Ground(
        journal=rig.journal,
        vms=vms,
        mapping=mapping,
        clock=rig.clock,
        metrics=rig.metrics,
        hub=rig.hub,
        alarms=alarms,
        look_again=look_again,
        delivered=rig.delivered.append,
        doubt=doubt,
    )
    return open_proof(store or store_of(vms, rig.clock, mapping), chosen, ground)


def store_of(vms: Vms, clock: LoopClock, mapping: Mapping) -> MilestoneStore:
    return MilestoneStore(vms, clock, mapping, window=WINDOW, settle=SETTLE, tolerance=TOLERANCE)


@asynccontextmanager
async def proven(
    folder: Path,
    *stores: Backend,
    vms: ScriptedVms | None = None,
    clock: LoopClock | None = None,
    chosen: ProvingSettings | None = None,
    guarded: bool = False,
) -> AsyncIterator[Proven]:
    """New segments get a copy at MILESTONE, and at the stores. Opened again it goes on where it ended.

    `guarded`: steps of the clock are seen.
    """
    vms = vms or proving_site()
    mapping = OneToOne()
    clock = clock or LoopClock(MIDNIGHT + timedelta(minutes=30))
    store = store_of(vms, clock, mapping)
    async with opened(folder, *stores, store, clock=clock) as rig:
        alarms = Alarms(rig.metrics, rig.hub, rig.clock)
        doubt = ClockGuard(clock, alarms).distrust_over if guarded else lambda span: None
        proof = proof_of(rig, vms, mapping, chosen or settings(), alarms, doubt, store)
        rig.deliveries.append(proof.proving)
        yield Proven(rig=rig, vms=vms, mapping=mapping, proof=proof, store=store, alarms=alarms)


def whole(*segments: Segment) -> TimeSpan:
    return TimeSpan(min(each.span.start for each in segments), max(each.span.end for each in segments))
