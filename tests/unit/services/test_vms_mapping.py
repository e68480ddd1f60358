"""Which XProtect camera is ours: a wrong one would prove footage that nobody has."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from cctv_storaged.alarms import AlarmName, Alarms
from cctv_storaged.clock import SystemClock
from cctv_storaged.config import Milestone
from cctv_storaged.errors import BackendUnavailable
from cctv_storaged.events import EventHub
from cctv_storaged.journal.journal import Journal
from cctv_storaged.metrics import Metrics
from cctv_storaged.model import Camera
from cctv_storaged.recorder.admission import CameraBook
from cctv_storaged.vms.mapping import CameraMapping, map_rules
from tests.fakes.scripted_vms import ScriptedVms, channel
from tests.unit.journal.samples import GATE, HOST, YARD, new, open_journal, record


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    async with await open_journal(tmp_path) as opened:
        await record(opened, new(1))
        yield opened


class Bench:
    def __init__(
        self,
        journal: Journal,
        vms: ScriptedVms,
        entries: Mapping[str, str],
        listed: tuple[Camera, ...] = (),
        *,
        required: bool = True,
    ) -> None:
        self.book = CameraBook(HOST, listed)
        self.alarms = Alarms(Metrics(), EventHub(), SystemClock())
        settings = Milestone(url="https://mgmt.example", camera_map=entries)
        rules = map_rules(settings, required=required)
        self.mapping = CameraMapping(vms, journal.cameras, self.book, rules, self.alarms)

    @property
    def alarming(self) -> dict[str, str]:
        return {each.subject: each.text for each in self.alarms.standing if each.name is AlarmName.VMS_CAMERA}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("gate", str(channel(1).id)),
        ("gate", str(channel(1).id).upper()),
        (str(GATE.id).upper(), "name:Gate"),
        ("gate", "name:Gate"),
    ],
)
async def test_an_entry_names_the_camera_by_guid_or_by_its_unique_name(
    journal: Journal, key: str, value: str
) -> None:
    bench = Bench(journal, ScriptedVms([channel(1), channel(2, "Yard")]), {key: value})
    assert await bench.mapping.device_of(GATE.id) == channel(1).id
    assert bench.mapping.why_not(GATE.id) is None and bench.alarming == {}
    assert dict(bench.mapping.cameras) == {GATE.id: channel(1)}


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("name:Gate", "2 cameras named 'Gate'"),
        ("name:Nowhere", "no camera named 'Nowhere'"),
        ("00000000-0000-0000-0000-00000000dead", "no camera 00000000-0000-0000-0000-00000000dead"),
    ],
)
async def test_what_is_ambiguous_or_deleted_is_no_counterpart_and_an_alarm(
    journal: Journal, value: str, told: str
) -> None:
    bench = Bench(journal, ScriptedVms([channel(1), channel(2)]), {"gate": value})
    assert await bench.mapping.device_of(GATE.id) is None
    assert told in (bench.mapping.why_not(GATE.id) or "") and told in bench.alarming[str(GATE.id)]


async def test_the_same_name_counts_only_where_somebody_gave_it(journal: Journal) -> None:
    """A folder that happens to be called as another building's camera must not be proven by it."""
    site = ScriptedVms([channel(1, "gate")])
    by_folder = Bench(journal, site, {})
    assert await by_folder.mapping.device_of(GATE.id) is None
    assert "camera_map['gate']" in by_folder.alarming[str(GATE.id)]
    listed = Bench(journal, site, {}, (GATE,))
    assert await listed.mapping.device_of(GATE.id) == channel(1).id
    twins = Bench(journal, site, {}, (GATE, replace(YARD, name=GATE.name)))
    assert await twins.mapping.device_of(GATE.id) is None


async def test_an_entry_by_a_name_that_two_cameras_have_is_nobodys(journal: Journal) -> None:
    lane, other = replace(GATE, name="Lane"), replace(YARD, name="Lane")
    bench = Bench(journal, ScriptedVms(), {"Lane": str(channel(1).id)}, (lane, other))
    assert await bench.mapping.device_of(GATE.id) is None
    alone = Bench(journal, ScriptedVms(), {"Lane": str(channel(1).id)}, (lane,))
    assert await alone.mapping.device_of(GATE.id) == channel(1).id


@pytest.mark.parametrize(
    ("device", "told"),
    [
        (channel(1, enabled=False), "disabled in XProtect"),
        (channel(1, recording=False), "does not record it"),
    ],
)
async def test_a_camera_that_is_disabled_or_not_recorded_is_told_and_still_asked(
    journal: Journal, device: object, told: str
) -> None:
    site = ScriptedVms([device])  # type: ignore[list-item]
    bench = Bench(journal, site, {"gate": str(channel(1).id)})
    assert await bench.mapping.device_of(GATE.id) == channel(1).id
    assert told in bench.alarming[str(GATE.id)]
    site.channels = [channel(1)]
    await bench.mapping.refresh()
    assert bench.alarming == {}


async def test_a_site_that_is_away_is_no_camera_without_counterpart(journal: Journal) -> None:
    site = ScriptedVms()
    site.errors["cameras"] = BackendUnavailable("no route")
    bench = Bench(journal, site, {"gate": str(channel(1).id), "yard": "name:Yard"})
    with pytest.raises(BackendUnavailable):
        await bench.mapping.device_of(GATE.id)
    assert bench.alarming == {} and not bench.mapping.asked
    del site.errors["cameras"]
    assert await bench.mapping.device_of(GATE.id) == channel(1).id
    site.errors["cameras"] = BackendUnavailable("no route")
    with pytest.raises(BackendUnavailable):
        await bench.mapping.refresh()
    assert await bench.mapping.device_of(GATE.id) == channel(1).id  # the last answer counts


async def test_a_camera_that_comes_between_two_rounds_is_looked_for_when_it_is_asked_for(
    journal: Journal,
) -> None:
    bench = Bench(journal, ScriptedVms([channel(1), channel(2, "Yard")]), {"yard": "name:Yard"})
    await bench.mapping.refresh()
    assert await bench.mapping.device_of(YARD.id) is None
    await record(journal, new(2, YARD))
    assert await bench.mapping.device_of(YARD.id) == channel(2, "Yard").id


async def test_a_line_for_no_camera_is_told_once(journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(journal, ScriptedVms(), {"gate": str(channel(1).id), "gaet": "name:Gate"})
    await bench.mapping.refresh()
    await bench.mapping.refresh()
    told = [each.getMessage() for each in caplog.records if "'gaet'" in each.getMessage()]
    assert len(told) == 1 and "camera_map" in told[0]


async def test_in_a_mode_that_asks_nothing_of_xprotect_no_camera_is_an_alarm(journal: Journal) -> None:
    bench = Bench(journal, ScriptedVms(), {}, required=False)
    await bench.mapping.refresh()
    assert bench.alarming == {} and bench.mapping.why_not(GATE.id) is not None


async def test_two_of_ours_with_one_counterpart_are_told(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    await record(journal, new(2, YARD))
    bench = Bench(journal, ScriptedVms(), {"gate": "name:Gate", "yard": "name:Gate"})
    await bench.mapping.refresh()
    assert any("stands for 2 of ours" in each.getMessage() for each in caplog.records)
