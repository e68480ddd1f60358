"""Alarms of what nobody else tells, on a whole host: begin, end, event, log, metric, /ready.

The looks are made by the test, and its clock tells them how much time lies between: nothing waits for any.
"""

import logging
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from cctv_storaged import watching
from cctv_storaged.alarms import AlarmName
from cctv_storaged.clock import SystemClock
from cctv_storaged.events import Event, EventKind, Listener
from cctv_storaged.guarding.identity import NAME
from cctv_storaged.model import SourceState, camera_id_for
from cctv_storaged.watchkeeping.rounds import EVERY_S
from tests.footage import cached_ts
from tests.integration.api.harness import Host, path_of, running, until
from tests.services.ports import kept_port

GATE = camera_id_for("nvr-test", "gate")
EVERY = timedelta(seconds=20)
"""From segment to segment."""


@dataclass
class SetClock:
    """The host's clocks and what the test adds to each."""

    wall: timedelta = timedelta(0)
    passed_s: float = 0.0

    def now(self) -> datetime:
        return datetime.now(UTC) + self.wall + timedelta(seconds=self.passed_s)

    def monotonic(self) -> float:
        return SystemClock().monotonic() + self.passed_s


def recorded(host: Host, start: datetime, camera: str = "gate", *, off: timedelta = timedelta(0)) -> None:
    """A closed file of two seconds that begins then by its name, and by its time so much later."""
    path = host.recordings / camera / f"{start:%Y-%m-%d}" / f"{start:%H-%M-%S}.ts"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    shutil.copyfile(cached_ts(seconds=2.0), part)
    closed = (start + timedelta(seconds=2) + off).timestamp()
    os.utime(part, (closed, closed))
    part.rename(path)


async def with_history(host: Host, segments: int = 8) -> datetime:
    """A camera that recorded a segment every 20 seconds until now; when its last begins."""
    last = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=2)
    for number in range(segments):
        recorded(host, last - number * EVERY)
    host.watch()
    await until_registered(host, segments)
    return last


async def until_registered(host: Host, segments: int) -> None:
    async def there() -> bool:
        found = await host.journal.cameras.all(datetime.now(UTC))
        return sum(each.segments for each in found) >= segments

    await until(there)


async def look(host: Host, clock: SetClock, lasting: timedelta = timedelta(seconds=EVERY_S)) -> None:
    """Looks as often as the schedule does in so much time."""
    for _ in range(round(lasting.total_seconds() / EVERY_S)):
        clock.passed_s += EVERY_S
        await host.parts.upkeep.watchkeeping.run_once()


def sounding(host: Host, name: AlarmName) -> dict[str, str]:
    """Subjects and texts."""
    return {
        alarm.subject: alarm.text for alarm in host.parts.foundation.alarms.standing if alarm.name is name
    }


@contextmanager
def listening(host: Host) -> Iterator[Listener]:
    with host.parts.foundation.hub.listen() as listener:
        yield listener


def alerts(listener: Listener, name: AlarmName) -> list[tuple[str | None, UUID | None]]:
    """States and cameras of the alerts of that name so far."""
    events = list[Event]()
    while not listener.queue.empty():
        events.append(listener.queue.get_nowait())
    return [
        (event.state, event.camera_id)
        for event in events
        if event.kind is EventKind.ALERT and (event.detail or "").startswith(f"{name}:")
    ]


async def gauge(host: Host, series: str) -> float | None:
    lines = (await host.get("/metrics")).body.decode().splitlines()
    return next((float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"{series} ")), None)


async def test_a_silent_camera_is_told_everywhere_and_so_is_its_next_segment(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = SetClock()
    async with running(tmp_path, clock=clock) as host:
        last = await with_history(host)
        await look(host, clock, timedelta(seconds=10))
        with caplog.at_level(logging.WARNING), listening(host) as listener:
            await look(host, clock, timedelta(seconds=90))  # and the time that this takes
            assert sounding(host, AlarmName.CAMERA_SILENT) == {}
            await look(host, clock, timedelta(seconds=40))
            assert set(sounding(host, AlarmName.CAMERA_SILENT)) == {str(GATE)}
            assert "{gate: 0}" in sounding(host, AlarmName.CAMERA_SILENT)[str(GATE)]
            assert await gauge(host, 'storage_alarms{alarm="camera_silent"}') == 1
            age = await gauge(host, f'storage_segment_age_seconds{{camera_id="{GATE}"}}')
            assert age is not None and 120 < age <= 160
            ready = await host.get("/ready")
            assert ready.status in (200, 503) and "camera_silent" in ready.body.decode()
            assert f"ALARM camera_silent, {GATE}" in caplog.text
            assert {getattr(each, "camera_id", None) for each in caplog.records} >= {str(GATE)}

            recorded(host, last + timedelta(seconds=1))
            await until_registered(host, 9)
            await look(host, clock)
            assert sounding(host, AlarmName.CAMERA_SILENT) == {}
            assert f"alarm over: camera_silent, {GATE}" in caplog.text
            assert alerts(listener, AlarmName.CAMERA_SILENT) == [("on", GATE), ("off", GATE)]


async def test_a_camera_said_to_be_silent_or_without_history_is_none_that_is(tmp_path: Path) -> None:
    clock = SetClock()
    async with running(tmp_path, {"alerts": {"silent_after": {"ga*": "0s"}}}, clock) as host:
        await with_history(host)
        recorded(host, datetime.now(UTC) - timedelta(seconds=5), "new")
        await until_registered(host, 9)
        await look(host, clock, timedelta(hours=1))
        assert sounding(host, AlarmName.CAMERA_SILENT) == {}
        host.parts.upkeep.apply(host.settings.model_copy(update={"alerts": type(host.settings.alerts)()}))
        await look(host, clock)
        assert set(sounding(host, AlarmName.CAMERA_SILENT)) == {str(GATE)}, "a reload takes the word back"


async def test_the_silence_of_a_camera_outlasts_its_footage(tmp_path: Path) -> None:
    clock = SetClock()
    async with running(tmp_path, {"alerts": {"silent_after": {"*": "1s"}}}, clock) as host:
        await host.registered(camera=GATE)
        host.deliver()
        host.watch()
        [segment] = (await host.get(f"/segments/{GATE}")).json["segments"]
        await host.delivered(segment)
        series = f'storage_segment_age_seconds{{camera_id="{GATE}"}}'
        await look(host, clock, timedelta(seconds=30))
        host.parts.upkeep.watchkeeping._parts.cameras._hearing.of(UUID(int=1))  # heard, and not read yet
        assert set(sounding(host, AlarmName.CAMERA_SILENT)) == {str(GATE)}
        assert await gauge(host, series) is not None
        await host.delete(path_of(segment))
        await host.parts.remover.run_once()

        async def gone() -> bool:
            await look(host, clock)
            return not await host.journal.cameras.with_footage()

        await until(gone)
        await look(host, clock)
        assert set(sounding(host, AlarmName.CAMERA_SILENT)) == {str(GATE)}, "it is as dead as before"
        assert await gauge(host, series) is not None


async def test_neither_a_clock_that_is_set_nor_a_sleep_makes_a_camera_silent(tmp_path: Path) -> None:
    clock = SetClock()
    async with running(tmp_path, clock=clock) as host:
        await with_history(host)
        await look(host, clock)
        clock.wall += timedelta(days=400)
        await look(host, clock)
        assert sounding(host, AlarmName.UNDELIVERED) == {}, "while the clock is in doubt nothing is late"
        clock.wall -= timedelta(days=800)
        await look(host, clock)
        clock.wall = timedelta(0)
        clock.passed_s += 86_400  # and nobody looked
        await look(host, clock)
        assert sounding(host, AlarmName.CAMERA_SILENT) == {}


async def test_of_a_root_that_is_away_no_camera_is_said_to_be_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "DUTY", 1.0)  # a slow scan does not put off the next for a minute
    clock = SetClock()
    recorders = [{"path": str(tmp_path / "recordings"), "scan_interval": "200ms"}]
    async with running(tmp_path, {"recorders": recorders}, clock) as host:
        await with_history(host)
        await look(host, clock, timedelta(seconds=100))
        host.recordings.rename(tmp_path / "elsewhere")
        watch = host.parts.watches[0]

        async def away() -> bool:
            return watch.away

        await until(away)
        await look(host, clock, timedelta(hours=1))
        assert sounding(host, AlarmName.CAMERA_SILENT) == {}
        (tmp_path / "elsewhere").rename(host.recordings)

        async def back() -> bool:
            return not watch.away

        await until(back)
        await look(host, clock, timedelta(seconds=100))
        assert sounding(host, AlarmName.CAMERA_SILENT) == {}, "it is given its time anew"
        await look(host, clock, timedelta(seconds=60))
        assert set(sounding(host, AlarmName.CAMERA_SILENT)) == {str(GATE)}


async def test_of_a_root_on_another_disk_no_camera_is_said_to_be_silent(tmp_path: Path) -> None:
    clock = SetClock()
    async with running(tmp_path, clock=clock) as host:
        await with_history(host)
        (host.recordings / NAME).write_text("of another place\n")
        places = host.parts.foundation.places

        async def doubted() -> bool:
            await places.check()
            return places.doubt(str(host.recordings)) is not None

        await until(doubted)
        await look(host, clock, timedelta(hours=1))
        assert sounding(host, AlarmName.CAMERA_SILENT) == {}


async def test_time_before_a_segment_does_not_count_as_silence_after_it(tmp_path: Path) -> None:
    clock = SetClock()
    async with running(tmp_path, {"alerts": {"silent_after": {"gate": "5s"}}}, clock) as host:
        last = await with_history(host)
        await look(host, clock)
        recorded(host, last + timedelta(seconds=1))
        await until_registered(host, 9)
        await look(host, clock)
        assert sounding(host, AlarmName.CAMERA_SILENT) == {}
        await look(host, clock)
        assert set(sounding(host, AlarmName.CAMERA_SILENT)) == {str(GATE)}


async def test_a_camera_that_is_silent_since_before_a_restart_is_found_again_and_not_at_once(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as host:
        await with_history(host)
    clock = SetClock()
    async with running(tmp_path, clock=clock) as host:
        await look(host, clock, timedelta(hours=1))
        assert sounding(host, AlarmName.CAMERA_SILENT) == {}, "its root was not looked through yet"
        host.watch()
        watch = host.parts.watches[0]

        async def scanned() -> bool:
            return watch.scans > 0

        await until(scanned)
        await look(host, clock, timedelta(seconds=100))
        assert sounding(host, AlarmName.CAMERA_SILENT) == {}
        await look(host, clock, timedelta(seconds=60))
        assert set(sounding(host, AlarmName.CAMERA_SILENT)) == {str(GATE)}


async def test_a_camera_whose_clock_is_off_is_told_until_it_is_right(tmp_path: Path) -> None:
    clock = SetClock()
    async with running(tmp_path, clock=clock) as host:
        host.watch()
        now = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=10)
        for number in range(3):
            recorded(host, now - timedelta(hours=5, seconds=-number), off=timedelta(hours=5))
        await until_registered(host, 3)
        await look(host, clock)
        assert "4:59" in sounding(host, AlarmName.CAMERA_CLOCK)[str(GATE)] or (
            "5:00:00" in sounding(host, AlarmName.CAMERA_CLOCK)[str(GATE)]
        )
        for number in range(2):
            recorded(host, now + timedelta(seconds=number))
        await until_registered(host, 5)
        await look(host, clock)
        assert set(sounding(host, AlarmName.CAMERA_CLOCK)) == {str(GATE)}, "two may be copies"
        recorded(host, now + timedelta(seconds=2))
        await until_registered(host, 6)
        await look(host, clock)
        assert sounding(host, AlarmName.CAMERA_CLOCK) == {}


@pytest.fixture
def closed_port() -> Iterator[int]:
    with kept_port() as port:
        yield port


async def test_a_store_and_a_catalog_that_are_away_are_told_after_a_moment_and_what_waits_for_them(
    tmp_path: Path, closed_port: int
) -> None:
    clock, port = SetClock(), closed_port
    more = {
        "backend": "MINIO",
        "minio": {"endpoint": f"127.0.0.1:{port}", "access_key": "a", "secret_key": "b"},
        "postgres": {"host": "127.0.0.1", "port": port},
    }
    async with running(tmp_path, more, clock) as host:
        await host.registered(camera=GATE)
        host.deliver()
        cataloguing, delivery = host.parts.cataloguing, host.parts.deliveries[0]
        assert cataloguing is not None
        cataloguing.trouble = "nobody listens"  # as its own duty finds: test_metrics.py

        async def away() -> bool:
            return delivery.trouble is not None

        await until(away)
        await look(host, clock, timedelta(seconds=110))
        names = (AlarmName.BACKEND_DOWN, AlarmName.CATALOG_DOWN, AlarmName.UNDELIVERED)
        assert [sounding(host, name) for name in names] == [{}, {}, {}]
        await look(host, clock, timedelta(seconds=30))
        assert [set(sounding(host, name)) for name in names] == [{"MINIO"}, {"POSTGRES"}, set()]
        await look(host, clock, timedelta(hours=1))
        assert set(sounding(host, AlarmName.UNDELIVERED)) == {"MINIO"}
        cataloguing.trouble = None
        await look(host, clock)
        assert sounding(host, AlarmName.CATALOG_DOWN) == {}


async def test_a_delivery_that_came_late_ends_the_alarm_of_it(tmp_path: Path) -> None:
    clock = SetClock()
    async with running(tmp_path, clock=clock) as host:
        segment = await host.registered(camera=GATE)
        await look(host, clock, timedelta(hours=1, minutes=1))
        assert set(sounding(host, AlarmName.UNDELIVERED)) == {"FILESYSTEM"}
        old = await host.registered("gate/old.ts", camera=GATE, start=datetime(2025, 3, 1, tzinfo=UTC))
        await look(host, clock)
        assert set(sounding(host, AlarmName.UNDELIVERED)) == {"FILESYSTEM"}, "footage of another year came"
        host.deliver()
        await host.delivered(segment)
        await host.delivered(old)
        await look(host, clock)
        assert sounding(host, AlarmName.UNDELIVERED) == {}


async def test_a_loss_is_told_for_a_day_over_restarts_and_no_longer(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        segment = await host.registered(camera=GATE)
        now = datetime.now(UTC)
        found = await host.journal.copies.source_gone(
            UUID(segment["id"]), SourceState.MISSING, "source_vanished", now
        )
        assert found is not None
    clock = SetClock()
    async with running(tmp_path, clock=clock) as host:
        await look(host, clock)
        assert "1 segment is LOST" in sounding(host, AlarmName.LOSS)[str(GATE)]
        clock.wall += timedelta(days=30)
        await look(host, clock)
        assert set(sounding(host, AlarmName.LOSS)) == {str(GATE)}, "the clock is in doubt, and ends nothing"
        clock.wall = timedelta(0)
        clock.passed_s += timedelta(hours=23).total_seconds()
        await look(host, clock)
        assert set(sounding(host, AlarmName.LOSS)) == {str(GATE)}
        clock.passed_s += timedelta(hours=1).total_seconds()
        await look(host, clock)
        assert sounding(host, AlarmName.LOSS) == {}
    async with running(tmp_path, clock=clock) as host:
        await look(host, clock)
        assert sounding(host, AlarmName.LOSS) == {}, "what is older is not read again"


async def test_a_disk_that_fills_up_is_told_days_before_and_left_to_disk_low_then(tmp_path: Path) -> None:
    clock = SetClock()
    levels = {f"{level}_{unit}": 0 for level in ("warn", "clean", "emergency") for unit in ("free", "left")}
    async with running(tmp_path, {"capacity": levels}, clock) as host:
        forecasting = host.parts.upkeep.capacity.forecasting
        await forecasting.refresh()
        assert forecasting.latest is not None
        forecast, [volume] = forecasting.latest, forecasting.latest.volumes
        name = volume.standing.volume.name
        for days_left, told in ((math.inf, set()), (3.1, set()), (2.9, {name}), (3.2, {name}), (3.4, set())):
            forecasting.latest = replace(forecast, volumes=(replace(volume, days_left=days_left),))
            await look(host, clock)
            assert set(sounding(host, AlarmName.DISK_DAYS)) == told, days_left
        forecasting.latest = replace(forecast, volumes=(replace(volume, days_left=0.1),))
        await look(host, clock)
        assert "full in 2.4 hours" in sounding(host, AlarmName.DISK_DAYS)[name]
        host.parts.foundation.alarms.sound(AlarmName.DISK_LOW, name, "as the look at the disks says")
        await look(host, clock)
        assert sounding(host, AlarmName.DISK_DAYS) == {}
