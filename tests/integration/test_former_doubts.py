"""What a reader did not get from a former store: proven again at once, and judged only by an answer."""

from pathlib import Path

from cctv_storaged.events import EventKind
from cctv_storaged.formerstores import FormerDoubts
from cctv_storaged.model import CopyState, Segment, SourceState
from tests.fakes.scripted_backend import Op, ScriptedBackend, Unavailable
from tests.services.jumping import eventually, jumping
from tests.services.rig import Rig, opened


async def only_delivered(rig: Rig, backend: ScriptedBackend) -> Segment:
    segment = await rig.recorded(0)
    async with rig.delivering(rig.delivery(backend)):
        await eventually(lambda: rig.all_verified(segment, backend="S3"), "verified")
    now = rig.clock.now()
    await rig.journal.copies.source_gone(segment.id, SourceState.MISSING, "source_vanished", now)
    return await rig.segment(segment)


def doubts(rig: Rig, store: ScriptedBackend) -> FormerDoubts:
    return FormerDoubts(
        stores=(store,), copies=rig.journal.copies, clock=rig.clock, metrics=rig.metrics, hub=rig.hub
    )


@jumping
async def test_a_copy_is_what_it_was_while_its_former_store_is_away(tmp_path: Path) -> None:
    """Nobody would come back to prove it, and an unproven copy keeps its segment from going for room."""
    backend = ScriptedBackend("S3")
    async with opened(tmp_path, backend) as rig:
        segment = await only_delivered(rig, backend)
        backend.then(Op.VERIFY, Unavailable())
        await doubts(rig, backend).prove(segment, "S3")
        assert await rig.state(segment) == CopyState.VERIFIED
        assert rig.told(EventKind.LOST) == []


@jumping
async def test_a_copy_that_a_former_store_lost_is_lost(tmp_path: Path) -> None:
    backend = ScriptedBackend("S3")
    async with opened(tmp_path, backend) as rig:
        segment = await only_delivered(rig, backend)
        await doubts(rig, backend).prove(segment, "S3")
        assert await rig.state(segment) == CopyState.VERIFIED
        backend.objects.clear()
        await doubts(rig, backend).prove(segment, "S3")
        assert await rig.state(segment) == CopyState.FAILED
        assert [each.segment_id for each in rig.told(EventKind.LOST)] == [segment.id]
