"""How it stands with XProtect: what fails, how bad that is, and what mends it."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cctv_storaged.alarms import AlarmName, Alarms
from cctv_storaged.backends.milestone.base import Site
from cctv_storaged.config import Milestone
from cctv_storaged.errors import BackendUnavailable
from cctv_storaged.events import EventHub
from cctv_storaged.health import Health
from cctv_storaged.journal.journal import Journal
from cctv_storaged.metrics import Metrics
from cctv_storaged.model import Camera, TimeSpan
from cctv_storaged.recorder.admission import CameraBook
from cctv_storaged.vms.condition import Condition, Grade, condition_rules
from cctv_storaged.vms.conditionwatch import ConditionWatch
from cctv_storaged.vms.mapping import CameraMapping, map_rules
from tests.fakes.scripted_vms import STORAGE, ScriptedVms, channel
from tests.unit.journal.samples import GATE, HOST, LENGTH, START, YARD, new, open_journal, record
from tests.unit.services.test_vms_holdmarks import HandClock


class Bench:
    """A host with two cameras, both in XProtect, which records as we do."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.clock = HandClock()
        channels = [channel(1), channel(2, "Yard")]
        self.vms = ScriptedVms(channels, location="https://mgmt.example")
        self.vms.held = {
            each.id: [TimeSpan(START - timedelta(hours=9), START + 2 * LENGTH)] for each in channels
        }
        self.metrics = Metrics()
        self.alarms = Alarms(self.metrics, EventHub(), self.clock)

    def watch(self, cameras: tuple[Camera, ...] = (), **more: Any) -> ConditionWatch:
        entries = {"gate": str(channel(1).id), "yard": str(channel(2).id)}
        settings = Milestone(url="https://mgmt.example", camera_map=entries, **more)
        mapping_rules = map_rules(settings, required=True)
        mapping = CameraMapping(
            self.vms, self.journal.cameras, CameraBook(HOST, cameras), mapping_rules, self.alarms
        )
        rules = condition_rules(settings)
        return ConditionWatch(
            self.vms, mapping, self.journal.cameras, rules, self.clock, self.alarms, self.metrics
        )

    async def seen(self, **more: Any) -> Condition:
        watch = self.watch(**more)
        await watch.run_once()
        assert watch.condition is not None
        return watch.condition

    @property
    def alarming(self) -> list[str]:
        return [each.subject for each in self.alarms.standing if each.name is AlarmName.VMS]

    def metric(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with await open_journal(tmp_path) as journal:
        for camera in (GATE, YARD):
            await record(journal, new(0, camera), "MILESTONE")
            await record(journal, new(1, camera), "MILESTONE")
        yield Bench(journal)


async def test_a_site_that_does_all_is_well(bench: Bench) -> None:
    found = await bench.seen(min_retention_days=30)
    assert found.grade is Grade.OK and found.troubles == ()
    notes = {part.name: part.note for part in found.parts}
    assert "25.2.1" in (notes["site"] or "") and "rec1:7563" in (notes["recorder REC1"] or "")
    assert notes["storage Local"] == "keeps footage for 30 days, 1% full, does not sign its database"
    assert bench.metric("storage_vms_condition") == 0
    assert bench.metric("storage_vms_coverage_lag_seconds", camera_id=str(GATE.id)) == 0


TROUBLES = [
    ("site", BackendUnavailable("invalid_grant", reason="auth"), Grade.DOWN, "site", "password"),
    ("site", BackendUnavailable("no route"), Grade.DOWN, "site", "milestone.url"),
    ("cameras", BackendUnavailable("502", reason="server"), Grade.DOWN, "cameras", "API Gateway"),
    ("recorded", BackendUnavailable("502", reason="server"), Grade.DOWN, "coverage", "API Gateway"),
    ("reach", BackendUnavailable("refused"), Grade.DEGRADED, "recorder REC1", "recorder_host_override"),
    ("storage", BackendUnavailable("502"), Grade.DEGRADED, f"storage {STORAGE}", "milestone.url"),
    ("recorders", BackendUnavailable("502"), Grade.DEGRADED, "recorders", "milestone.url"),
]


@pytest.mark.parametrize(("call", "error", "grade", "part", "remedy"), TROUBLES)
async def test_reads_that_fail_degrade_and_coverage_that_cannot_be_proven_is_down(
    bench: Bench, call: str, error: BackendUnavailable, grade: Grade, part: str, remedy: str
) -> None:
    bench.vms.errors[call] = error
    found = await bench.seen()
    assert found.grade is grade
    [trouble] = found.troubles
    assert trouble.name == part and remedy in (trouble.told() or "")


@pytest.mark.parametrize(
    ("seconds", "grade"), [(1.5, Grade.OK), (-2.5, Grade.DOWN), (61, Grade.DOWN), (-3600, Grade.DOWN)]
)
async def test_clocks_that_differ_are_told_and_too_far_apart_prove_nothing(
    bench: Bench, seconds: float, grade: Grade
) -> None:
    bench.vms.skew = timedelta(seconds=seconds)
    assert (await bench.seen()).grade is grade
    assert bench.metric("storage_vms_clock_skew_seconds") == seconds


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"available": False}, "not available"),
        ({"retention": timedelta(days=6, hours=12)}, "keeps footage for 6 days 12 h"),
    ],
)
async def test_a_storage_that_is_away_or_keeps_too_little_is_told(
    bench: Bench, more: dict[str, Any], told: str
) -> None:
    bench.vms.kept = replace(bench.vms.kept, **more)
    found = await bench.seen(min_retention_days=7)
    assert [told in (part.trouble or "") for part in found.troubles] == [True]
    assert found.grade is Grade.DEGRADED


async def test_a_camera_that_xprotect_stopped_recording_lags_behind_ours(bench: Bench) -> None:
    bench.vms.held[channel(2).id] = [TimeSpan(START - timedelta(hours=9), START - timedelta(minutes=30))]
    found = await bench.seen(deadline_s=600)
    [trouble] = found.troubles
    assert trouble.name == "coverage yard" and found.grade is Grade.DEGRADED
    assert found.lags[GATE.id] == timedelta(0) and found.lags[YARD.id] >= timedelta(minutes=11)
    held_up = bench.metric("storage_vms_coverage_lag_seconds", camera_id=str(YARD.id))
    assert held_up is not None and held_up >= 600


async def test_a_trouble_is_an_alarm_with_its_second_look_and_ends_with_the_first_good_one(
    bench: Bench,
) -> None:
    watch = bench.watch()
    bench.vms.errors["site"] = BackendUnavailable("502", reason="server")
    await watch.run_once()
    assert bench.alarming == []
    await watch.run_once()
    assert bench.alarming == ["https://mgmt.example site"]
    bench.vms.errors.clear()
    await watch.run_once()
    assert bench.alarming == [] and watch.condition is not None and watch.condition.grade is Grade.OK


async def test_between_whole_looks_one_request_tells_that_the_site_lives(bench: Bench) -> None:
    watch = bench.watch()
    bench.vms.errors["reach"] = BackendUnavailable("refused")
    await watch.run_once()
    bench.vms.calls.clear()
    await watch.run_once()
    assert bench.vms.called == ["site"]
    assert watch.condition is not None and watch.condition.grade is Grade.DEGRADED  # as it was found last
    bench.vms.errors.clear()
    bench.clock.passed = timedelta(minutes=6)
    await watch.run_once()
    assert watch.condition.troubles == ()


async def test_xprotect_away_is_told_by_ready_and_makes_no_daemon_unready(bench: Bench) -> None:
    watch = bench.watch()
    health = Health(bench.journal, (), (), None, bench.alarms, watch)
    bench.vms.errors["site"] = BackendUnavailable("no route")
    await watch.run_once()
    await watch.run_once()
    readiness = health.readiness()
    told = {part.name: part.trouble for part in readiness.parts}
    assert readiness.ready and "no route" in (told["milestone site"] or "")
    bench.vms.errors.clear()
    await watch.run_once()
    assert {part.name: part.trouble for part in health.readiness().parts}["milestone site"] is None


async def test_before_any_footage_one_camera_tells_whether_coverage_can_be_asked(tmp_path: Path) -> None:
    async with await open_journal(tmp_path) as journal:
        bench = Bench(journal)
        await journal.cameras.ensure(GATE)
        watch = bench.watch(cameras=(GATE,))
        await watch.run_once()
        assert "recorded" in bench.vms.called
        bench.vms.errors["recorded"] = BackendUnavailable("502", reason="server")
        bench.clock.passed = timedelta(minutes=6)
        await watch.run_once()
        assert watch.condition is not None and watch.condition.grade is Grade.DOWN


async def test_without_any_counterpart_coverage_cannot_be_proven(bench: Bench) -> None:
    bench.vms.channels = []
    found = await bench.seen()
    assert found.grade is Grade.DOWN
    assert {part.name for part in found.troubles} == {"camera gate", "camera yard", "coverage"}


async def test_an_older_release_is_told_what_it_lacks(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    site = await bench.vms.site()

    async def older() -> Site:
        return replace(site, version="23.3.1")

    monkeypatch.setattr(bench.vms, "site", older)
    found = await bench.seen(ingest="hybrid")
    note = next(part.note for part in found.parts if part.name == "site") or ""
    assert "2024 R2" in note and "event_retrieval" in note and found.grade is Grade.OK
