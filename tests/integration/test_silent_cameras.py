"""A camera that is silent stays so until it is heard, whatever becomes of its footage."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

from cctv_storaged.alarms import AlarmName, Alarms
from cctv_storaged.clock import SystemClock
from cctv_storaged.events import EventHub
from cctv_storaged.journal.journal import Journal
from cctv_storaged.metrics import Metrics
from cctv_storaged.model import Camera
from cctv_storaged.watchkeeping.cameras import CameraWatch
from cctv_storaged.watchkeeping.hearing import Hearing
from cctv_storaged.watchkeeping.silence import SilenceRules


async def test_the_alarm_of_a_dead_camera_does_not_end_with_its_last_footage(tmp_path: Path) -> None:
    camera = Camera(id=uuid4(), name="gate", folder="gate")
    clock, metrics = SystemClock(), Metrics()
    alarms = Alarms(metrics, EventHub(), clock)
    async with await Journal.open(tmp_path, "nvr", datetime.now(UTC)) as journal:
        await journal.cameras.ensure(camera)
        hearing = Hearing(clock, lambda: None)
        watch = CameraWatch(journal, hearing, alarms, metrics, clock, lambda root: False)
        alarms.sound(AlarmName.CAMERA_SILENT, str(camera.id), "no segment for an hour")
        hearing.of(camera.id).root = "/recordings"
        hearing.of(camera.id).silent_s = 3600.0
        await watch.look(10, SilenceRules(after={"gate": timedelta(minutes=5)}))
        assert [each.name for each in alarms.standing] == [AlarmName.CAMERA_SILENT]
        await watch.look(10, SilenceRules(after={"gate": timedelta(0)}))
        assert alarms.standing == (), "said to be silent"
