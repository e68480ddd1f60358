"""A whole host in mode MILESTONE beside XProtect's simulator: holds, deletions, health, seen by clients."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from cctv_storaged.alarms import AlarmName
from cctv_storaged.api.hold_models import HoldDetailAnswer
from cctv_storaged.api.segment_models import DeletionAnswer
from cctv_storaged.clock import rfc3339
from cctv_storaged.model import TimeSpan
from tests.fakes.xprotect.pictures import ms
from tests.fakes.xprotect.simulator import Simulator
from tests.footage import cached_ts
from tests.integration.api.harness import SECONDS, Host, path_of, running, until
from tests.services.xprotect import PASSWORD, USER, camera, running_site

GATE = UUID(int=0x6A7E)
YARD = UUID(int=0x7A2D)
DEVICE = camera("gate").id


def configured(site: Simulator, **more: Any) -> Mapping[str, Any]:
    """One camera of ours, which XProtect calls the same."""
    block = {
        "url": f"{site.site.scheme}://{site.site.host}:{site.site.gateway_port}",
        "username": USER,
        "password": PASSWORD,
        "allow_plain_http": True,
        "settle_s": 0.1,
        "retry": {"initial_s": 0.1, "max_s": 0.2},
        **more.pop("milestone", {}),
    }
    return {
        "mode": "MILESTONE",
        "cameras": [{"id": str(GATE), "folder": "gate", "name": "gate"}],
        "milestone": block,
        **more,
    }


@asynccontextmanager
async def recorded_by_both(
    folder: Path, site: Simulator, **more: Any
) -> AsyncIterator[tuple[Host, dict[str, Any]]]:
    """A host, and a segment that XProtect holds too, shown to be there."""
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=10)
    await asyncio.to_thread(site.site.media.add_ts, DEVICE, cached_ts(seconds=SECONDS), start)
    async with running(folder, configured(site, **more)) as host:
        segment = await host.registered(camera=GATE, start=start)
        host.deliver()
        yield host, await host.delivered(segment)


async def held(host: Host, segment: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    body = {"camera_ids": [str(GATE)], "reason": "burglary", "case_id": "INC-42"}
    body |= {"start_time": segment["start_time"], "end_time": segment["end_time"], **more}
    reply = await host.post("/holds", body)
    assert reply.status == 201, reply
    return dict(reply.json)


async def marked(host: Host, hold: Mapping[str, Any]) -> dict[str, Any]:
    """What XProtect knows of a hold, after a round."""
    vms = host.parts.upkeep.vms
    assert vms is not None
    await vms.marking.run_once()
    shown = (await host.get(f"/holds/{hold['id']}")).json
    HoldDetailAnswer.model_validate(shown)
    return dict(shown["vms"])


async def test_what_is_held_xprotect_keeps_until_the_release(tmp_path: Path) -> None:
    async with running_site(["gate"]) as site, recorded_by_both(tmp_path, site) as (host, segment):
        hold = await held(host, segment)
        assert await marked(host, hold) == {
            **{"bookmarks": 1, "locks": 1, "waiting": 0, "unsupported": 0},
            "reason": None,
        }
        shown = (await host.get(f"/holds/{hold['id']}")).json
        assert shown["mirror"]["state"] == "local_only", "no bucket has anything of it"
        [bookmark], [lock] = site.marks.bookmarks.values(), site.marks.locks.values()
        assert "INC-42" in bookmark.texts["header"] and lock.cameras == (DEVICE,)
        assert lock.texts["reference"] != bookmark.texts["reference"]
        start = datetime.fromisoformat(segment["start_time"])
        whole = ms(start), ms(start + timedelta(seconds=60))
        assert site.site.media.remove(DEVICE, *whole) == 0, "retention does not touch what is locked"
        assert (await host.delete(path_of(segment))).status == 409

        assert (await host.delete(f"/holds/{hold['id']}?reason=closed")).status == 204
        assert (await marked(host, hold))["waiting"] == 0
        assert not site.marks.bookmarks and not site.marks.locks
        assert site.site.media.remove(DEVICE, *whole) > 0


async def test_an_edition_without_evidence_locks_gets_bookmarks_and_the_hold_says_so(tmp_path: Path) -> None:
    async with running_site(["gate"]) as site, recorded_by_both(tmp_path, site) as (host, segment):
        await site.set_faults(edition="Expert")
        found = await marked(host, await held(host, segment))
        assert (found["bookmarks"], found["locks"], found["unsupported"]) == (1, 0, 1)
        assert "Corporate" in found["reason"]
        assert AlarmName.VMS_MARK not in {each.name for each in host.parts.foundation.alarms.standing}


async def test_a_mark_that_waits_after_a_refusal_says_why(tmp_path: Path) -> None:
    both = [{"id": str(id_), "folder": name, "name": name} for id_, name in ((GATE, "gate"), (YARD, "yard"))]
    async with (
        running_site(["gate", "yard"]) as site,
        recorded_by_both(tmp_path, site, cameras=both) as (host, segment),
    ):
        await site.set_faults(edition="Expert")
        found = await marked(host, await held(host, segment))
        assert found["waiting"] == 1, "one camera's refusal may be that camera's own"
        assert "Corporate" in found["reason"]


async def test_a_deletion_says_that_xprotect_keeps_its_own(tmp_path: Path) -> None:
    async with running_site(["gate"]) as site, recorded_by_both(tmp_path, site) as (host, segment):
        recorded_before = site.site.media.sequences(DEVICE)
        reply = await host.delete(path_of(segment))
        assert reply.status == 200
        DeletionAnswer.model_validate(reply.json)
        [copy] = reply.json["copies"]
        assert copy == {
            "backend": "MILESTONE",
            "path": segment["storage_path"],
            "outcome": "retention_managed_by_vms",
        }
        assert reply.json["complete"] and segment["storage_path"] in reply.json["detail"]
        assert (await host.get(path_of(segment))).status == 404
        assert site.site.media.sequences(DEVICE) == recorded_before
        deleted = host.parts.foundation.metrics.registry.get_sample_value(
            "storage_segments_deleted_total", {"backend": "MILESTONE"}
        )
        assert not deleted, "nothing was deleted at XProtect"
        lines = [each.line for each in (await host.journal.ledger_lines.page(0)).lines]
        [told] = [each for each in lines if each.kind == "deleted"]
        assert "XProtect keeps" in told.detail and segment["storage_path"] in told.detail


async def test_a_copy_at_an_xprotect_that_is_configured_no_more_holds_up_no_deletion(tmp_path: Path) -> None:
    async with running_site(["gate"]) as site:
        async with recorded_by_both(tmp_path, site) as (_, segment):
            pass
        async with running(tmp_path, {"cameras": configured(site)["cameras"]}) as host:
            assert (await host.delete(path_of(segment))).status == 200
            assert await host.journal.segments.by_id(UUID(segment["id"])) is None


async def test_in_mode_both_the_store_is_deleted_from_and_xprotect_is_not(tmp_path: Path) -> None:
    async with (
        running_site(["gate"]) as site,
        recorded_by_both(tmp_path, site, mode="BOTH") as (host, segment),
    ):
        assert segment["storage_backend"] == "FILESYSTEM"
        outcomes = {
            each["backend"]: each["outcome"] for each in (await host.delete(path_of(segment))).json["copies"]
        }
        assert outcomes == {"FILESYSTEM": "deleted", "MILESTONE": "retention_managed_by_vms"}


async def test_footage_that_only_xprotect_holds_is_coverage(tmp_path: Path) -> None:
    source = {"source": {"prune": "after_verified", "grace": "0s", "keep": "0s"}}
    async with running_site(["gate"]) as site, recorded_by_both(tmp_path, site, **source) as (host, segment):
        assert await host.parts.pruner.run_once() == 1, "XProtect was asked once more, and holds it"
        assert not (host.recordings / "gate/a.ts").exists()
        span = {"start": segment["start_time"], "end": segment["end_time"]}
        covered = (await host.get(f"/cameras/{GATE}/coverage", **span)).json
        assert covered["gaps"] == [] and len(covered["spans"]) == 1


async def test_what_xprotect_no_longer_holds_keeps_its_source(tmp_path: Path) -> None:
    source = {"source": {"prune": "after_verified", "grace": "0s", "keep": "0s"}}
    async with running_site(["gate"]) as site, recorded_by_both(tmp_path, site, **source) as (host, segment):
        start = datetime.fromisoformat(segment["start_time"])
        span = TimeSpan(start.astimezone(UTC), start.astimezone(UTC) + timedelta(seconds=60))
        site.site.media.remove(DEVICE, ms(span.start), ms(span.end))  # retention ate it after it was verified
        early = await host.parts.pruner.prune_early([UUID(segment["id"])])
        assert early.pruned == () and (host.recordings / "gate/a.ts").exists()


async def test_ready_and_metrics_tell_how_it_stands_with_xprotect(tmp_path: Path) -> None:
    async with running_site(["gate"]) as site, recorded_by_both(tmp_path, site) as (host, _):
        vms = host.parts.upkeep.vms
        assert vms is not None
        await vms.watch.run_once()
        condition = vms.watch.condition
        assert condition is not None
        assert condition.troubles == ()
        text = (await host.get("/metrics")).body.decode()
        assert "storage_vms_condition 0.0" in text
        assert f'storage_vms_coverage_lag_seconds{{camera_id="{GATE}"}}' in text
        await site.set_faults(clock_skew_s=45.0)
        await vms.watch.run_once()
        parts = {part["name"]: part for part in (await host.get("/ready")).json["parts"]}
        told = parts["milestone clock"]
        assert "NTP" in told["trouble"] and not told["essential"]


async def test_a_host_without_xprotect_has_no_metrics_of_it(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        assert b"storage_vms" not in (await host.get("/metrics")).body
        assert not [part for part in (await host.get("/ready")).json["parts"] if "milestone" in part["name"]]


async def test_a_lock_whose_answer_was_lost_is_told_where_it_may_be_left(tmp_path: Path) -> None:
    async with running_site(["gate"]) as site, recorded_by_both(tmp_path, site) as (host, segment):
        vms = host.parts.upkeep.vms
        assert vms is not None
        hold = await held(host, segment)
        await site.set_faults(lose_answer_next=1)
        await vms.marking.run_once()  # the site answers again at once: this mark alone is put off

        async def locked() -> bool:
            return bool((await marked(host, hold))["locks"])

        await until(locked)
        assert (await host.delete(f"/holds/{hold['id']}?reason=closed")).status == 204
        assert (await marked(host, hold))["waiting"] == 0
        details = [each.line.detail for each in (await host.journal.ledger_lines.page(0)).lines]
        for left in site.marks.locks.values():
            assert any(left.texts["reference"] in each and "may be left" in each for each in details)


async def test_a_hold_made_while_xprotect_is_away_is_marked_when_it_is_back(tmp_path: Path) -> None:
    async with running_site(["gate"]) as site, recorded_by_both(tmp_path, site) as (host, segment):
        vms = host.parts.upkeep.vms
        assert vms is not None
        await site.set_faults(management="unavailable")
        hold = await held(host, segment, end_time=rfc3339(datetime.now(UTC) + timedelta(hours=1)))
        running_on = asyncio.create_task(vms.marking.run())
        try:

            async def told() -> bool:
                return (await host.get(f"/holds/{hold['id']}")).json["vms"]["reason"] is not None

            await until(told)
            await site.set_faults(management="no")
            vms.marking.wake()

            async def placed() -> bool:
                vms.marking.wake()
                return bool(site.marks.locks)

            await until(placed)
        finally:
            running_on.cancel()
            await asyncio.gather(running_on, return_exceptions=True)
