"""Room on a volume: what goes for it, in which order, and what never does."""

import asyncio
import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cctv_storaged.alarms import AlarmName, Alarms
from cctv_storaged.backends.filesystem import FilesystemBackend, FilesystemSettings
from cctv_storaged.capacity.levels import Level, Limit, Limits
from cctv_storaged.capacity.opening import CapacityNeeds, open_capacity
from cctv_storaged.capacity.room import Plan, RoomKeeper
from cctv_storaged.capacity.volumes import Looks, places_of
from cctv_storaged.config import Retention, RetentionRule
from cctv_storaged.events import EventKind
from cctv_storaged.guarding.roots import UNGUARDED
from cctv_storaged.model import Segment
from cctv_storaged.prune import Pruner
from cctv_storaged.retention.rules import policy_of
from tests.fakes.scripted_backend import Op, ScriptedBackend, Unavailable
from tests.services.jumping import eventually, jumping
from tests.services.rig import DAY, Rig, opened
from tests.services.smalldisk import SmallDisk, looking, unlinks_below

FILE = 100_000
NEVER = timedelta(0)
LIMITS = Limits(warn=Limit(0.5, NEVER), clean=Limit(0.3, NEVER), emergency=Limit(0.1, NEVER))
ONE_FILE = Limits(warn=Limit(0.5, NEVER), clean=Limit(0.05, NEVER), emergency=Limit(0.01, NEVER))
ORDINARY = RetentionRule(at_least=3 * DAY, desired=6 * DAY, at_most=30 * DAY)
RULES = Retention(default=ORDINARY)


@dataclass(slots=True, kw_only=True)
class Room:
    """A rig whose disks are small."""

    rig: Rig
    keeper: RoomKeeper
    pruner: Pruner
    alarms: Alarms
    distrust: list[str]
    wrong: list[str]

    async def made(self) -> None:
        """One look, and a round where it shows a need."""
        await self.keeper.look()
        await self.keeper.make_room()

    async def left(self, segments: Sequence[Segment]) -> list[int]:
        return await room_left(self.rig, segments)

    def sources(self, segments: Sequence[Segment]) -> list[int]:
        return [at for at, each in enumerate(segments) if self.rig.source(each).exists()]

    def sounding(self, name: AlarmName) -> str | None:
        return next((alarm.text for alarm in self.alarms.standing if alarm.name is name), None)


async def room_left(rig: Rig, segments: Sequence[Segment]) -> list[int]:
    """The places, in the list, of those that the journal still knows."""
    found = [await rig.journal.segments.by_id(each.id) for each in segments]
    return [at for at, each in enumerate(found) if each is not None]


def room_of(
    rig: Rig,
    *disks: SmallDisk,
    rules: Retention = RULES,
    gives_up: bool = False,
    store: Path | None = None,
    limits: Limits = LIMITS,
    pruner: Pruner | None = None,
    holds_unknown: str | None = None,
) -> Room:
    alarms, pruner = Alarms(rig.metrics, rig.hub, rig.clock), pruner or rig.pruner()
    distrust: list[str] = []
    wrong: list[str] = []
    places = places_of([str(rig.recordings)], None if store is None else str(store), "/no/data")
    plan = Plan(places=places, limits=limits, gives_up=gives_up, links=True, policy=policy_of(rules))
    needs = CapacityNeeds(
        journal=rig.journal,
        pruner=pruner,
        remover=rig.remover(),
        deliveries=tuple(rig.deliveries),
        caches=(),
        guard=lambda folders: wrong[0] if wrong else None,
        roots=UNGUARDED,
        clock=rig.clock,
        distrust=lambda: distrust[0] if distrust else None,
        holds_unknown=lambda: holds_unknown,
        metrics=rig.metrics,
        hub=rig.hub,
        alarms=alarms,
        plan=plan,
        store_backend=None if store is None else "FILESYSTEM",
        looks=Looks(looking(*disks)),
    )
    return Room(
        rig=rig,
        keeper=open_capacity(needs).keeper,
        pruner=pruner,
        alarms=alarms,
        distrust=distrust,
        wrong=wrong,
    )


async def recorded(rig: Rig, count: int, camera: str = "gate", first: int = 0) -> list[Segment]:
    """So many of FILE bytes each."""
    return [await rig.recorded(number, camera, size_bytes=FILE) for number in range(first, first + count)]


async def delivered(rig: Rig, segments: Sequence[Segment], backend: Any) -> None:
    async with rig.delivering(rig.delivery(backend, workers=1, newest_share=0.0)):
        await eventually(lambda: rig.all_verified(*segments, backend=backend.name), "all verified")


def disk_of(rig: Rig, files: float, *more: Path) -> SmallDisk:
    """With room for so many files."""
    return SmallDisk(round(files * (FILE + 100)), (rig.recordings, *more))


# Stage 1: sources that are verified elsewhere


@jumping
async def test_sources_verified_elsewhere_go_early_and_only_until_there_is_room(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segments = await recorded(rig, 10)
        await delivered(rig, segments, backend)
        room = room_of(rig, disk_of(rig, 12))
        await room.made()
        # 2 of 12 are free; until 1.5 × 30 % are
        assert room.sources(segments) == [4, 5, 6, 7, 8, 9], "the oldest went, and no more than needed"
        assert await room.left(segments) == list(range(10)), "no copy went"
        assert rig.metric("storage_sources_pruned_total") == 4
        assert await rig.journal.ledger.losses() == {}
        assert room.sounding(AlarmName.DISK_FULL) is None


@jumping
async def test_nothing_goes_above_the_level_at_which_cleaning_begins(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segments = await recorded(rig, 6)
        await delivered(rig, segments, backend)
        room = room_of(rig, disk_of(rig, 10))
        with unlinks_below(rig.recordings) as unlinks:
            await room.made()
        assert unlinks.names == []
        assert "4" in (room.sounding(AlarmName.DISK_LOW) or "")


@pytest.mark.parametrize("reason", ["held", "pinned", "undelivered", "forgotten", "wrong disk", "never"])
@jumping
async def test_what_somebody_needs_stays_whatever_the_room(tmp_path: Path, reason: str) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segments = await recorded(rig, 2)
        await delivered(rig, segments, backend)
        segments += await recorded(rig, 1, first=2)
        if reason != "undelivered":
            await delivered(rig, segments, backend)
        kept = segments[2 if reason == "undelivered" else 0]
        room = room_of(rig, disk_of(rig, 3.1), pruner=rig.pruner(enabled=reason != "never"))
        everything = reason in ("wrong disk", "never")
        if reason == "held":
            await rig.hold(kept)
        elif reason == "forgotten":
            path = (await rig.copy(kept)).path
            del backend.objects[path or ""]
        elif reason == "wrong disk":
            room.wrong.append("another disk is mounted there")
        with unlinks_below(rig.recordings) as unlinks:
            if reason == "pinned":
                with room.pruner.pins.reading(kept.id):
                    await room.made()
            else:
                await room.made()
        assert rig.path_of(segments.index(kept)).split("/", 1)[1] not in {
            name.split("/", 1)[1] for name in unlinks.names
        }
        assert unlinks.names == [] if everything else len(unlinks.names) == 2


@jumping
async def test_a_backend_that_is_away_lets_nothing_go_and_the_alarm_says_what_would_help(
    tmp_path: Path,
) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segments = await recorded(rig, 2)
        await delivered(rig, segments, backend)
        segments += await recorded(rig, 2, first=2)
        backend.always(Unavailable())
        room = room_of(rig, disk_of(rig, 4.1))
        with unlinks_below(tmp_path) as unlinks:
            for _ in range(3):
                await room.made()
                rig.clock.advance(timedelta(minutes=2))
        assert [name for name in unlinks.names if name.startswith("recordings")] == []
        text = room.sounding(AlarmName.DISK_FULL) or ""
        assert "S3 cannot be asked" in text and "2 segments" in text and "on_full" in text
        backend.recover()
        room.keeper.change(room.keeper.plan)
        await room.made()
        assert room.sources(segments) == [2, 3]
        assert room.sounding(AlarmName.DISK_FULL) is None, "there is more room than the last level asks for"


@jumping
async def test_links_of_what_the_store_holds_are_left_as_they_free_nothing(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    backend = FilesystemBackend(FilesystemSettings(path=str(store)))
    async with opened(tmp_path, backend) as rig:
        segments = await recorded(rig, 3)
        await delivered(rig, segments, backend)
        assert all(rig.source(each).stat().st_nlink == 2 for each in segments)
        room = room_of(rig, disk_of(rig, 3.1, store), store=store)
        await room.made()
        assert room.sources(segments) == [0, 1, 2], "the rule promises three days, and they are younger"
        assert "free nothing" in (room.sounding(AlarmName.DISK_FULL) or "")
        rig.clock.advance(3 * DAY)
        room.keeper.change(room.keeper.plan)
        await room.made()
        assert await room.left(segments) == [2], "then source and copy go together, and no more than needed"
        assert room.sources(segments) == [2]
        await backend.close()


# Stages 2 and 3: delivered segments of a store on the volume


@jumping
async def test_expired_goes_before_promised_and_low_priority_before_high(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "cctv_storaged.capacity.tally")
    store = tmp_path / "store"
    store.mkdir()
    backend = FilesystemBackend(FilesystemSettings(path=str(store), link=False))
    rules = Retention(
        default=ORDINARY,
        per_camera={
            "low": RetentionRule(at_least=DAY, desired=9 * DAY, priority="low"),
            "high": RetentionRule(at_least=DAY, desired=9 * DAY, priority="high"),
        },
    )
    async with opened(tmp_path, backend) as rig:
        high = await recorded(rig, 2, "high", first=0)
        low = await recorded(rig, 2, "low", first=2)
        gate = await recorded(rig, 2, "gate", first=4)
        segments = [*high, *low, *gate]
        await delivered(rig, segments, backend)
        rig.clock.advance(6 * DAY)  # gate is past what it desires
        order: list[str] = []
        while len(order) < len(segments):
            before = await room_left(rig, segments)
            await room_of(rig, nearly_full(store), store=store, rules=rules, limits=ONE_FILE).made()
            left = await room_left(rig, segments)
            order += [names(at) for at in before if at not in left]
        assert order == ["gate0", "gate1", "low0", "low1", "high0", "high1"]
        causes = await ledger_causes(rig)
        assert causes == {"capacity_expired": 2, "capacity_shortened": 4}
        told = [each for each in caplog.records if each.name == "cctv_storaged.capacity.tally"]
        assert [vars(each)["cause"] for each in told] == ["capacity_expired"] * 2 + ["capacity_shortened"] * 4
        assert [vars(each)["count"] for each in told] == [1] * 6, "a round took no more"
        assert "camera gate: 1 segments went" in told[0].message, "each round says what it took of whom"
        assert vars(told[0])["size_bytes"] == gate[0].size_bytes and vars(told[0])["camera_id"] == str(
            gate[0].camera_id
        )
        assert await rig.journal.ledger.losses() == {}
        await backend.close()


@jumping
async def test_a_rule_that_is_made_longer_in_the_middle_of_a_round_saves_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGHUP, by somebody who sees what goes for room: nothing more goes by the shorter rule."""
    store = tmp_path / "store"
    store.mkdir()
    backend = FilesystemBackend(FilesystemSettings(path=str(store), link=False))
    async with opened(tmp_path, backend) as rig:
        segments = await recorded(rig, 8)
        await delivered(rig, segments, backend)
        rig.clock.advance(6 * DAY)
        disk = nearly_full(store)
        disk.beside_bytes = disk.free_bytes + 8 * FILE  # none of it is enough
        room = room_of(rig, disk, store=store, limits=ONE_FILE)
        remover = room.keeper._parts.ageing.remover
        really_delete = remover.delete_many

        async def then_it_is_longer(*args: Any) -> list[Segment]:
            gone = await really_delete(*args)
            longer = Retention(default=RetentionRule(at_least=90 * DAY))
            room.keeper.change(replace(room.keeper.plan, policy=policy_of(longer)))
            return gone

        monkeypatch.setattr(remover, "delete_many", then_it_is_longer)
        await room.made()
        assert await room.left(segments) == [1, 2, 3, 4, 5, 6, 7], "the first batch alone"
        await backend.close()


def nearly_full(folder: Path) -> SmallDisk:
    """A disk where one file has to go."""
    disk = SmallDisk(10 * FILE, (folder,), device=2)
    disk.beside_bytes = disk.free_bytes - FILE // 5
    return disk


def names(at: int) -> str:
    return ("high0", "high1", "low0", "low1", "gate0", "gate1")[at]


async def ledger_causes(rig: Rig) -> dict[str, int]:
    query = "SELECT cause, count(*) FROM ledger WHERE kind = 'deleted' GROUP BY cause"
    return await rig.journal._store.read(lambda db: dict(db.execute(query).fetchall()))


@jumping
async def test_a_clock_that_cannot_be_trusted_lets_nothing_go_by_its_age(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    backend = FilesystemBackend(FilesystemSettings(path=str(store), link=False))
    async with opened(tmp_path, backend) as rig:
        segments = await recorded(rig, 2)
        await delivered(rig, segments, backend)
        rig.clock.advance(400 * DAY)
        room = room_of(rig, nearly_full(store), store=store)
        room.distrust.append("the wall clock jumped by 400 days")
        with unlinks_below(tmp_path) as unlinks:
            await room.made()
        assert [name for name in unlinks.names if name.endswith(".ts")] == []
        assert await room.left(segments) == [0, 1]
        assert "jumped" in (room.sounding(AlarmName.DISK_FULL) or "")
        await backend.close()


@jumping
async def test_what_is_held_or_needed_by_an_export_is_passed_over(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    backend = FilesystemBackend(FilesystemSettings(path=str(store), link=False))
    async with opened(tmp_path, backend) as rig:
        segments = await recorded(rig, 4)
        await delivered(rig, segments, backend)
        rig.clock.advance(40 * DAY)
        await rig.hold(segments[0])
        room = room_of(rig, nearly_full(store), store=store, limits=ONE_FILE)
        with room.pruner.pins.exporting(frozenset({segments[1].id})):
            await room.made()
        assert await room.left(segments) == [0, 1, 3]
        await backend.close()


# Stage 4: what nobody holds but this disk


@jumping
async def test_refusing_keeps_all_that_is_undelivered_however_full_it_is(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segments = await recorded(rig, 4)
        rig.delivery(backend)
        room = room_of(rig, disk_of(rig, 4))
        with unlinks_below(rig.recordings) as unlinks:
            await room.made()
            rig.clock.advance(400 * DAY)
            room.keeper.change(room.keeper.plan)
            await room.made()
        assert unlinks.names == [] and room.sources(segments) == [0, 1, 2, 3]
        assert "delete_oldest_undelivered" in (room.sounding(AlarmName.DISK_FULL) or "")
        assert await rig.journal.ledger.losses() == {}


@jumping
async def test_a_journal_that_may_have_forgotten_holds_gives_nothing_up(tmp_path: Path) -> None:
    """It was damaged, and the store that knows of them is away: which is why the disk is full."""
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segments = await recorded(rig, 4)
        rig.delivery(backend)
        room = room_of(rig, disk_of(rig, 4), gives_up=True, holds_unknown="the journal was damaged")
        with unlinks_below(rig.recordings) as unlinks:
            await room.made()
        assert unlinks.names == []
        assert room.sources(segments) == [0, 1, 2, 3]
        assert "the journal was damaged" in (room.sounding(AlarmName.DISK_FULL) or "")


@jumping
@pytest.mark.parametrize("gives_up", [False, True])
async def test_a_gap_in_xprotect_is_undelivered_it_stays_or_is_given_up_as_the_settings_say(
    tmp_path: Path, gives_up: bool
) -> None:
    backend = ScriptedBackend("MILESTONE")
    async with opened(tmp_path, backend) as rig:
        segments = await recorded(rig, 4)
        rig.delivery(backend)
        ids = [each.id for each in segments]
        missed = await rig.journal.vouched.gap("MILESTONE", ids, "not held", "lost", rig.clock.now())
        assert missed.gaps == tuple(ids)
        room = room_of(rig, disk_of(rig, 4), gives_up=gives_up, limits=ONE_FILE)
        with unlinks_below(rig.recordings) as unlinks:
            await room.made()
        if gives_up:
            assert unlinks.names == [rig.path_of(0)], "the oldest, and no more than needed"
            assert await rig.journal.ledger.losses() == {"disk_full": 1}
        else:
            assert unlinks.names == [], "nobody but this disk has it"
            assert "the 4 segments that it does not hold" in (room.sounding(AlarmName.DISK_FULL) or "")


@jumping
async def test_giving_up_loses_the_oldest_undelivered_and_tells_each(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segments = await recorded(rig, 10)
        rig.delivery(backend)
        await rig.hold(segments[0])
        await rig.journal.copies.failed(segments[2].id, "S3", "refused for good")
        room = room_of(rig, disk_of(rig, 10), gives_up=True)
        with room.pruner.pins.reading(segments[1].id), unlinks_below(rig.recordings) as unlinks:
            await room.made()
        assert unlinks.names == [rig.path_of(number) for number in (2, 3)], "1.5 times 10 % of 10 files"
        assert await rig.journal.ledger.losses() == {"disk_full": 2}
        assert rig.metric("storage_segments_lost_total", cause="disk_full") == 2
        assert [event.segment_id for event in rig.told(EventKind.LOST)] == [each.id for each in segments[2:4]]
        assert "given up" in (room.sounding(AlarmName.AT_LEAST) or ""), "three days were promised"
        assert room.sounding(AlarmName.DISK_FULL) is None
        assert [(await rig.segment(each)).source_state for each in segments[2:4]] == ["missing"] * 2
        assert await rig.state(segments[3]) == "failed", "there is nothing left to deliver"


@jumping
async def test_nothing_is_given_up_before_the_last_level_nor_while_anything_else_may_go(
    tmp_path: Path,
) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        first = await recorded(rig, 5)
        await delivered(rig, first, backend)
        undelivered = await recorded(rig, 5, first=5)
        room = room_of(rig, disk_of(rig, 10), gives_up=True)
        await room.made()
        assert room.sources(undelivered) == [0, 1, 2, 3, 4]
        assert await rig.journal.ledger.losses() == {}
        await recorded(rig, 4, first=10)  # above the last level, below cleaning
        room.keeper.change(room.keeper.plan)
        await room.made()
        assert room.sources(undelivered) == [0, 1, 2, 3, 4]
        assert await rig.journal.ledger.losses() == {}


@jumping
async def test_bytes_that_may_have_reached_the_backend_are_not_given_up(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        [segment] = await recorded(rig, 1)
        backend.always(Unavailable(), Op.VERIFY)
        delivery = rig.delivery(backend)
        async with rig.delivering(delivery):
            await eventually(lambda: delivery.trouble is not None, "stored, not verified")
        assert await rig.state(segment) == "stored"
        room = room_of(rig, disk_of(rig, 1), gives_up=True)
        await room.made()
        assert room.sources([segment]) == [0]
        assert "nothing is left" in (room.sounding(AlarmName.DISK_FULL) or "")


@pytest.mark.parametrize("gone", [True, False])
@jumping
async def test_a_kill_while_giving_up_ends_as_a_loss_that_is_told_or_as_a_source_that_stays(
    tmp_path: Path, *, gone: bool
) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        [segment] = await recorded(rig, 1)
        assert [each.id for each in await rig.journal.capacity.begin_giving_up([segment.id])] == [segment.id]
        if gone:
            rig.source(segment).unlink()
    async with opened(tmp_path, backend) as rig:
        await rig.pruner().recover()
        assert (await rig.segment(segment)).source_state == "pruning", "no business of pruning"
        rig.delivery(backend)
        duty = asyncio.create_task(room_of(rig, disk_of(rig, 9)).keeper.run())
        expected = "missing" if gone else "present"

        async def is_decided() -> bool:
            return (await rig.segment(segment)).source_state == expected

        await eventually(is_decided, "decided at the start")
        duty.cancel()
        await asyncio.gather(duty, return_exceptions=True)
        assert await rig.journal.ledger.losses() == ({"disk_full": 1} if gone else {})


@jumping
async def test_a_hold_that_is_not_marked_yet_forbids_giving_up_and_pruning(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segments = await recorded(rig, 2)
        await delivered(rig, segments[:1], backend)
        await rig.journal._store.write(
            lambda db: db.executescript(
                """INSERT INTO hold (no, id, reason, created_us, start_us, end_us)
                        VALUES (1, randomblob(16), 'x', 0, 0, 1 << 62);
                   INSERT INTO hold_camera SELECT no, 1 FROM camera;"""
            )
        )
        assert await rig.journal.capacity.begin_giving_up([each.id for each in segments]) == []
        assert not await rig.journal.sources.begin_pruning(segments[0].id, ["S3"])


# A disk that does not let go


@jumping
async def test_batches_that_free_nothing_end_a_stage_for_an_hour(tmp_path: Path) -> None:
    """Somebody has the files open, say, or their blocks are shared."""
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segments = await recorded(rig, 20)
        await delivered(rig, segments, backend)
        room = room_of(rig, SmallDisk(10 * FILE, (rig.recordings,), beside_bytes=10 * FILE))
        for _ in range(5):
            await room.made()
            rig.clock.advance(timedelta(minutes=2))
        assert len(room.sources(segments)) == 20 - 3 * 4
        assert "freed nothing" in (room.sounding(AlarmName.DISK_FULL) or "")


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EIO])
@jumping
async def test_a_disk_that_refuses_is_not_asked_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    backend = ScriptedBackend()
    tried: list[object] = []

    def refuse(*names: object, **_: object) -> None:
        tried.append(names)
        raise OSError(number, os.strerror(number))

    async with opened(tmp_path, backend) as rig:
        segments = await recorded(rig, 30)
        await delivered(rig, segments, backend)
        room = room_of(rig, disk_of(rig, 30))
        with monkeypatch.context() as patch:
            patch.setattr(os, "unlink", refuse)
            for _ in range(5):
                await room.made()
        assert 0 < len(tried) <= 3 * 4 and room.sources(segments) == list(range(30))
        assert await rig.journal.sources.unfinished() == []
        assert "freed nothing" in (room.sounding(AlarmName.DISK_FULL) or "")


@jumping
async def test_a_disk_that_turns_read_only_stops_all_cleaning_with_an_alarm_until_it_is_writable(
    tmp_path: Path,
) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segments = await recorded(rig, 10)
        await delivered(rig, segments, backend)
        disk = disk_of(rig, 12)
        disk.read_only = True
        room = room_of(rig, disk)
        with unlinks_below(rig.recordings) as unlinks:
            await room.made()
            await room.made()
        assert unlinks.names == []
        assert "remount" in (room.sounding(AlarmName.READ_ONLY) or "")
        disk.read_only = False
        await room.made()
        assert room.sources(segments) == [4, 5, 6, 7, 8, 9], "at once, whatever was tried before"
        assert room.sounding(AlarmName.READ_ONLY) is None


@jumping
async def test_a_disk_that_is_away_has_no_level_and_no_alarm_of_room(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        await recorded(rig, 3)
        disk = disk_of(rig, 3)
        room = room_of(rig, disk)
        await room.made()
        assert room.sounding(AlarmName.DISK_FULL) is not None
        disk.away = True
        await room.made()
        assert room.keeper.standings == ()
        assert room.sounding(AlarmName.DISK_FULL) is None and room.sounding(AlarmName.DISK_LOW) is None


# Time left


@jumping
async def test_room_is_made_when_little_time_is_left_though_the_share_is_fine(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segments = await recorded(rig, 4)
        await delivered(rig, segments, backend)
        rig.clock.advance(timedelta(minutes=-59) - DAY + timedelta(hours=1, minutes=30))
        limits = Limits(
            warn=Limit(0.01, DAY), clean=Limit(0.01, timedelta(hours=1)), emergency=Limit(0.0, NEVER)
        )
        room = room_of(rig, disk_of(rig, 5), limits=limits)
        await room.keeper.look()
        [standing] = room.keeper.standings
        assert standing.rate is not None and standing.level is Level.CLEAN
        room.distrust.append("the clock jumped")
        await room.keeper.look()
        [standing] = room.keeper.standings
        assert standing.rate is None and standing.marks.clean_bytes == round(
            0.01 * standing.marks.total_bytes
        )


# The duty


@jumping
async def test_a_look_wakes_whoever_makes_room(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segments = await recorded(rig, 10)
        await delivered(rig, segments, backend)
        room = room_of(rig, disk_of(rig, 12))
        duty = asyncio.create_task(room.keeper.run())
        try:
            await room.keeper.look()

            async def is_done() -> bool:
                return room.sources(segments) == [4, 5, 6, 7, 8, 9]

            await eventually(is_done, "room was made")
        finally:
            duty.cancel()
            await asyncio.gather(duty, return_exceptions=True)
