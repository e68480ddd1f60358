"""What goes wrong at an XProtect site is told by its name, and is over for the client when it is over.

Against the simulator; what is merely not known of real sites is tried in test_milestone_switches.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from cctv_storaged.backends.milestone.base import Mark, TaskProgress, TaskState
from cctv_storaged.backends.milestone.target import MilestoneTarget, SequencesApi
from cctv_storaged.backends.milestone.xprotect import XProtect
from cctv_storaged.clock import SystemClock
from cctv_storaged.errors import BackendUnavailable, ObjectMissing, ObjectRejected, Unsupported
from cctv_storaged.model import TimeSpan
from tests.fakes.xprotect.simulator import Simulator
from tests.footage import cached_ts
from tests.services.xprotect import PASSWORD, USER, camera, running_site

NINE = datetime(2026, 11, 22, 9, tzinfo=UTC)
GATE = camera("gate").id
AUTHORITY = Path(__file__).parents[1] / "services" / "certificates" / "ca.pem"


def span(start_s: float, end_s: float) -> TimeSpan:
    return TimeSpan(NINE + timedelta(seconds=start_s), NINE + timedelta(seconds=end_s))


MARK = Mark(camera_id=GATE, span=span(0, 4), header="Case 42", description="…", reference="INC-42")


@asynccontextmanager
async def client(simulator: Simulator, **changes: Any) -> AsyncIterator[XProtect]:
    facts: dict[str, Any] = {"username": USER, "password": PASSWORD, "ca_file": str(AUTHORITY)}
    target = MilestoneTarget(url=simulator.site.url, **(facts | changes))
    vms = XProtect(target, SystemClock())
    try:
        yield vms
    finally:
        await vms.close()


@asynccontextmanager
async def plain_site(*cameras: str, **changes: Any) -> AsyncIterator[tuple[Simulator, XProtect]]:
    async with (
        running_site(cameras or ("gate", "yard")) as simulator,
        client(simulator, allow_plain_http=True, **changes) as vms,
    ):
        yield simulator, vms


async def record(simulator: Simulator, *starts_s: float) -> None:
    """Four seconds each."""
    path = await asyncio.to_thread(cached_ts, seconds=4)
    for second in starts_s:
        start = NINE + timedelta(seconds=second)
        await asyncio.to_thread(simulator.site.media.add_ts, GATE, path, start)


async def ended(vms: XProtect, task: str) -> TaskProgress:
    while (told := await vms.task(task)).state is TaskState.RUNNING:
        await asyncio.sleep(0.005)
    return told


# -- the management server


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_a_gateway_that_is_recycled_is_away_for_that_long(status: int) -> None:
    async with plain_site() as (simulator, vms):
        await vms.site()
        await simulator.set_faults(bad_gateway_next=2, bad_gateway_status=status)
        for ask in (vms.site(), vms.recorded(GATE, span(0, 4))):
            with pytest.raises(BackendUnavailable) as caught:
                await ask
            assert caught.value.reason == "server"
        assert await vms.recorded(GATE, span(0, 4)) == ()


@pytest.mark.parametrize(
    ("away", "reason"), [("refused", "network"), ("silent", "network"), ("unavailable", "server")]
)
async def test_a_site_that_is_away_is_asked_again_as_if_nothing_had_been(away: str, reason: str) -> None:
    async with plain_site(request_s=5.0) as (simulator, vms):  # which a busy machine keeps to, too
        for _ in range(2):
            await simulator.set_faults(management=away)
            with pytest.raises(BackendUnavailable) as caught:
                await vms.site()
            assert caught.value.reason == reason
            await simulator.set_faults(management="no")
            assert (await vms.site()).name == simulator.site.name


async def test_an_expired_token_costs_one_log_in_for_all_who_meet_it() -> None:
    async with plain_site() as (simulator, vms):
        await vms.site()
        await simulator.set_faults(expire_tokens=True)
        await asyncio.gather(*(vms.recorded(GATE, span(number, number + 1)) for number in range(10)))
        assert simulator.site.calls["token"] == 2


async def test_a_401_is_met_with_one_fresh_token_and_not_with_a_third() -> None:
    async with plain_site() as (simulator, vms):
        await vms.site()
        await simulator.set_faults(unauthorized_next=1)
        await vms.recorded(GATE, span(0, 4))
        await simulator.set_faults(unauthorized_next=10)
        with pytest.raises(BackendUnavailable) as caught:
            await vms.recorded(GATE, span(0, 4))
        assert caught.value.reason == "auth"
        assert simulator.site.faults.unauthorized_next == 8


async def test_an_answer_that_is_lost_is_not_asked_for_again_by_itself() -> None:
    async with plain_site() as (simulator, vms):
        await vms.site()
        await simulator.set_faults(lose_answer_next=1)
        with pytest.raises(BackendUnavailable):
            await vms.bookmark(MARK)
        assert len(simulator.marks.bookmarks) == 1


@pytest.mark.parametrize("skew_s", [-900.0, 0.0, 90.0])
async def test_the_clocks_difference_is_measured(skew_s: float) -> None:
    async with plain_site() as (simulator, vms):
        await simulator.set_faults(clock_skew_s=skew_s)
        told = (await vms.site()).clock_skew
    assert told is not None
    assert abs(told.total_seconds() - skew_s) < 30  # a loaded machine answers late


async def test_nothing_of_a_log_in_is_left_behind() -> None:
    async with running_site() as simulator:
        async with client(simulator, allow_plain_http=True) as vms:
            await vms.reach(GATE)
            assert simulator.site.tokens.corporate_in_force == 1
        assert simulator.site.tokens.corporate_in_force == 0


# -- TLS


async def test_the_whole_client_speaks_tls_with_the_sites_authority(tmp_path: Path) -> None:
    ca_file = str(tmp_path / "ca.pem")
    async with running_site(tls_folder=tmp_path) as simulator, client(simulator, ca_file=ca_file) as vms:
        assert (await vms.recorders())[0].tls
        await vms.reach(GATE)
        assert await vms.recorded(GATE, span(0, 4)) == ()
        for kind in ("self_signed", "wrong_name"):
            await simulator.set_faults(certificate=kind)
            async with client(simulator, ca_file=ca_file) as other:
                with pytest.raises(BackendUnavailable, match="certificate"):
                    await other.site()


async def test_a_recorder_may_have_a_name_of_its_own_in_its_certificate(tmp_path: Path) -> None:
    async with running_site(tls_folder=tmp_path) as simulator:
        await simulator.set_faults(recorder_certificate="wrong_name")
        ca_file = str(tmp_path / "ca.pem")
        async with client(simulator, ca_file=ca_file) as vms:
            with pytest.raises(BackendUnavailable, match="recorder_server_name"):
                await vms.reach(GATE)
        async with client(
            simulator,
            recorder_ca_file=ca_file,
            ca_file=ca_file,
            recorder_server_name="other.example",
            sequences_api=SequencesApi.SOAP,
        ) as vms:
            await vms.reach(GATE)
            assert await vms.recorded(GATE, span(0, 4)) == ()


# -- recorders, cameras, storages


async def test_a_recorders_name_that_does_not_resolve_is_overridden() -> None:
    async with plain_site() as (simulator, vms):
        await simulator.set_faults(web_server_host="win-recorder.invalid")
        with pytest.raises(BackendUnavailable, match="recorder_host_override"):
            await vms.reach(GATE)
        for name in ("win-recorder.invalid", f"Recorder of {simulator.site.name}"):
            override = {name: "127.0.0.1"}
            async with client(simulator, allow_plain_http=True, recorder_host_override=override) as other:
                await other.reach(GATE)


async def test_every_camera_is_told_as_it_is_set_up() -> None:
    names = [f"camera {number}" for number in range(7)]
    async with plain_site(*names) as (simulator, vms):
        ids = [str(camera(name).id) for name in names]
        simulator.site.assumptions.size_limit = 2
        await simulator.set_faults(
            disabled_cameras=[ids[0]],
            not_recording_cameras=[ids[1]],
            not_edge_cameras=[ids[2]],
            deleted_cameras=[ids[3]],
        )
        told = {each.name: each for each in await vms.cameras()}
        with pytest.raises(ObjectMissing):
            await vms.recorded(UUID(ids[3]), span(0, 4))
    assert sorted(told) == sorted(set(names) - {names[3]})
    assert [name for name in names if name in told and not told[name].enabled] == [names[0]]
    assert [name for name in names if name in told and not told[name].recording_enabled] == [names[1]]
    assert [name for name in names if name in told and not told[name].edge_storage_enabled] == [names[2]]


async def test_disabled_hardware_and_recorders_are_told() -> None:
    async with plain_site() as (simulator, vms):
        await simulator.set_faults(hardware_disabled=True, recorder_disabled=True)
        assert not any(each.enabled for each in await vms.cameras())
        assert not any(each.enabled for each in await vms.recorders())


async def test_a_storage_that_is_full_or_away_is_told() -> None:
    async with plain_site() as (simulator, vms):
        await simulator.set_faults(storage_full=True, storage_available=False)
        storage = await vms.storage(simulator.site.storage_id)
    assert storage.available is False
    assert storage.size_bytes is not None
    assert storage.used_bytes == storage.size_bytes // 2  # of its storage and its archive


# -- sequences


@pytest.mark.parametrize("api", list(SequencesApi))
async def test_both_interfaces_tell_the_same(api: SequencesApi) -> None:
    async with plain_site(sequences_api=api) as (simulator, vms):
        await record(simulator, 0, 20, 21, 40)
        held = await vms.recorded(GATE, span(2, 42))
        asked_rest = simulator.site.calls["task:GetSequences"] > 0
    assert [each.start for each in held] == [span(2, 3).start, span(20, 21).start, span(40, 41).start]
    assert held[-1].end == span(0, 42).end
    assert asked_rest is (api is not SequencesApi.SOAP)


@pytest.mark.parametrize("answer", ["400", "404"])
async def test_a_site_without_sequences_by_rest_is_asked_by_soap_from_then_on(answer: str) -> None:
    async with plain_site() as (simulator, vms):
        await record(simulator, 0)
        simulator.site.assumptions.set({"rest_sequences": answer})
        for _ in range(3):
            assert len(await vms.recorded(GATE, span(0, 4))) == 1
        assert simulator.site.calls["task:GetSequences"] == 1
    async with plain_site(sequences_api=SequencesApi.REST) as (simulator, vms):
        simulator.site.assumptions.set({"rest_sequences": answer})
        with pytest.raises((ObjectRejected, ObjectMissing)):
            await vms.recorded(GATE, span(0, 4))


async def test_what_retention_ate_is_not_told_any_more() -> None:
    async with plain_site() as (simulator, vms):
        await record(simulator, 0)
        await simulator.set_faults(eat_after_sequences=1)
        assert await vms.recorded(GATE, span(0, 3)) == (span(0, 3),)
        assert await vms.recorded(GATE, span(0, 3)) == ()
        with pytest.raises(ObjectMissing):
            async with vms.footage(GATE, span(0, 3)):
                pass


# -- retrievals


async def test_a_retrieval_that_fails_tells_its_number() -> None:
    async with plain_site() as (simulator, vms):
        await simulator.set_faults(task_error=60277)
        task = await vms.retrieve(GATE, span(0, 4), uuid4())
        told = await ended(vms, task)
        await vms.clean_up(task)
        with pytest.raises(ObjectMissing):
            await vms.task(task)
    assert told.state is TaskState.ERROR
    assert told.error is not None
    assert "60277" in told.error


async def test_a_task_that_hangs_is_under_way_and_one_that_is_forgotten_is_missing() -> None:
    async with plain_site() as (simulator, vms):
        await simulator.set_faults(tasks_hang=True)
        task = await vms.retrieve(GATE, span(0, 4), uuid4())
        for _ in range(5):
            assert (await vms.task(task)).state is TaskState.RUNNING
        with pytest.raises(ObjectRejected):
            await vms.clean_up(task)
        await simulator.set_faults(tasks_forgotten=True)
        with pytest.raises(ObjectMissing):
            await vms.task(task)
        await vms.clean_up(task)


@pytest.mark.parametrize("status", [400, 403])
async def test_a_retrieval_that_an_edition_or_a_camera_does_not_allow(status: int) -> None:
    async with plain_site() as (simulator, vms):
        simulator.site.assumptions.set({"retrieval_refused_status": status})
        await simulator.set_faults(not_edge_cameras=[str(GATE)])
        with pytest.raises(ObjectRejected, match="remote recording") as caught:
            await vms.retrieve(GATE, span(0, 4), uuid4())
        assert not isinstance(caught.value, Unsupported)
    async with plain_site() as (simulator, vms):
        simulator.site.assumptions.set({"retrieval_refused_status": status})
        await simulator.set_faults(edition="Express+")
        with pytest.raises(Unsupported, match="Professional"):
            await vms.retrieve(GATE, span(0, 4), uuid4())


# -- marks


@pytest.mark.parametrize("status", [400, 403, 404])
async def test_an_edition_without_evidence_locks_has_bookmarks(status: int) -> None:
    async with plain_site() as (simulator, vms):
        simulator.site.assumptions.set({"lock_refused_status": status})
        await simulator.set_faults(edition="Expert")
        with pytest.raises(Unsupported, match="Corporate"):
            await vms.lock(MARK)
        await vms.remove_bookmark(await vms.bookmark(MARK))


async def test_a_version_without_marks_by_rest_is_not_asked_for_any() -> None:
    async with plain_site() as (simulator, vms):
        await simulator.set_faults(version="23.3.100.1")
        for ask in (vms.lock(MARK), vms.bookmark(MARK)):
            with pytest.raises(Unsupported, match="2024 R2"):
                await ask
        assert not simulator.site.calls["rest:POST:bookmarks"]


async def test_a_lock_that_leaves_the_camera_out_is_not_left_behind() -> None:
    async with plain_site() as (simulator, vms):
        await simulator.set_faults(partial_locks=True)
        with pytest.raises(ObjectRejected, match="did not take"):
            await vms.lock(MARK)
        assert not simulator.marks.locks


async def test_locked_footage_outlives_retention_until_it_is_unlocked() -> None:
    async with plain_site() as (simulator, vms):
        await record(simulator, 0)
        lock = await vms.lock(MARK)
        everything = (GATE, -(2**62), 2**62)
        simulator.site.media.remove(*everything)
        assert await vms.recorded(GATE, span(0, 3)) == (span(0, 3),)
        await vms.unlock(lock)
        simulator.site.media.remove(*everything)
        assert await vms.recorded(GATE, span(0, 3)) == ()
