"""A rule that waits for a yes: room takes nothing by it either, and says why it does not."""

from pathlib import Path

from cctv_storaged.assembly import assembled
from cctv_storaged.capacity.ageing import Ageing, AgeingParts
from cctv_storaged.capacity.stages import NOTHING_LEFT, Taken, expired_before, shortened_before
from cctv_storaged.clock import SystemClock
from cctv_storaged.journal.copies import Proof
from cctv_storaged.journal.deletions import Cause
from cctv_storaged.model import FileIdentity, NewSegment, Segment, SourceFile, TimeSpan
from cctv_storaged.retention.rules import Policy, Rule
from tests.fakes.scripted_backend import ScriptedBackend
from tests.integration.api.harness import settings_of
from tests.integration.test_retention import GATE, HOUR, Kept, at_most, keeping
from tests.services.jumping import MIDNIGHT, jumping
from tests.services.rig import DAY, Rig, opened

LONG, SHORT = at_most(400 * DAY), at_most(30 * DAY)
STORE = "FILESYSTEM"


async def stored(rig: Rig, count: int) -> list[Segment]:
    """So many hours of footage, a hundred days old, verified in the store."""
    segments = []
    for number in range(count):
        path = rig.recordings / "gate" / f"{number:06}.ts"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"footage of hour %d" % number)
        status = path.stat()
        identity = FileIdentity(
            device=status.st_dev,
            inode=status.st_ino,
            size_bytes=status.st_size,
            mtime_ns=status.st_mtime_ns,
        )
        start = MIDNIGHT - 100 * DAY + number * HOUR
        source = SourceFile(root=str(rig.recordings), path=f"gate/{path.name}", identity=identity)
        new = NewSegment(camera=GATE, span=TimeSpan(start, start + HOUR), source=source)
        now = rig.clock.now()
        segment = (await rig.journal.segments.record(new, (STORE,), now)).segment
        proof = Proof(path=f"p/{number}.ts", sha256=number.to_bytes(32, "big"), etag=None)
        await rig.journal.copies.verified(segment.id, STORE, proof, now)
        segments.append(segment)
    return segments


def ageing(kept: Kept, *, shortened: bool = False) -> Ageing:
    """By the rules that retention has, as in a daemon."""
    parts = AgeingParts(
        rows=kept.rig.journal.capacity,
        remover=kept.remover,
        pins=kept.pins,
        clock=kept.rig.clock,
        distrust=lambda: None,
        spares=lambda end, limit: False,
        unweighed=kept.retention.unweighed,
    )
    return Ageing(
        parts,
        STORE,
        lambda: kept.retention.policy,
        cutoff=shortened_before if shortened else expired_before,
        cause=Cause.SHORTENED if shortened else Cause.EXPIRED,
        by_priority=shortened,
    )


async def taken(kept: Kept) -> list[Taken]:
    """What either stage takes."""
    return [await ageing(kept, shortened=each).take(64, 10**9) for each in (False, True)]


def nothing_and_why(takes: list[Taken]) -> bool:
    return all(each.segments == 0 and "wait for a yes" in (each.why or "") for each in takes)


@jumping
async def test_what_the_brake_stops_room_does_not_take_until_somebody_says_yes(tmp_path: Path) -> None:
    """A slip of the pen, by SIGHUP, on a full disk."""
    store = ScriptedBackend(STORE)
    async with opened(tmp_path, store) as rig:
        rig.delivery(store)
        segments = await stored(rig, 60)
        kept = keeping(rig, LONG)
        await kept.retention.run_once()
        kept.retention.change(SHORT)
        assert nothing_and_why(await taken(kept)), "nobody has weighed it yet"
        await kept.retention.run_once()
        assert kept.retention.stopped
        assert nothing_and_why(await taken(kept)), "it waits for a yes"
        assert not any([await kept.is_gone(each) for each in segments])
        await kept.retention.confirm(None, None, "test")
        await kept.retention.run_once()
        assert all([await kept.is_gone(each) for each in segments])


@jumping
async def test_nor_does_it_after_a_start_with_a_shorter_rule_and_it_waits_for_no_pass_with_the_same(
    tmp_path: Path,
) -> None:
    store = ScriptedBackend(STORE)
    async with opened(tmp_path, store) as rig:
        rig.delivery(store)
        segments = await stored(rig, 60)
        assert nothing_and_why(await taken(keeping(rig, LONG))), "no pass has ever been over it"
        kept = keeping(rig, Policy(default=Rule(desired=30 * DAY, at_most=400 * DAY), per_camera={}))
        await kept.retention.run_once()
        assert nothing_and_why(await taken(keeping(rig, SHORT)))
        same = keeping(rig, kept.retention.policy)  # a start on
        [expired, *_] = await taken(same)
        assert {each.id for each in expired.gone} == {each.id for each in segments}


@jumping
async def test_a_rule_that_changes_while_room_looks_is_weighed_before_anything_goes_by_it(
    tmp_path: Path,
) -> None:
    store = ScriptedBackend(STORE)
    async with opened(tmp_path, store) as rig:
        rig.delivery(store)
        segments = await stored(rig, 60)
        kept = keeping(rig, LONG)
        await kept.retention.run_once()
        room = ageing(kept)
        really_fill = room._fill

        async def then_it_is_shorter(queue: object) -> None:
            kept.retention.change(SHORT)
            await really_fill(queue)  # type: ignore[arg-type]

        room._fill = then_it_is_shorter  # type: ignore[method-assign]
        first = await room.take(64, 10**9)
        assert (first.segments, first.why) == (0, None), "it is asked again"
        assert nothing_and_why([await room.take(64, 10**9)])
        assert not any([await kept.is_gone(each) for each in segments])


@jumping
async def test_a_camera_without_at_most_waits_for_nobody(tmp_path: Path) -> None:
    async with opened(tmp_path) as rig:
        await rig.recorded(0)
        kept = keeping(rig, Policy(default=Rule(desired=30 * DAY), per_camera={}))
        assert [each.why for each in await taken(kept)] == [NOTHING_LEFT] * 2


async def test_a_daemons_room_asks_its_retention(tmp_path: Path) -> None:
    (tmp_path / "recordings").mkdir()
    async with assembled(settings_of(tmp_path, {}), SystemClock()) as parts:
        upkeep = parts.upkeep
        assert upkeep.capacity.keeper._parts.ageing.unweighed == upkeep.retention.unweighed
