"""Cameras, their coverage, and the queue."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from cctv_storaged.api.cameras import state_of
from cctv_storaged.api.models import CameraAnswer, CamerasAnswer, CoverageAnswer
from cctv_storaged.api.queue_models import QueueAnswer, SetAsideAnswer
from cctv_storaged.clock import rfc3339
from cctv_storaged.model import Camera
from tests.integration.api.harness import SECONDS, Host, StandingClock, path_of, running, until

CAMERA = UUID("123e4567-e89b-12d3-a456-426614174000")
START = datetime(2025, 1, 23, 10, tzinfo=UTC)


def at(seconds: float) -> str:
    return rfc3339(START + timedelta(seconds=seconds))


# Cameras


async def test_a_camera_is_what_its_footage_is(host: Host) -> None:
    first = await host.registered("gate/1.ts", camera=CAMERA, start=START)
    last = await host.registered("gate/2.ts", camera=CAMERA, start=START + timedelta(hours=1))
    camera = (await host.get(f"/cameras/{CAMERA}")).json
    assert (camera["first_footage"], camera["last_footage"]) == (first["start_time"], last["end_time"])
    assert (camera["segments"], camera["bytes"]) == (2, 2 * first["size_bytes"])
    assert camera["bit_rate"] == pytest.approx(first["size_bytes"] * 8 / SECONDS)
    assert camera["state"] == "silent"
    CameraAnswer.model_validate(camera)


async def test_a_camera_whose_segments_keep_coming_is_recording(tmp_path: Path) -> None:
    clock = StandingClock()
    async with running(tmp_path, clock=clock) as host:
        await host.registered("gate/1.ts", camera=CAMERA, start=clock.now() - timedelta(seconds=10))
        assert (await host.get(f"/cameras/{CAMERA}")).json["state"] == "recording"


async def test_footage_from_the_future_does_not_make_a_camera_record_until_then(host: Host) -> None:
    ahead = datetime.now(UTC) + timedelta(days=3)
    segment = await host.registered("gate/1.ts", camera=CAMERA, start=ahead)
    camera = (await host.get(f"/cameras/{CAMERA}")).json
    assert (camera["state"], camera["last_footage"]) == ("recording", segment["end_time"])
    footage = await host.journal.cameras.by_id(CAMERA, datetime.now(UTC))
    assert footage is not None
    assert state_of(footage, datetime.now(UTC) + timedelta(minutes=2)) == "silent"


async def test_configured_cameras_are_listed_before_their_first_footage(tmp_path: Path) -> None:
    cameras = [{"id": str(CAMERA), "name": "Gate", "folder": "gate"}]
    async with running(tmp_path, {"cameras": cameras}) as host:
        await host.registered("yard/1.ts", camera=uuid4())
        listed = (await host.get("/cameras")).json
        CamerasAnswer.model_validate(listed)
        gate = next(camera for camera in listed["cameras"] if camera["name"] == "Gate")
        assert (gate["id"], gate["state"], gate["segments"], gate["first_footage"]) == (
            str(CAMERA), "unknown", 0, None,
        )  # fmt: skip
        assert len(listed["cameras"]) == 2
        assert (await host.get(f"/cameras/{CAMERA}")).json == gate


async def test_a_camera_configured_by_a_reload_is_known(host: Host) -> None:
    """SIGHUP changes the book that the recorder roots share; the journal hears of it with a segment."""
    assert (await host.get(f"/cameras/{CAMERA}")).status == 404
    host.parts.cameras.change((Camera(id=CAMERA, name="Gate", folder="gate"),))
    assert (await host.get(f"/cameras/{CAMERA}")).json["name"] == "Gate"
    assert [camera["name"] for camera in (await host.get("/cameras")).json["cameras"]] == ["Gate"]
    assert (await host.get(f"/segments/{CAMERA}")).json["segments"] == []


async def test_a_camera_nobody_knows_is_not_found(host: Host) -> None:
    for path in (f"/cameras/{uuid4()}", f"/cameras/{uuid4()}/coverage"):
        assert (await host.get(path)).status == 404


# Coverage


async def coverage(host: Host, **params: str) -> dict[str, Any]:
    reply = await host.get(f"/cameras/{CAMERA}/coverage", **params)
    assert reply.status == 200, reply
    CoverageAnswer.model_validate(reply.json)
    return dict(reply.json)


async def test_spans_and_gaps_fill_what_was_asked_for(host: Host) -> None:
    for number, begin in enumerate((0, 2, 4, 60, 100)):
        await host.registered(f"gate/{number}.ts", camera=CAMERA, start=START + timedelta(seconds=begin))
    deleted = (await host.get(f"/segments/{CAMERA}", start=at(60), end=at(61))).json["segments"][0]
    assert (await host.delete(path_of(deleted))).status == 204
    found = await coverage(host, start=at(-10), end=at(101))
    assert found["spans"] == [{"start": at(0), "end": at(6)}, {"start": at(100), "end": at(101)}]
    assert found["gaps"] == [
        {"start": at(-10), "end": at(0), "cause": "before_first"},
        {"start": at(6), "end": at(60), "cause": "unknown"},
        {"start": at(60), "end": at(62), "cause": "deleted"},
        {"start": at(62), "end": at(100), "cause": "unknown"},
    ]


async def test_ten_years_of_coverage_are_refused_at_once(host: Host) -> None:
    await host.registered("gate/1.ts", camera=CAMERA, start=START)
    reply = await host.get(
        f"/cameras/{CAMERA}/coverage", start="2015-01-01T00:00:00Z", end="2025-01-01T00:00:00Z"
    )
    assert (reply.status, reply.fields) == (422, {"end"})
    assert (await host.get(f"/cameras/{CAMERA}/coverage", start=at(0), end=at(366 * 86400))).status == 200


# Queue


async def queue(host: Host) -> dict[str, Any]:
    reply = await host.get("/queue")
    assert reply.status == 200, reply
    QueueAnswer.model_validate(reply.json)
    return dict(reply.json)


async def test_the_queue_tells_what_is_undelivered(host: Host) -> None:
    segment = await host.registered(camera=CAMERA, start=START)
    told = await queue(host)
    assert told["backends"] == [
        {
            "name": "FILESYSTEM",
            "segments": 1,
            "bytes": segment["size_bytes"],
            "failed": 0,
            "gaps": 0,
            "oldest": at(0),
            "trouble": None,
        }
    ]
    assert (told["failures"], told["set_aside"], told["catalog"]) == ([], {}, None)
    host.deliver()
    await host.delivered(segment)
    assert (await queue(host))["backends"][0]["segments"] == 0


async def test_the_queue_counts_what_was_set_aside(host: Host) -> None:
    path = host.recordings / "gate/2025-01-23/10-00-00.ts"
    path.parent.mkdir(parents=True)
    path.touch()
    host.watch()

    async def told() -> bool:
        return bool((await queue(host))["set_aside"] == {"empty": 1})

    await until(told)


async def test_files_set_aside_are_listed_with_the_reason_page_by_page(host: Host) -> None:
    day = host.recordings / "gate/2025-01-23"
    day.mkdir(parents=True)
    for number in range(5):
        (day / f"10-00-0{number}.ts").write_bytes(b"x" * number)
    (day / os.fsdecode(b"caf\xe9.ts")).touch()
    host.watch()

    async def told() -> bool:
        counts: dict[str, int] = (await queue(host))["set_aside"]
        return sum(counts.values()) == 6

    await until(told)
    found: list[dict[str, Any]] = []
    params: dict[str, str] = {"limit": "4"}
    for length in (4, 2):
        page = (await host.get("/set-aside", **params)).json
        SetAsideAnswer.model_validate(page)
        assert len(page["files"]) == length
        found += page["files"]
        params["cursor"] = page["next_cursor"]
    assert page["next_cursor"] is None
    assert len({file["path"] for file in found}) == 6
    times = [file["seen_at"] for file in found]
    assert times == sorted(times, reverse=True)
    empty = next(file for file in found if file["path"] == "gate/2025-01-23/10-00-00.ts")
    assert (empty["root"], empty["reason"], empty["size_bytes"]) == (str(host.recordings), "empty", 0)
    assert "no bytes" in empty["detail"]


@pytest.mark.parametrize("params", [{"cursor": "AAAA"}, {"cursor": "a"}, {"limit": "0"}, {"limit": "1001"}])
async def test_a_page_of_files_that_cannot_be_is_told_by_its_field(
    host: Host, params: dict[str, str]
) -> None:
    reply = await host.get("/set-aside", **params)
    assert (reply.status, reply.fields) == (422, set(params))


async def failed(host: Host) -> dict[str, Any]:
    """A segment whose only copy waits for a human."""
    segment = await host.registered(camera=CAMERA, start=START)
    await host.journal.copies.failed(UUID(segment["id"]), "FILESYSTEM", "no luck")
    return segment


async def test_the_queue_shows_failed_copies_with_their_reasons(host: Host) -> None:
    segment = await failed(host)
    told = await queue(host)
    assert told["failures"] == [
        {
            "segment_id": segment["id"],
            "camera_id": str(CAMERA),
            "start_time": at(0),
            "backend": "FILESYSTEM",
            "path": None,
            "attempts": 0,
            "error": "no luck",
        }
    ]
    assert told["backends"][0]["failed"] == 1


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"backend": "FILESYSTEM"},
        {"camera_id": str(CAMERA), "start": at(0), "end": at(1)},
        {"camera_id": str(CAMERA), "start": at(0), "end": at(1), "backend": "FILESYSTEM"},
    ],
)
async def test_a_failed_copy_is_delivered_after_a_retry(tmp_path: Path, body: dict[str, Any]) -> None:
    async with running(tmp_path) as host:
        segment = await failed(host)
    async with running(tmp_path) as host:  # the delivery of another process, which has only the journal
        host.deliver()
        await host.delivered(await host.registered("gate/other.ts"))
        assert (await host.get(path_of(segment))).json["copies"][0]["state"] == "failed"
        reply = await host.post("/queue/retry", body)
        assert (reply.status, reply.json) == (200, {"retried": 1, "asked_again": 0})
        await host.delivered(segment)


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "application/json"}, {"Content-Length": "0"}])
async def test_a_retry_without_a_body_is_one_of_every_failed_copy(
    host: Host, headers: dict[str, str]
) -> None:
    await failed(host)
    reply = await host.request("POST", "/queue/retry", headers=headers)
    assert (reply.status, reply.json) == (200, {"retried": 1, "asked_again": 0})
    assert (await host.request("POST", "/queue/retry", data=b"{")).status == 400


async def test_a_retry_of_other_footage_leaves_a_failed_copy_alone(host: Host) -> None:
    await failed(host)
    for other in (
        {"camera_id": str(uuid4()), "start": at(0), "end": at(1)},
        {"camera_id": str(CAMERA), "start": at(10), "end": at(11)},
    ):
        assert (await host.post("/queue/retry", other)).json == {"retried": 0, "asked_again": 0}
    assert (await queue(host))["backends"][0]["failed"] == 1


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"backend": "MINIO"}, {"backend"}),
        ({"backend": "tape"}, {"backend"}),
        ({"camera_id": str(CAMERA)}, {"start", "end"}),
        ({"camera_id": str(CAMERA), "start": at(0)}, {"end"}),
        ({"start": at(0), "end": at(1)}, {"camera_id"}),
        ({"camera_id": str(CAMERA), "start": at(1), "end": at(0)}, {"end"}),
        ({"all": True}, {"all"}),
    ],
)
async def test_a_retry_that_cannot_be_is_told_by_its_fields(
    host: Host, body: dict[str, Any], fields: set[str]
) -> None:
    reply = await host.post("/queue/retry", body)
    assert (reply.status, reply.fields) == (422, fields)
