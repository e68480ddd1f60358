"""The forecast as it is now: measured rates, rules and disks put together. Reads only."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from cctv_storaged.capacity.forecast import DAY_S, Stream, Wish, full_in_s, kept_s
from cctv_storaged.capacity.room import RoomKeeper, RoomParts, Standing
from cctv_storaged.capacity.volumes import Use
from cctv_storaged.journal.cameras import CameraFootage
from cctv_storaged.model import CopyState
from cctv_storaged.retention.rules import Rule

EVERY_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeForecast:
    """One volume, and for how long it lasts."""

    standing: Standing
    rate: float  # bytes per second recorded onto it, over the last day
    expiring: float  # bytes per second that go by their age
    days_left: float  # infinity: it is never full


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraForecast:
    """What a camera keeps once its volume is full."""

    camera_id: UUID
    name: str
    rate: float  # bytes per second over the last day
    rule: Rule
    kept_days: float  # infinity: nothing ends it

    def meets(self, limit: timedelta | None) -> bool | None:
        """Whether it keeps as much; None where nothing was asked for."""
        return None if limit is None else self.kept_days >= limit / timedelta(days=1) * (1 - 1e-6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """All of a host."""

    at: datetime
    rate_factor: float
    volumes: tuple[VolumeForecast, ...]
    cameras: tuple[CameraForecast, ...]


class Forecasting:
    """Makes forecasts from what the room keeper measured."""

    def __init__(self, room: RoomKeeper, parts: RoomParts) -> None:
        self._room = room
        self._parts = parts
        self.latest: Forecast | None = None
        """As `refresh` made it last."""

    async def refresh(self) -> None:
        """Sets the metric."""
        self.latest = await self.now()
        for each in self.latest.volumes:
            for place in each.standing.volume.places:
                self._parts.metrics.disk_days_left.labels(place.path).set(each.days_left)

    async def now(self, rate_factor: float = 1.0) -> Forecast:
        """As things are, or as they would be if all recorded so many times as much."""
        if not self._room.standings:
            await self._room.look()
        now = self._parts.clock.now()
        footage = await self._parts.journal.cameras.all(now)
        volumes = [await self._volume(each, footage, now, rate_factor) for each in self._room.standings]
        cameras = await self._cameras(footage, now, rate_factor)
        return Forecast(at=now, rate_factor=rate_factor, volumes=tuple(volumes), cameras=tuple(cameras))

    async def _volume(
        self, standing: Standing, footage: Sequence[CameraFootage], now: datetime, factor: float
    ) -> VolumeForecast:
        sources = self._source_lifetime()
        backends = [each.name for each in self._parts.deliveries]
        oldest = await self._parts.journal.capacity.oldest_source(backends)
        source_age_s = 0.0 if oldest is None else max(0.0, (now - oldest).total_seconds())
        streams = []
        for each in footage:
            kept, passing = self._rates_onto(standing, each.camera.id, now)
            at_most = self._room.plan.policy.rule_for(each.camera).at_most
            streams.append(Stream(rate=kept * factor, age_s=_age_s(each, now), lifetime_s=_seconds(at_most)))
            lifetime_s = _seconds(min(filter(None, (sources, at_most)), default=None))
            streams.append(Stream(rate=passing * factor, age_s=source_age_s, lifetime_s=lifetime_s))
        free = standing.volume.facts.free_bytes
        return VolumeForecast(
            standing=standing,
            rate=sum(each.rate for each in streams),
            expiring=sum(each.expiring for each in streams),
            days_left=full_in_s(free, streams) / DAY_S,
        )

    def _rates_onto(self, standing: Standing, camera_id: UUID, now: datetime) -> tuple[float, float]:
        """Bytes per second of a camera that come onto a volume to be kept, and on their way elsewhere."""
        volume, rates = standing.volume, self._parts.rates
        here = rates.of_camera(camera_id, volume.roots, now)
        if not volume.holds(Use.STORE):
            return 0.0, here
        everywhere = rates.of_camera(camera_id, None, now)
        return everywhere, 0.0 if self._room.plan.links else here

    def _source_lifetime(self) -> timedelta | None:
        """How long a source stays; None: for as long as nobody takes it, or for longer than anybody knows."""
        rules = self._parts.pruner.rules
        required = (each for each in self._parts.deliveries if each.name in rules.required)
        if not rules.enabled or any(each.trouble is not None for each in required):
            return None
        return max(rules.grace, rules.keep)

    async def _cameras(
        self, footage: Sequence[CameraFootage], now: datetime, factor: float
    ) -> list[CameraForecast]:
        policy, rates = self._room.plan.policy, self._parts.rates
        rules = [policy.rule_for(each.camera) for each in footage]
        wishes = [
            _wish(rule, rates.of_camera(each.camera.id, None, now) * factor)
            for each, rule in zip(footage, rules, strict=True)
        ]
        capacity = await self._capacity_bytes()
        kept = [each.longest_s for each in wishes] if capacity is None else kept_s(capacity, wishes)
        return [
            CameraForecast(
                camera_id=each.camera.id,
                name=each.camera.name,
                rate=wish.rate,
                rule=rule,
                kept_days=length / DAY_S,
            )
            for each, rule, wish, length in zip(footage, rules, wishes, kept, strict=True)
        ]

    async def _capacity_bytes(self) -> float | None:
        """How much footage the store's volume holds at most; None where the store is no folder of ours."""
        stores = [each for each in self._room.standings if each.volume.holds(Use.STORE)]
        if not stores or self._parts.store_backend is None:
            return None
        stored = sum(
            tally.bytes
            for tally in await self._parts.journal.copies.tallies()
            if tally.backend == self._parts.store_backend
            and tally.state in (CopyState.STORED, CopyState.VERIFIED)
        )
        return float(max(0, stored + stores[0].volume.facts.free_bytes - stores[0].marks.clean_bytes))


def days_or_none(days: float) -> float | None:
    """For JSON, which knows no infinity."""
    return None if math.isinf(days) else days


def _age_s(footage: CameraFootage, now: datetime) -> float:
    return 0.0 if footage.footage is None else max(0.0, (now - footage.footage.start).total_seconds())


def _seconds(limit: timedelta | None) -> float | None:
    return None if limit is None else limit.total_seconds()


def _wish(rule: Rule, rate: float) -> Wish:
    return Wish(
        rate=rate,
        at_least_s=_seconds(rule.at_least),
        desired_s=_seconds(rule.desired),
        at_most_s=_seconds(rule.at_most),
        priority=rule.priority,
    )
