"""What each failure of a backend does to the segment, to the others, to the breaker, and to who looks on."""

import asyncio
import hashlib
import time
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from cctv_storaged.clock import rfc3339
from cctv_storaged.delivery import Delivery, turns
from cctv_storaged.events import EventKind
from cctv_storaged.journal.copies import Retried
from cctv_storaged.model import Segment
from tests.fakes.scripted_backend import (
    Call,
    Forgets,
    LostAnswer,
    Mismatch,
    Odd,
    Ok,
    Op,
    Outcome,
    Rejected,
    ScriptedBackend,
    Spoils,
    Throttled,
    Unavailable,
)
from tests.services.jumping import eventually, jumping, passing
from tests.services.rig import Rig, opened

HOUR = timedelta(hours=1)
AT_ONCE = ("auth", "bucket", "clock", "space")


def objects_are_what_they_say(backend: ScriptedBackend) -> bool:
    """Every object has the hash that its metadata and its name tell."""
    return all(
        hashlib.sha256(data).hexdigest() == backend.metadata[path]["sha256"]
        and hashlib.sha256(data).hexdigest()[:12] in path
        for path, data in backend.objects.items()
    )


async def delivered(rig: Rig, *segments: Segment) -> None:
    await eventually(lambda: rig.all_verified(*segments), "all verified")


def says(delivery: Delivery, reason: str) -> bool:
    """The reason, with the failure's own sentence behind it."""
    return (delivery.trouble or "").startswith(f"{reason}: ")


@jumping
async def test_a_segment_is_put_under_a_name_that_says_its_content_and_told(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        data = rig.write(0)
        segment = await rig.register(0)
        delivery = rig.delivery(backend, prefix="nvr/")
        async with rig.delivering(delivery):
            await delivered(rig, segment)

        digest = hashlib.sha256(data).hexdigest()
        copy = await rig.copy(segment)
        assert backend.objects == {copy.path: data}
        assert copy.path == (
            f"nvr/{segment.camera_id}/2026/11/01/00/20261101T000000.000000Z_1000_{digest[:12]}.ts"
        )
        assert copy.attempts == 0
        source = segment.source
        assert segment.stream is not None
        assert backend.metadata[copy.path] == {
            "segment-id": str(segment.id),
            "host": rig.journal.host_id,
            "camera": str(segment.camera_id),
            "start": "2026-11-01T00:00:00Z",
            "end": "2026-11-01T00:00:01Z",
            "sha256": digest,
            "size": str(len(data)),
            "flags": " ".join(sorted(segment.flags)),
            "created": rfc3339(segment.created_at),
            "codec": "h264",
            "stream": f"{segment.stream.ticks}-{segment.stream.fingerprint.hex()}",
            "root": source.root,
            "path": source.path,
            "mtime": str(source.identity.mtime_ns),
        }
        assert (await rig.segment(segment)).sha256 == bytes.fromhex(digest)
        assert [each.id for each in rig.delivered] == [segment.id]
        [event] = rig.told(EventKind.COPY)
        assert (event.segment_id, event.backend, event.state) == (segment.id, "S3", "verified")
        assert rig.metric("storage_segments_stored_total", backend="S3", mode="LOCAL") == 1
        assert rig.metric("storage_delivery_seconds_count", backend="S3") == 1


@jumping
async def test_a_backend_that_is_away_for_hours_costs_no_attempts_and_one_alarm(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        backend.then(Op.PROBE, Ok())
        backend.always(Unavailable("network"))
        segments = [await rig.recorded(number) for number in range(5)]
        delivery = rig.delivery(backend)
        async with rig.delivering(delivery):
            await eventually(lambda: says(delivery, "network"), "the breaker opens")
            assert rig.metric("storage_backend_up", backend="S3") == 0
            await passing(3 * HOUR)
            assert backend.count(Op.PUT) < 3 * 3600 / 10, "it is left alone but for a try now and then"
            assert len(rig.alerts()) == 1
            arrived_meanwhile = await rig.recorded(100)
            backend.recover()
            await delivered(rig, *segments, arrived_meanwhile)

        assert delivery.trouble is None
        assert rig.metric("storage_backend_up", backend="S3") == 1
        assert [("away" in text, "again" in text) for text in rig.alerts()] == [(True, False), (False, True)]
        for segment in segments:
            assert (await rig.copy(segment)).attempts == 0


@jumping
async def test_what_a_store_says_goes_to_nobody_with_a_secret_in_it(tmp_path: Path) -> None:
    """/queue, /ready and /events have it from here; the log stars for itself."""
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        backend.then(Op.PROBE, Ok())
        backend.always(Unavailable("auth"))
        await rig.recorded(0)
        delivery = rig.delivery(backend, prefix="password=canary/")  # the store repeats what it was asked
        async with rig.delivering(delivery):
            await eventually(lambda: says(delivery, "auth"), "the breaker opens")
            assert "password=***" in (delivery.trouble or "")
            assert [("canary" in text, "password=***" in text) for text in rig.alerts()] == [(False, True)]


@pytest.mark.parametrize("reason", AT_ONCE)
@jumping
async def test_what_every_object_would_meet_stops_all_with_one_alarm_and_no_dead_letter(
    tmp_path: Path, reason: str
) -> None:
    """T-26: no right, no bucket, no valid clock, no room."""
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segments = [await rig.recorded(number) for number in range(6)]
        delivery = rig.delivery(backend, workers=3)
        async with rig.delivering(delivery):
            await delivered(rig, *segments)
            backend.always(Unavailable(reason))
            waiting = [await rig.recorded(number) for number in range(10, 30)]
            await eventually(lambda: says(delivery, reason), "the breaker opens")
            puts = backend.count(Op.PUT)
            assert puts - 6 < 12, "those under way and a few tries, not each of the twenty"
            await passing(2 * HOUR)
            assert backend.count(Op.PUT) - puts < 2 * 3600 / 10
            assert len(rig.alerts()) == 1
            assert (await rig.journal.copies.backlog("S3")).failed == 0
            backend.recover()
            await delivered(rig, *waiting)
        assert {(await rig.copy(segment)).attempts for segment in waiting} == {0}


@jumping
async def test_one_timeout_does_not_stop_the_others(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segments = [await rig.recorded(number) for number in range(4)]
        backend.then(Op.PUT, Unavailable("network"), Unavailable("network"))
        async with rig.delivering(rig.delivery(backend)):
            await delivered(rig, *segments)
        assert rig.alerts() == []
        assert backend.count(Op.PUT) == 6


@jumping
async def test_an_object_the_backend_refuses_waits_alone_until_a_human_helps(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        odd, *others = [await rig.recorded(number) for number in range(5)]
        backend.rule = lambda call: Rejected() if call.segment_id == str(odd.id) else Ok()
        delivery = rig.delivery(backend)
        async with rig.delivering(delivery):
            await delivered(rig, *others)
            assert delivery.trouble is None
            copy = await rig.copy(odd)
            assert copy.state == "pending"
            assert copy.attempts >= 1
            assert "not this one" in (copy.error or "")

            async def given_up() -> bool:
                return await rig.state(odd) == "failed"

            await eventually(given_up, "it is given up")
            assert backend.puts_of(odd.id) == 20
            assert len(rig.alerts()) == 1
            await passing(HOUR)
            assert backend.puts_of(odd.id) == 20
            assert rig.source(odd).exists(), "giving up never removes anything"
            assert await rig.journal.ledger.losses() == {}

            backend.recover()
            assert await rig.journal.copies.retry_failed(None) == Retried(retried=1)
            delivery.reopen()
            await delivered(rig, odd)


@jumping
async def test_retries_of_one_object_come_further_and_further_apart(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segment = await rig.recorded(0)
        moments: list[float] = []

        def refuse(call: Call) -> Outcome:
            if call.op is not Op.PUT:
                return Ok()
            moments.append(rig.clock.monotonic())
            return Rejected()

        backend.rule = refuse
        async with rig.delivering(rig.delivery(backend)):
            await eventually(lambda: len(moments) == 20, "twenty tries")
        pauses = [later - earlier for earlier, later in pairwise(moments)]
        assert all(pause >= 0.5 for pause in pauses)
        assert max(pauses) <= 300 + 10, "never longer than five minutes"
        assert sum(pauses[10:]) > 10 * sum(pauses[:4])
        assert (await rig.copy(segment)).attempts == 19


@pytest.mark.parametrize("reason", ["network", "auth"])
@jumping
async def test_an_object_that_alone_meets_an_outage_does_not_hold_up_the_others(
    tmp_path: Path, reason: str
) -> None:
    """A proxy that cuts one upload, a right that one camera's folder lacks: that others are taken tells."""
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        poison = await rig.recorded(0)
        segments = [await rig.recorded(number) for number in range(1, 40)]
        backend.rule = lambda call: Unavailable(reason) if call.segment_id == str(poison.id) else Ok()
        delivery = rig.delivery(backend)
        async with rig.delivering(delivery):
            await delivered(rig, *segments)
            await passing(HOUR)
            tries = backend.puts_of(poison.id)
            for number in range(100, 110):
                late = await rig.recorded(number)
                before = rig.clock.monotonic()
                await delivered(rig, late)
                assert rig.clock.monotonic() - before < 10
                await passing(timedelta(minutes=1))
            await passing(HOUR)  # some thirty tries of full jitter up to 5 min; the breaker alone made 160
            assert backend.puts_of(poison.id) - tries < 75, "it waits minutes between its tries"
            copy = await rig.copy(poison)
            assert (copy.state, copy.attempts) == ("pending", 0), "it may be the network's fault after all"
            backend.recover()
            await delivered(rig, poison)
        assert len(rig.alerts()) <= 2, "at most one false alarm and its end"


@pytest.mark.parametrize(
    ("failure", "workers"), [(Unavailable(), 1), (Unavailable("auth"), 4), (Throttled(), 4)]
)
@jumping
async def test_an_urgent_segment_that_always_fails_does_not_make_an_outage_endless(
    tmp_path: Path, failure: Outcome, workers: int
) -> None:
    """It was the first in line each time that somebody had to find out whether the backend was back."""
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        poison = await rig.recorded(0, "yard")
        others = [await rig.recorded(number) for number in range(10)]
        await rig.journal.copies.urge(poison.camera_id, poison.span, None)
        backend.then(Op.PROBE, Ok())
        backend.always(failure)
        delivery = rig.delivery(backend, workers=workers)
        async with rig.delivering(delivery):
            await eventually(lambda: delivery.trouble is not None, "the outage is noticed")
            backend.rule = lambda call: failure if call.segment_id == str(poison.id) else Ok()
            await eventually(lambda: rig.all_verified(*others), "all others are delivered")
            backend.recover()
            await delivered(rig, poison)
        assert (await rig.copy(poison)).attempts == 0


@jumping
async def test_an_error_nobody_thought_of_while_the_recorder_side_looks_again_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def odd(*_: object) -> None:
        raise ZeroDivisionError

    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        changed, other = await rig.recorded(0), await rig.recorded(1)
        rig.write(0, version=1)
        monkeypatch.setattr(rig.ingest, "consider", odd)
        async with rig.delivering(rig.delivery(backend)):
            await delivered(rig, other)

            async def waits() -> bool:
                return "ZeroDivisionError" in ((await rig.copy(changed)).error or "")

            await eventually(waits, "it alone waits")


@jumping
async def test_an_error_nobody_thought_of_ends_neither_delivery_nor_the_segment(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segments = [await rig.recorded(number) for number in range(3)]
        backend.then(Op.PUT, Odd())
        backend.then(Op.VERIFY, Odd())
        async with rig.delivering(rig.delivery(backend, workers=1)):
            await delivered(rig, *segments)
        assert sorted([(await rig.copy(segment)).attempts for segment in segments]) == [0, 1, 1]


@jumping
async def test_an_odd_answer_to_the_probe_is_an_outage_and_ends_nothing(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segment = await rig.recorded(0)
        backend.always(Odd(), Op.PROBE)
        delivery = rig.delivery(backend)
        async with rig.delivering(delivery):
            await eventually(lambda: says(delivery, "server"), "it is taken for away")
            backend.recover()
            await delivered(rig, segment)


@jumping
async def test_an_answer_lost_after_storing_stores_nothing_twice(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        data = rig.write(0)
        segment = await rig.register(0)
        backend.then(Op.PUT, LostAnswer())
        async with rig.delivering(rig.delivery(backend)):
            await delivered(rig, segment)
        assert list(backend.objects.values()) == [data]
        assert (await rig.copy(segment)).attempts == 0


@jumping
async def test_what_was_stored_and_could_not_be_verified_is_not_put_again(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segment = await rig.recorded(0)
        backend.always(Unavailable(), Op.VERIFY)
        delivery = rig.delivery(backend)
        async with rig.delivering(delivery):
            await eventually(lambda: delivery.trouble is not None, "the breaker opens")
            copy = await rig.copy(segment)
            assert (copy.state, copy.attempts) == ("stored", 0)
            backend.recover()
            await delivered(rig, segment)
        assert backend.count(Op.PUT) == 1


@jumping
async def test_a_stored_copy_is_proven_after_a_restart_without_its_source(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segment = await rig.recorded(0)
        backend.always(Unavailable(), Op.VERIFY)
        delivery = rig.delivery(backend)
        async with rig.delivering(delivery):
            await eventually(lambda: delivery.trouble is not None, "the breaker opens")
    backend.recover()
    async with opened(tmp_path, backend) as rig:
        rig.source(segment).unlink()
        async with rig.delivering(rig.delivery(backend)):
            await delivered(rig, segment)
        assert backend.count(Op.PUT) == 1


@jumping
async def test_what_a_store_acknowledged_and_lost_is_put_again(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        data = rig.write(0)
        segment = await rig.register(0)
        backend.then(Op.PUT, Forgets())
        async with rig.delivering(rig.delivery(backend)):
            await delivered(rig, segment)
        assert list(backend.objects.values()) == [data]
        assert rig.metric("storage_errors_total", operation="verify", backend="S3") == 1


@jumping
async def test_what_was_lost_between_being_stored_and_being_verified_is_put_again(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        data = rig.write(0)
        segment = await rig.register(0)
        backend.then(Op.VERIFY, Unavailable(), Unavailable(), Unavailable())
        delivery = rig.delivery(backend)
        async with rig.delivering(delivery):
            await eventually(lambda: backend.count(Op.PUT) == 1, "it is put")

            async def stored() -> bool:
                return await rig.state(segment) == "stored"

            await eventually(stored, "it is stored")
            backend.objects.clear()
            await delivered(rig, segment)
        assert list(backend.objects.values()) == [data]
        assert backend.count(Op.PUT) == 2


@jumping
async def test_spoiled_bytes_are_not_overwritten_and_the_right_ones_go_beside_them(tmp_path: Path) -> None:
    """T-22: what the store spoiled is caught, delivered anew under a name of its own, and left as it is."""
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        data = rig.write(0)
        segment = await rig.register(0)
        backend.then(Op.PUT, Spoils())
        async with rig.delivering(rig.delivery(backend)):
            await delivered(rig, segment)
        copy = await rig.copy(segment)
        assert copy.path is not None
        assert backend.objects[copy.path] == data
        [spoiled] = set(backend.objects) - {copy.path}
        assert copy.path == spoiled.removesuffix(".ts") + ".1.ts"
        assert rig.source(segment).exists()
        assert copy.attempts == 1


@jumping
async def test_a_store_that_spoils_everything_is_given_up_and_the_source_stays(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segment = await rig.recorded(0)
        backend.always(Spoils(), Op.PUT)

        async def given_up() -> bool:
            return await rig.state(segment) == "failed"

        async with rig.delivering(rig.delivery(backend)):
            await eventually(given_up, "it is given up")
        assert len(backend.objects) == 3, "no more names than the spare ones"
        assert rig.source(segment).exists()
        assert len(rig.alerts()) == 1


@jumping
async def test_a_copy_that_cannot_be_proven_without_a_source_is_a_loss_and_told(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segment = await rig.recorded(0)
        backend.always(Unavailable(), Op.VERIFY)
        delivery = rig.delivery(backend)
        async with rig.delivering(delivery):
            await eventually(lambda: delivery.trouble is not None, "the breaker opens")
            rig.source(segment).unlink()
            await rig.miss(segment)
            backend.recover()
            backend.always(Mismatch(), Op.VERIFY)

            async def given_up() -> bool:
                return await rig.state(segment) == "failed"

            await eventually(given_up, "it is given up")
        cause = "copy_failed_without_source"
        assert await rig.journal.ledger.losses() == {cause: 1}
        assert rig.metric("storage_segments_lost_total", cause=cause) == 1
        assert len(rig.told(EventKind.LOST)) == 1


@jumping
async def test_one_backend_that_is_away_changes_nothing_for_another(tmp_path: Path) -> None:
    here, away = ScriptedBackend("FILESYSTEM"), ScriptedBackend("S3")
    away.always(Unavailable())
    async with opened(tmp_path, here, away) as rig:
        segments = [await rig.recorded(number) for number in range(10)]
        async with rig.delivering(rig.delivery(here), rig.delivery(away)):
            before = rig.clock.monotonic()
            await eventually(lambda: rig.all_verified(*segments, backend="FILESYSTEM"), "all are here")
            assert rig.clock.monotonic() - before < 30
            assert not away.objects
            away.recover()
            await delivered(rig, *segments)
        assert here.objects == away.objects


@jumping
async def test_a_missing_bucket_is_made_while_nothing_was_ever_delivered(tmp_path: Path) -> None:
    backend = ScriptedBackend(bucket=False)
    async with opened(tmp_path, backend) as rig:
        segment = await rig.recorded(0)
        async with rig.delivering(rig.delivery(backend)):
            await delivered(rig, segment)
        assert backend.buckets_made == 1


@jumping
async def test_a_bucket_that_held_footage_and_is_gone_is_never_hidden_by_a_new_one(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        first = await rig.recorded(0)
        async with rig.delivering(rig.delivery(backend)):
            await delivered(rig, first)
            backend.bucket = False  # while it runs
            second = await rig.recorded(1)
            await passing(HOUR)
            assert backend.buckets_made == 0
    async with opened(tmp_path, backend) as rig:  # and after a restart
        delivery = rig.delivery(backend)
        async with rig.delivering(delivery):
            await eventually(lambda: says(delivery, "bucket"), "it says what is wrong")
            await passing(HOUR)
            assert backend.buckets_made == 0
            assert len(rig.alerts()) == 1
            backend.bucket = True  # the operator's doing
            await delivered(rig, second)
        assert (await rig.copy(second)).attempts == 0


@jumping
async def test_a_put_in_hand_when_the_process_ends_is_simply_pending_again(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segments = [await rig.recorded(number) for number in range(3)]
        hold = backend.hold(Op.PUT)
        async with rig.delivering(rig.delivery(backend)):
            await hold.reached.wait()
        hold.release()
        assert [await rig.state(segment) for segment in segments] == ["pending"] * 3
    async with opened(tmp_path, backend) as rig:
        async with rig.delivering(rig.delivery(backend)):
            await delivered(rig, *segments)
        assert objects_are_what_they_say(backend)


async def test_a_segment_offered_while_the_journal_is_asked_does_not_wait_for_the_next_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In real time: the wake that came during the question was forgotten; the next look is a minute off."""
    monkeypatch.setattr(turns, "IDLE_S", turns.LONGEST_WAIT_S)
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig, rig.delivering(rig.delivery(backend)):
        for number in range(60):
            await rig.recorded(number)
            offered = time.monotonic()
            while backend.count(Op.PUT) <= number:
                await asyncio.sleep(0)
                assert time.monotonic() - offered < turns.LONGEST_WAIT_S / 2
