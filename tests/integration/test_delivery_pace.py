"""When delivery puts, and how much at once: throttling, window, rate, stop, full journal, after an outage."""

import asyncio
import contextlib
import resource
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from cctv_storaged.backends.filesystem import FilesystemBackend, FilesystemSettings
from cctv_storaged.breaker import REFUSALS
from cctv_storaged.config import TimeWindow
from cctv_storaged.delivery.turns import MARKING
from cctv_storaged.model import Segment
from cctv_storaged.pacing import ByteBudget
from tests.fakes.scripted_backend import (
    Call,
    Forgets,
    Ok,
    Op,
    Outcome,
    Rejected,
    ScriptedBackend,
    Throttled,
    Unavailable,
)
from tests.services.jumping import eventually, jumping, passing
from tests.services.rig import Rig, opened

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


async def many(rig: Rig, count: int, first: int = 0) -> list[Segment]:
    """So many segments, registered together; in the order of their times."""
    for number in range(first, first + count):
        rig.write(number)
    await asyncio.gather(*(rig.register(number) for number in range(first, first + count)))
    return sorted(rig.registered[-count:], key=lambda segment: segment.span)


# Throttling


@jumping
async def test_a_backend_that_throttles_is_given_less_and_no_segment_pays_for_it(tmp_path: Path) -> None:
    """T-25: every second answer is SlowDown for ten minutes."""
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segments = await many(rig, 40)
        turn = 0

        def every_second(call: Call) -> Outcome:
            nonlocal turn
            turn += call.op is Op.PUT
            return Throttled() if call.op is Op.PUT and turn % 2 else Ok()

        backend.rule = every_second
        delivery = rig.delivery(backend, workers=8)
        async with rig.delivering(delivery):
            await eventually(lambda: turn >= 4, "it is throttled")
            backend.most_at_once = 0
            await eventually(lambda: rig.all_verified(*segments), "all are delivered all the same")
            assert backend.most_at_once <= 4, "half of eight, or less"
            assert delivery.trouble is None, "asking for a slower pace is no outage"
            assert {(await rig.copy(segment)).attempts for segment in segments} == {0}
            assert rig.alerts() == []

            backend.recover()
            await passing(10 * MINUTE)
            hold = backend.hold(Op.PUT)
            await many(rig, 20, first=100)
            await eventually(lambda: hold.waiting == 8, "the full pace is back")
            hold.release()


@jumping
async def test_a_pause_the_backend_asks_for_is_kept(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segments = await many(rig, 5)
        backend.then(Op.PUT, Throttled(retry_after_s=45.0))
        async with rig.delivering(rig.delivery(backend, workers=1)):
            await eventually(lambda: backend.count(Op.PUT) == 1, "it is told")
            told = rig.clock.monotonic()
            while backend.count(Op.PUT) == 1:
                await passing(timedelta(milliseconds=100))
            assert rig.clock.monotonic() - told >= 43
            await eventually(lambda: rig.all_verified(*segments), "all delivered")


@jumping
async def test_nothing_but_throttling_for_long_is_an_outage_and_told(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        await many(rig, 5)
        backend.always(Throttled(), Op.PUT)
        delivery = rig.delivery(backend)
        async with rig.delivering(delivery):
            await eventually(
                lambda: (delivery.trouble or "").startswith("throttled: "), "it is called what it is"
            )
            await passing(HOUR)
            assert len(rig.alerts()) == 1
            assert (await rig.journal.copies.backlog("S3")).failed == 0


@jumping
async def test_a_store_that_refuses_everything_is_asked_seldom_and_no_segment_pays_for_it(
    tmp_path: Path,
) -> None:
    """It answers, and takes nothing: what is put again and again would take the recorder's disk and CPU."""
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segments = await many(rig, 40)
        backend.always(Rejected(), Op.PUT)
        async with rig.delivering(rig.delivery(backend)):
            await eventually(lambda: backend.count(Op.PUT) >= REFUSALS, "it refuses")
            await passing(5 * MINUTE)
            assert backend.count(Op.PUT) < 3 * REFUSALS
            assert sum([(await rig.copy(each)).attempts for each in segments]) <= REFUSALS + 1
            backend.recover()
            back = rig.clock.monotonic()
            [newest] = await many(rig, 1, first=100)
            await eventually(lambda: rig.all_verified(newest), "the newest is delivered")
            assert rig.clock.monotonic() - back < 120
            await eventually(lambda: rig.all_verified(*segments), "all are delivered")


@jumping
async def test_copies_that_a_store_lost_are_proven_and_put_anew_without_a_pause(tmp_path: Path) -> None:
    """They go before fresh footage, which would wait for every pause; that one is missing is no refusal."""
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segments = await many(rig, 4 * REFUSALS)
        async with rig.delivering(rig.delivery(backend)):
            await eventually(lambda: rig.all_verified(*segments), "all are delivered")
        backend.objects.clear()
        for each in segments:
            await rig.journal.copies.doubt(each.id, "S3", "not there")
        delivery = rig.delivery(backend)
        seen_as_refusing: list[bool] = []

        def noted(call: Call) -> Outcome:
            seen_as_refusing.append(delivery._turns.refuses_all)
            return Ok()

        backend.rule = noted
        async with rig.delivering(delivery):
            segments += await many(rig, 1, first=1000)
            await eventually(lambda: rig.all_verified(*segments), "all are delivered, the fresh one as well")
        assert len(seen_as_refusing) > 2 * len(segments)
        assert not any(seen_as_refusing)


@jumping
async def test_no_segment_pays_for_a_store_that_keeps_nothing_of_what_it_acknowledges(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segments = await many(rig, REFUSALS + 8)
        backend.always(Forgets(), Op.PUT)
        async with rig.delivering(rig.delivery(backend)):
            await eventually(lambda: backend.count(Op.PUT) >= REFUSALS, "it keeps nothing")
            await passing(5 * MINUTE)
            assert sum([(await rig.copy(each)).attempts for each in segments]) <= REFUSALS + 1
            backend.recover()
            await eventually(lambda: rig.all_verified(*segments), "all are delivered")


# Window


@jumping
async def test_outside_its_window_nothing_is_put_and_what_waited_goes_when_it_opens(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:  # it is midnight
        segments = await many(rig, 5)
        window = TimeWindow.parse("02:00-03:00")
        async with rig.delivering(rig.delivery(backend, window=window)):
            await passing(HOUR)
            arrived = await many(rig, 3, first=100)
            await passing(0.9 * HOUR)
            assert backend.count(Op.PUT) == 0
            await passing(0.2 * HOUR)
            await eventually(lambda: rig.all_verified(*segments, *arrived), "all delivered")
            assert window.contains(rig.clock.now())
            await passing(HOUR)
            puts = backend.count(Op.PUT)
            late = await many(rig, 2, first=200)
            await passing(2 * HOUR)
            assert backend.count(Op.PUT) == puts
            assert not await rig.all_verified(*late)


@jumping
async def test_a_window_given_up_by_sighup_opens_at_once(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segments = await many(rig, 2)
        delivery = rig.delivery(backend, window=TimeWindow.parse("12:00-13:00"))
        async with rig.delivering(delivery):
            await passing(MINUTE)
            assert backend.count(Op.PUT) == 0
            delivery.change(window=None, newest_share=0.5)
            await eventually(lambda: rig.all_verified(*segments), "all delivered")
            assert rig.clock.now().hour == 0


# Rate


@jumping
async def test_the_rate_limit_is_kept_to_on_average(tmp_path: Path) -> None:
    """By the time that the pauses add up to: no test should wait for a slow line."""
    folder = tmp_path / "store"
    folder.mkdir()
    rate = 200_000.0
    passed = 0.0

    def sleep(seconds: float) -> None:
        nonlocal passed
        passed += seconds

    budget = ByteBudget(rate, monotonic=lambda: passed, sleep=sleep)
    backend = FilesystemBackend(FilesystemSettings(path=str(folder), link=False))
    async with opened(tmp_path, backend, budget=budget) as rig:
        segments = await many(rig, 20)
        size = sum(segment.size_bytes for segment in segments)
        async with rig.delivering(rig.delivery(backend, workers=1)):
            await eventually(lambda: rig.all_verified(*segments, backend="FILESYSTEM"), "all delivered")
        await backend.close()
    assert size / rate - 1.5 <= passed <= size / rate + 0.5, f"{size} bytes at {rate} a second"


# Stop


@jumping
async def test_draining_waits_for_what_is_in_hand_and_takes_no_more(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        await many(rig, 10)
        hold = backend.hold(Op.PUT)
        delivery = rig.delivery(backend, workers=3)
        async with rig.delivering(delivery):
            await eventually(lambda: hold.waiting == 3, "three are in hand")
            draining = asyncio.create_task(delivery.drain(3600))
            await passing(MINUTE)
            assert not draining.done()
            hold.release()
            await draining
            await passing(MINUTE)
            assert backend.count(Op.PUT) == 3
        states = sorted([await rig.state(segment) for segment in rig.registered])
        assert states == ["pending"] * 7 + ["verified"] * 3


@jumping
async def test_draining_ends_at_its_deadline(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        await many(rig, 2)
        hold = backend.hold(Op.PUT)
        delivery = rig.delivery(backend)
        async with rig.delivering(delivery):
            await hold.reached.wait()
            before = rig.clock.monotonic()
            await delivery.drain(20)
            assert 20 <= rig.clock.monotonic() - before < 40


# The journal


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process can grow: SQLite gets EFBIG, as it would with a quota."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@jumping
async def test_a_full_journal_loses_no_result_and_puts_nothing_twice(tmp_path: Path) -> None:
    """T-15: what was put is marked when there is room, and meanwhile nobody puts on and on."""
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segments = await many(rig, 30)
        async with rig.delivering(rig.delivery(backend)):
            with full_disk():
                await eventually(lambda: rig.journal.full, "the journal finds out")
                puts = backend.count(Op.PUT)
                await passing(MINUTE)  # with a try of the journal each second
                assert backend.count(Op.PUT) <= puts + 2
                assert {await rig.state(segment) for segment in segments} == {"pending"}
            await eventually(lambda: rig.all_verified(*segments), "all are marked")
        assert backend.count(Op.PUT) == 30
        assert {(await rig.copy(segment)).attempts for segment in segments} == {0}


@jumping
async def test_a_journal_full_of_its_own_accord_does_not_stop_delivery_for_good(tmp_path: Path) -> None:
    """Somebody else's commit found no room while delivery was idle; nobody but delivery commits again."""
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segments = await many(rig, 3)
        with full_disk(), pytest.raises(Exception, match="journal"):
            await rig.journal.copies.urge(segments[0].camera_id, segments[0].span, None)
        assert rig.journal.full
        async with rig.delivering(rig.delivery(backend)):
            await eventually(lambda: rig.all_verified(*segments), "all delivered")
        assert not rig.journal.full


@jumping
async def test_commits_are_shared_while_puts_go_on(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segments = await many(rig, 200)
        commits = rig.commits
        async with rig.delivering(rig.delivery(backend, workers=4)):
            await eventually(lambda: rig.all_verified(*segments), "all delivered")
        assert rig.commits - commits < 100, "a put does not wait for the commit of the one before"


# After an outage


@jumping
async def test_after_an_outage_the_newest_come_first_and_none_is_left(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        order: list[str] = []

        def noted(call: Call) -> Outcome:
            if call.op is Op.PUT:
                order.append(call.segment_id)
            return Ok()

        backend.then(Op.PROBE, Ok())
        backend.always(Unavailable())
        delivery = rig.delivery(backend, workers=2, newest_share=0.3)
        async with rig.delivering(delivery):
            segments = await many(rig, 600)
            await eventually(lambda: delivery.trouble is not None, "the outage is noticed")
            await passing(3 * HOUR)
            backend.rule = noted
            recovered = rig.clock.monotonic()
            await eventually(lambda: bool(order), "somebody tries")
            assert rig.clock.monotonic() - recovered <= 60, "a recovered backend does not wait long"
            await eventually(lambda: rig.all_verified(*segments), "all delivered")
        newest = [str(segment.id) for segment in segments[-10:]]
        assert {order.index(each) for each in newest} <= set(range(40)), "the newest among the first"
        assert sorted(order) == sorted(str(segment.id) for segment in segments), "each of them once"


@jumping
async def test_no_more_than_a_bounded_number_waits_for_its_commit(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        await many(rig, 3 * MARKING)
        async with rig.delivering(rig.delivery(backend, workers=2)):
            with full_disk():
                await eventually(lambda: rig.journal.full, "the journal finds out")
                await passing(MINUTE)  # with a try of the journal each second
                assert backend.count(Op.PUT) <= MARKING + 2
