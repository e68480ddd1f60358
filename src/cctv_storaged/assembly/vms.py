"""Opening what works with Milestone XProtect, where it is configured."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from uuid import UUID

from cctv_storaged.backends.milestone.base import Vms
from cctv_storaged.config import Milestone, secrets_of
from cctv_storaged.foundation import Foundation
from cctv_storaged.logs.redaction import Redactor
from cctv_storaged.model import BackendKind, Segment
from cctv_storaged.reading import READABLE
from cctv_storaged.recorder.admission import CameraBook
from cctv_storaged.retention.rules import key_of
from cctv_storaged.vms.condition import condition_rules
from cctv_storaged.vms.conditionwatch import ConditionWatch
from cctv_storaged.vms.ground import Ground
from cctv_storaged.vms.holdmarks import HoldMarking, HoldMarkingParts, MarkRules
from cctv_storaged.vms.mapping import CameraMapping, map_rules
from cctv_storaged.vms.opening import open_proof, open_store, proving_settings
from cctv_storaged.vms.parts import VmsParts
from cctv_storaged.vms.readback import Readback
from cctv_storaged.vms.readbackcache import ReadbackCache
from cctv_storaged.wiring import open_vms


@dataclass(frozen=True, slots=True, kw_only=True)
class VmsNeeds:
    """What it works with."""

    foundation: Foundation
    cameras: CameraBook
    look_again: Callable[[Segment], Awaitable[None]]
    delivered: Callable[[Segment], None]


async def open_vms_parts(stack: AsyncExitStack, needs: VmsNeeds) -> VmsParts | None:
    """Everything, connected to nothing yet; None without a site. Raises ConfigError."""
    foundation = needs.foundation
    block, vms = foundation.settings.milestone, open_vms(foundation.settings, foundation.clock)
    if block is None or vms is None:
        for metric in foundation.metrics.of_vms:
            foundation.metrics.registry.unregister(metric)  # a site that nobody has is not one that is well
        return None
    stack.push_async_callback(vms.close)
    required = BackendKind.MILESTONE in foundation.required
    mapping = CameraMapping(
        vms,
        foundation.journal.cameras,
        needs.cameras,
        map_rules(block, required=required),
        foundation.alarms,
    )
    store = open_store(block, vms, foundation.clock, mapping)
    stack.push_async_callback(store.close)
    settings = proving_settings(foundation.settings, block)
    readback = await _readback(stack, needs, block, vms)
    return VmsParts(
        vms=vms,
        mapping=mapping,
        proof=open_proof(store, settings, _ground(needs, vms, mapping, readback)),
        readback=readback,
        watch=_watch(foundation, block, vms, mapping),
        marking=_marking(foundation, block, vms, mapping),
    )


def _ground(needs: VmsNeeds, vms: Vms, mapping: CameraMapping, readback: Readback) -> Ground:
    foundation = needs.foundation

    def delivered(segment: Segment) -> None:
        readback.renewed(segment.id)
        needs.delivered(segment)

    return Ground(
        journal=foundation.journal,
        vms=vms,
        mapping=mapping,
        clock=foundation.clock,
        metrics=foundation.metrics,
        hub=foundation.hub,
        alarms=foundation.alarms,
        look_again=needs.look_again,
        delivered=delivered,
        roots=foundation.places.roots,
        star=Redactor(secrets_of(foundation.settings)),
        doubt=foundation.clock_guard.distrust_over,
    )


async def _readback(stack: AsyncExitStack, needs: VmsNeeds, block: Milestone, vms: Vms) -> Readback:
    foundation = needs.foundation
    folder = block.cache.dir or foundation.settings.data_dir / "cache" / "vms"
    cache = ReadbackCache(folder, block.cache.max_bytes, foundation.settings.capacity.reserve)
    await cache.open()

    async def is_left(segment_id: UUID) -> bool:
        segment = await foundation.journal.segments.by_id(segment_id)
        copy = None if segment is None else segment.copy_at(BackendKind.MILESTONE)
        return copy is not None and copy.state in READABLE

    readback = Readback(
        vms,
        cache,
        foundation.journal.read_backs,
        foundation.clock,
        stream_of=_streams(block, needs.cameras),
        is_left=is_left,
    )
    stack.push_async_callback(readback.close)
    return readback


def _streams(block: Milestone, cameras: CameraBook) -> Callable[[UUID], UUID | None]:
    """Of our camera, by its id or folder, the stream to read; None: the default one."""
    streams = {key_of(key): stream for key, stream in block.stream_id.items()}

    def stream_of(camera_id: UUID) -> UUID | None:
        folder = cameras.with_id(camera_id).folder
        return streams.get(str(camera_id)) or streams.get(folder)

    return stream_of


def _watch(foundation: Foundation, block: Milestone, vms: Vms, mapping: CameraMapping) -> ConditionWatch:
    return ConditionWatch(
        vms,
        mapping,
        foundation.journal.cameras,
        condition_rules(block),
        foundation.clock,
        foundation.alarms,
        foundation.metrics,
    )


def _marking(foundation: Foundation, block: Milestone, vms: Vms, mapping: CameraMapping) -> HoldMarking:
    journal = foundation.journal
    return HoldMarking(
        HoldMarkingParts(
            vms=vms,
            mapping=mapping,
            marks=journal.vms_marks,
            holds=journal.holds,
            copies=journal.hold_marks,
            rules=MarkRules(bookmark=block.marks.bookmark, evidence_lock=block.marks.evidence_lock),
            host_id=journal.host_id,
            clock=foundation.clock,
            alarms=foundation.alarms,
        )
    )
