"""Keeping room: looks at every volume, sounds what people should know, and lets go what may go, in stages.

A job looks every few seconds and deletes nothing. A duty does, one volume after the other, in small batches
with a look at the disk after each: bytes count as freed when statvfs(2) says so. What frees nothing is not
gone on with, and a disk that is not the right one, or read-only, is left alone.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

from cctv_storaged.alarms import AlarmName, Alarms
from cctv_storaged.bringing import Bringing
from cctv_storaged.capacity.ageing import Ageing, AgeingParts
from cctv_storaged.capacity.early import EarlyPruning
from cctv_storaged.capacity.givingup import GivingUp
from cctv_storaged.capacity.levels import Level, Limits, Marks, judged, marks
from cctv_storaged.capacity.rates import Rates
from cctv_storaged.capacity.stages import (
    FIRST_BATCH,
    NOTHING_LEFT,
    USELESS_BATCHES,
    Stage,
    Taken,
    expired_before,
    next_batch,
    shortened_before,
    told,
    was_useful,
)
from cctv_storaged.capacity.tally import Take, Tally
from cctv_storaged.capacity.telling import Circumstances, Waiting, full_text, low_text
from cctv_storaged.capacity.volumes import Looks, Place, Use, Volume
from cctv_storaged.clock import Clock
from cctv_storaged.errors import BackendError, JournalFull
from cctv_storaged.journal.deletions import Cause
from cctv_storaged.journal.journal import Journal
from cctv_storaged.metrics import Metrics
from cctv_storaged.prune import Pruner
from cctv_storaged.retention.rules import Policy

log = logging.getLogger(__name__)

LOOK_S = 10.0
AGAIN_S = 60.0
"""After a round that did not make enough room the next one begins so much later."""
ANEW_S = 3600.0
"""What was left alone is considered again after so long."""
SETTLE_S = 35.0
"""Some file systems give room back a while after the last name of a file has gone: Btrfs with its next
commit, every 30 seconds."""
SETTLE_STEP_S = 1.0
SEEN, SEEN_S, SEEN_FROM_S = 61, 60.0, 600.0
"""How often, how much and after how long what a disk's free room really did is told."""
NO_DISK = "the disk is away or read-only"
USELESS = (
    f"{USELESS_BATCHES} batches in a row freed nothing, the log tells why; it is tried again within the hour"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the settings say of room."""

    places: tuple[Place, ...]
    limits: Limits
    gives_up: bool  # on_full
    links: bool  # a store on a source's disk holds links of it: its bytes are there once
    policy: Policy


class Cache(Protocol):
    """Files of our own that can be made again."""

    async def shrink(self, by_bytes: int) -> int:
        """Removes so many bytes, or all; how many went."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomParts:
    """What keeping room works with."""

    journal: Journal
    pruner: Pruner
    giving_up: GivingUp
    deliveries: Sequence[Bringing]
    caches: Sequence[Cache]  # on data_dir's disk
    store_backend: str | None  # the backend whose store is a folder
    rates: Rates
    guard: Callable[[frozenset[str]], str | None]  # why nothing may be deleted in these folders: a wrong disk
    clock: Clock
    distrust: Callable[[], str | None]  # why ages mean nothing now
    ageing: AgeingParts
    metrics: Metrics
    alarms: Alarms
    looks: Looks = field(default_factory=Looks)


@dataclass(slots=True, kw_only=True)
class Standing:
    """How things stand with one volume."""

    volume: Volume
    marks: Marks
    rate: float | None  # bytes per second recorded onto it
    level: Level = Level.WELL
    reasons: tuple[tuple[Stage, str], ...] = ()  # why the last round ended short of its aim
    early: EarlyPruning | None = None
    seen: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=SEEN))
    """Free bytes at times (monotonic), one a minute, over the last hour."""
    useless: dict[Stage, float] = field(default_factory=dict)  # until when (monotonic) they are not tried
    anew_at: float = 0.0  # monotonic
    again_at: float = 0.0  # monotonic
    was_writable: bool = False

    def forget_failures(self) -> None:
        """Things are others now: what was of no use may be."""
        self.again_at = self.anew_at = 0.0
        self.useless.clear()

    def remember(self, now_s: float) -> None:
        if not self.seen or now_s - self.seen[-1][0] >= SEEN_S:
            self.seen.append((now_s, self.volume.facts.free_bytes))

    @property
    def fill_rate(self) -> float | None:
        """Bytes per second by which the volume really filled; None before there is anything to tell from."""
        if not self.seen or self.seen[-1][0] - self.seen[0][0] < SEEN_FROM_S:
            return None
        (first_s, first), (last_s, last) = self.seen[0], self.seen[-1]
        return (first - last) / (last_s - first_s)

    @property
    def needs(self) -> bool:
        return self.level >= Level.CLEAN and not self.volume.facts.read_only


class RoomKeeper:
    """`look` by the schedule, `run` all the time."""

    def __init__(self, parts: RoomParts, plan: Plan) -> None:
        self._parts = parts
        self._plan = plan
        self._standings: dict[str, Standing] = {}
        self._wake = asyncio.Event()

    @property
    def standings(self) -> tuple[Standing, ...]:
        """Every volume that could be looked at last."""
        return tuple(self._standings.values())

    @property
    def plan(self) -> Plan:
        return self._plan

    def change(self, plan: Plan) -> None:
        """Other settings from now on; the folders stay."""
        self._plan = replace(plan, places=self._plan.places)
        for standing in self._standings.values():
            standing.forget_failures()

    async def look(self) -> None:
        """One look at every volume; wakes whoever makes room."""
        await self._parts.rates.take_in(self._parts.clock.now())
        volumes = await self._parts.looks.at(self._plan.places)
        self._standings = {volume.name: self._stood(volume) for volume in volumes}
        for standing in self._standings.values():
            self._tell(standing)
        self._end_other_alarms()
        now = self._parts.clock.monotonic()
        if any(each.needs and now >= each.again_at for each in self._standings.values()):
            self._wake.set()

    async def run(self) -> None:
        """Makes room whenever a look shows a need; goes on with what was begun, at once and every hour."""
        while True:
            recovered = await self._passing(self.recover)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ANEW_S if recovered else AGAIN_S):
                    await self._wake.wait()
            if self._wake.is_set():
                self._wake.clear()
                await self.make_room()

    async def make_room(self) -> None:
        """One round over every volume in need, all at a time: a disk that is slow keeps no other waiting."""
        now = self._parts.clock.monotonic()
        due = [each for each in self._standings.values() if each.needs and now >= each.again_at]
        async with asyncio.TaskGroup() as rounds:
            for standing in due:
                standing.again_at = now + AGAIN_S
                rounds.create_task(self._passing(partial(self._clear, standing)))

    async def recover(self) -> None:
        """What was begun to be given up and came to no end: by an earlier process, or on a disk now away."""
        await self._parts.giving_up.recover()

    async def _passing(self, action: Callable[[], Awaitable[object]]) -> bool:
        """Whether it came to its end; what is away now is there another time."""
        try:
            await action()
        except (BackendError, JournalFull, OSError) as exc:
            log.warning("making room is put off: %s", exc)
            return False
        return True

    # Looking

    def _stood(self, volume: Volume) -> Standing:
        rate = self._rate(volume)
        found = marks(self._plan.limits, volume.facts.total_bytes, rate)
        standing = self._standings.get(volume.name)
        if standing is None:
            standing = Standing(volume=volume, marks=found, rate=rate)
        elif standing.volume.facts.read_only and not volume.facts.read_only:
            self._parts.pruner.try_folders_again()
            standing.forget_failures()
        standing.volume, standing.marks, standing.rate = volume, found, rate
        standing.level = judged(standing.level, volume.facts.free_bytes, found)
        standing.remember(self._parts.clock.monotonic())
        standing.was_writable |= not volume.facts.read_only
        return standing

    def _rate(self, volume: Volume) -> float | None:
        """Bytes per second recorded onto a volume; None while nobody can tell.

        A store gets what all roots record, but for what it only links.
        """
        if self._parts.distrust() is not None:
            return None
        now, rates = self._parts.clock.now(), self._parts.rates
        all_roots = frozenset(place.path for place in self._plan.places if place.use is Use.ROOT)
        found = [rates.of_roots(volume.roots, now)]
        if volume.holds(Use.STORE):
            copied = all_roots - volume.roots if self._plan.links else all_roots
            found.append(rates.of_roots(copied, now))
        known = [rate for rate in found if rate is not None]
        return sum(known) if known else None

    def _tell(self, standing: Standing) -> None:
        alarms, volume = self._parts.alarms, standing.volume
        for place in volume.places:
            self._parts.metrics.disk_total.labels(place.path).set(volume.facts.total_bytes)
        if standing.level >= Level.LOW:
            text = low_text(standing.level, volume.facts, standing.marks, standing.rate)
            alarms.sound(AlarmName.DISK_LOW, volume.name, text)
        else:
            alarms.end(AlarmName.DISK_LOW, volume.name)
        if standing.level < Level.EMERGENCY:
            alarms.end(AlarmName.DISK_FULL, volume.name)
        if volume.facts.read_only and (standing.was_writable or standing.level >= Level.CLEAN):
            text = "it is mounted read-only: recorders cannot write and nothing can be removed; remount it rw"
            alarms.sound(AlarmName.READ_ONLY, volume.name, text)
        else:
            alarms.end(AlarmName.READ_ONLY, volume.name)

    def _end_other_alarms(self) -> None:
        """Of volumes that are not there any more."""
        names = frozenset(self._standings)
        for name in (AlarmName.DISK_LOW, AlarmName.DISK_FULL, AlarmName.READ_ONLY):
            self._parts.alarms.keep_only(name, names)

    # Making room

    async def _clear(self, standing: Standing) -> None:
        reasons: list[tuple[Stage, str]] = []
        folders = frozenset(place.path for place in standing.volume.places)
        text = low_text(standing.level, standing.volume.facts, standing.marks, standing.rate)
        log.info("making room on %s: %s", standing.volume.name, text)
        names, tally = (
            {each.id: each.name for _, each in await self._parts.journal.capacity.cameras()},
            Tally(),
        )
        try:
            async for stage, take in self._stages(standing):
                counted = tally.counting(stage, take)
                why = self._parts.guard(folders) or await self._go_through(standing, stage, counted)
                if why is None:
                    standing.again_at = 0.0
                    break
                reasons.append((stage, why))
        finally:
            tally.tell(standing.volume.name, names)
        standing.reasons = tuple(reasons)
        await self._look_again(standing)
        if standing.level == Level.EMERGENCY:
            await self._sound_full(standing, reasons)
        elif standing.level >= Level.CLEAN:
            log.warning("not enough room on %s: %s", standing.volume.name, told(reasons))
        self._tell(standing)

    async def _stages(self, standing: Standing) -> AsyncIterator[tuple[Stage, Take]]:
        """What to go through while there is not enough room; the last only at the last level."""
        volume, parts = standing.volume, self._parts
        if volume.holds(Use.DATA):
            yield Stage.CACHES, self._shrink
        if volume.roots:
            yield Stage.EARLY, self._early(standing).take
        if volume.holds(Use.STORE) and parts.store_backend is not None:
            yield Stage.EXPIRED, self._ageing(Stage.EXPIRED).take
            yield Stage.SHORTENED, self._ageing(Stage.SHORTENED).take
        await self._look_again(standing)
        if volume.roots and self._plan.gives_up and standing.level == Level.EMERGENCY:
            yield Stage.GIVEN_UP, parts.giving_up.round(volume.roots).take

    async def _go_through(self, standing: Standing, stage: Stage, take: Take) -> str | None:
        """One stage, until there is enough room (None), or why it ended."""
        if self._parts.clock.monotonic() < standing.useless.get(stage, 0.0):
            return USELESS
        size, useless = FIRST_BATCH, 0
        while True:
            if not await self._look_again(standing) or standing.volume.facts.read_only:
                return NO_DISK
            before = standing.volume.facts.free_bytes
            need = self._aim(standing, stage) - before
            if need <= 0:
                return None
            started = self._parts.clock.monotonic()
            taken = await take(size, need)
            if taken.why is not None and not taken.segments:
                return taken.why
            if not taken.segments:
                continue  # it looks through what stays, slice by slice
            if taken.bytes and await self._freed(standing, before, taken.bytes, started):
                size, useless = next_batch(size), 0
            else:
                size, useless = FIRST_BATCH, useless + 1
                log.warning(
                    "%s: %d segments freed nothing on %s", stage, taken.segments, standing.volume.name
                )
            if useless == USELESS_BATCHES:
                standing.useless[stage] = self._parts.clock.monotonic() + ANEW_S
                return USELESS
            await self._pause(standing, started)

    def _aim(self, standing: Standing, stage: Stage) -> int:
        found = standing.marks
        return found.rescued_bytes if stage is Stage.GIVEN_UP else found.cleaned_bytes

    async def _freed(self, standing: Standing, before: int, expected: int, started: float) -> bool:
        """Whether the disk shows it, now or a moment later."""
        for _ in range(round(SETTLE_S / SETTLE_STEP_S)):
            if not await self._look_again(standing):
                return False
            elapsed = self._parts.clock.monotonic() - started
            recorded = (standing.rate or 0.0) * elapsed
            if was_useful(expected, before, standing.volume.facts.free_bytes, recorded):
                return True
            await asyncio.sleep(SETTLE_STEP_S)
        return False

    async def _pause(self, standing: Standing, started: float) -> None:
        """The recorder has the disk at least half of the time, but in an emergency."""
        if standing.level < Level.EMERGENCY:
            await asyncio.sleep(self._parts.clock.monotonic() - started)

    async def _look_again(self, standing: Standing) -> bool:
        """The volume as it is now; False where it is away."""
        volumes = await self._parts.looks.at(standing.volume.places)
        now = next((each for each in volumes if each.facts.device == standing.volume.facts.device), None)
        if now is None:
            return False
        standing.volume = replace(standing.volume, facts=now.facts)
        standing.level = judged(standing.level, now.facts.free_bytes, standing.marks)
        self._standings[standing.volume.name] = standing
        return True

    async def _shrink(self, most: int, need_bytes: int) -> Taken:
        gone = 0
        for cache in self._parts.caches:
            gone += await cache.shrink(need_bytes - gone)
        return Taken(1, gone) if gone else Taken(0, 0, NOTHING_LEFT)

    def _early(self, standing: Standing) -> EarlyPruning:
        now, volume = self._parts.clock.monotonic(), standing.volume
        if standing.early is None:
            standing.early = EarlyPruning(
                self._parts.journal.capacity,
                self._parts.pruner,
                self._parts.clock,
                volume.roots,
                store_beside=volume.holds(Use.STORE),
            )
        if now >= standing.anew_at:
            standing.early.begin_anew()
            standing.anew_at = now + ANEW_S
        return standing.early

    def _ageing(self, stage: Stage) -> Ageing:
        expired = stage is Stage.EXPIRED
        return Ageing(
            self._parts.ageing,
            self._parts.store_backend or "",
            lambda: self._plan.policy,
            cutoff=expired_before if expired else shortened_before,
            cause=Cause.EXPIRED if expired else Cause.SHORTENED,
            by_priority=not expired,
        )

    # Telling

    async def _sound_full(self, standing: Standing, reasons: Sequence[tuple[Stage, str]]) -> None:
        text = full_text(
            standing.volume.facts, standing.rate, told(reasons), await self._circumstances(standing.volume)
        )
        self._parts.alarms.sound(AlarmName.DISK_FULL, standing.volume.name, text)

    async def _circumstances(self, volume: Volume) -> Circumstances:
        waiting = []
        for delivery in self._parts.deliveries:
            backlog = await self._parts.journal.copies.backlog(delivery.name)
            waiting.append(
                Waiting(
                    backend=delivery.name,
                    segments=backlog.segments,
                    bytes=backlog.bytes,
                    failed=backlog.failed,
                    gaps=backlog.gaps,
                    trouble=delivery.trouble,
                )
            )
        rules = [
            (each, self._plan.policy.rule_for(each))
            for _, each in await self._parts.journal.capacity.cameras()
        ]
        return Circumstances(
            waiting=tuple(waiting),
            prunes=self._parts.pruner.rules.enabled,
            gives_up=self._plan.gives_up,
            store_here=volume.holds(Use.STORE),
            unsaid=tuple(each.name for each, rule in rules if rule.at_least is None and rule.desired is None),
        )
