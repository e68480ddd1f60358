"""Holds behind the API and the command line: made, shown, in the way of deletions, put off, released."""

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from cctv_storaged.alarms import AlarmName
from cctv_storaged.api.hold_models import HoldAnswer, HoldDetailAnswer, HoldsAnswer
from cctv_storaged.cli import _run, parser
from cctv_storaged.clock import rfc3339
from cctv_storaged.holding.wish import REVIEW_AFTER
from tests.integration.api.harness import Host, path_of, running, until

DAY = timedelta(days=1)


def now() -> datetime:
    return datetime.now(UTC)


def asked(camera_id: str, **more: Any) -> dict[str, Any]:
    """A hold on the last hour and everything to come."""
    body = {
        "camera_ids": [camera_id],
        "start_time": rfc3339(now() - timedelta(hours=1)),
        "reason": "burglary",
    }
    return {**body, **more}


async def made(host: Host, camera_id: str, **more: Any) -> dict[str, Any]:
    reply = await host.post("/holds", asked(camera_id, **more))
    assert reply.status == 201, reply
    HoldAnswer.model_validate(reply.json)
    assert reply.headers["Location"].endswith(reply.json["id"])
    return dict(reply.json)


def holds_metric(host: Host) -> float | None:
    return host.parts.foundation.metrics.registry.get_sample_value("storage_holds")


async def test_a_hold_is_made_shown_and_released(host: Host) -> None:
    segment = await host.registered()
    hold = await made(host, segment["camera_id"], case_id="2026/7", created_by="officer")
    assert hold["in_force"] and hold["end_time"] is None and holds_metric(host) == 1
    review = datetime.fromisoformat(hold["review_at"]) - datetime.fromisoformat(hold["created_at"])
    assert review == REVIEW_AFTER
    await host.parts.upkeep.holding.settle()
    assert (await host.get(path_of(segment))).json["held"]
    shown = (await host.get(f"/holds/{hold['id']}")).json
    HoldDetailAnswer.model_validate(shown)
    assert (shown["segments"], shown["bytes"], shown["complete"]) == (1, segment["size_bytes"], True)
    assert shown["mirror"]["state"] == "local_only" and "no legal holds" in shown["mirror"]["reason"]

    refused = await host.delete(path_of(segment))
    assert refused.status == 409 and hold["id"] in refused.json["detail"]
    assert (await host.delete(f"/holds/{hold['id']}?reason=closed&released_by=judge")).status == 204
    assert (await host.delete(f"/holds/{hold['id']}?reason=closed")).status == 409
    await host.parts.upkeep.holding.settle()
    assert not (await host.get(path_of(segment))).json["held"] and holds_metric(host) == 0
    over = (await host.get(f"/holds/{hold['id']}")).json
    HoldDetailAnswer.model_validate(over)
    assert (over["released_by"], over["release_reason"], over["mirror"]) == ("judge", "closed", None)
    assert (await host.delete(path_of(segment))).status == 204


async def test_whoever_names_somebody_is_named_by_their_token_as_well(host: Host) -> None:
    segment = await host.registered()
    host.token = (await host.post("/tokens", {"name": "desk", "scopes": ["admin"]})).json["secret"]
    hold = await made(host, segment["camera_id"], created_by="judge")
    assert hold["created_by"] == "judge (token desk)"
    await host.delete(f"/holds/{hold['id']}?reason=closed&released_by=judge")
    assert (await host.get(f"/holds/{hold['id']}")).json["released_by"] == "judge (token desk)"


async def test_holds_are_listed_by_page_camera_and_state(host: Host) -> None:
    cameras = [(await host.registered(f"{name}/a.ts"))["camera_id"] for name in ("gate", "yard")]
    ids = [(await made(host, cameras[number % 2]))["id"] for number in range(3)]
    await host.delete(f"/holds/{ids[0]}?reason=closed")
    first = (await host.get("/holds", limit="2")).json
    HoldsAnswer.model_validate(first)
    rest = (await host.get("/holds", limit="2", cursor=first["next_cursor"])).json
    assert [each["id"] for each in first["holds"] + rest["holds"]] == ids[::-1]
    assert rest["next_cursor"] is None
    of_camera = (await host.get("/holds", camera_id=cameras[0], in_force="true")).json
    assert [each["id"] for each in of_camera["holds"]] == [ids[2]]
    assert (await host.get("/holds", in_force="maybe")).status == 422


async def test_what_cannot_be_held_is_told_field_by_field(host: Host) -> None:
    camera = (await host.registered())["camera_id"]
    past, nobody = rfc3339(now() - 2 * DAY), str(uuid4())
    for body, fields in (
        (
            asked(camera, end_time=past, expires_at=past, review_at=past),
            {"end_time", "expires_at", "review_at"},
        ),
        ({**asked(camera), "camera_ids": [camera, nobody]}, {"camera_ids.1"}),
        ({**asked(camera), "camera_ids": [camera, camera]}, {"camera_ids.1"}),
        (asked(camera, reason=""), {"reason"}),
        ({"camera_ids": []}, {"camera_ids", "start_time", "reason"}),
    ):
        reply = await host.post("/holds", body)
        assert (reply.status, reply.fields) == (422, fields)
    assert (await host.get(f"/holds/{nobody}")).status == 404
    assert (await host.delete(f"/holds/{nobody}?reason=x")).status == 404
    assert (await host.delete(f"/holds/{nobody}")).status == 422
    assert (await host.request("PATCH", f"/holds/{nobody}", json={})).status == 422
    assert holds_metric(host) == 0


async def test_the_same_key_makes_one_hold(host: Host) -> None:
    body = asked((await host.registered())["camera_id"])
    first = await host.post("/holds", body, **{"Idempotency-Key": "k"})
    again = await host.post("/holds", body, **{"Idempotency-Key": "k"})
    assert (first.status, again.status) == (201, 200) and first.json == again.json
    other = await host.post("/holds", {**body, "reason": "another"}, **{"Idempotency-Key": "k"})
    assert other.status == 409


async def test_a_review_that_is_due_alarms_until_it_is_put_off(host: Host) -> None:
    hold = await made(host, (await host.registered())["camera_id"])
    alarms, holding = host.parts.foundation.alarms, host.parts.upkeep.holding
    await host.journal.holds.change(UUID(hold["id"]), now() - DAY, None, never=False)
    await holding.run_once()
    [alarm] = [each for each in alarms.standing if each.name is AlarmName.HOLD_REVIEW]
    assert alarm.subject == hold["id"]
    put_off = await host.request("PATCH", f"/holds/{hold['id']}", json={"review_at": rfc3339(now() + DAY)})
    assert put_off.status == 200
    assert not [each for each in alarms.standing if each.name is AlarmName.HOLD_REVIEW]


async def test_an_end_is_put_off_and_never_brought_forward(host: Host) -> None:
    hold = await made(host, (await host.registered())["camera_id"], expires_at=rfc3339(now() + DAY))

    async def change(**body: Any) -> int:
        return (await host.request("PATCH", f"/holds/{hold['id']}", json=body)).status

    assert await change(expires_at=rfc3339(now() + 2 * DAY)) == 200
    assert await change(expires_at=rfc3339(now() + DAY)) == 409
    assert await change(expires_at=None) == 200
    assert await change(expires_at=rfc3339(now() + 9 * DAY)) == 409


async def test_no_hold_expires_while_the_clock_is_not_trusted(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold = await made(host, (await host.registered())["camera_id"], expires_at=rfc3339(now() + DAY))
    holding, guard = host.parts.upkeep.holding, host.parts.foundation.clock_guard
    change = "UPDATE hold SET expires_us = 1 WHERE released_us IS NULL"
    await host.journal._store.write(lambda db: db.execute(change))
    monkeypatch.setattr(guard, "distrust", lambda: "it jumped")
    await holding.run_once()
    assert (await host.get(f"/holds/{hold['id']}")).json["in_force"]
    monkeypatch.setattr(guard, "distrust", lambda: None)
    await holding.run_once()
    over = (await host.get(f"/holds/{hold['id']}")).json
    assert (over["in_force"], over["released_by"]) == (False, "expiry")
    assert holds_metric(host) == 0


async def test_a_camera_that_has_recorded_nothing_yet_can_be_held(host: Host) -> None:
    camera = str(uuid4())
    await host.journal.cameras.ensure(host.parts.cameras.with_id(UUID(camera), "porch"))
    hold = await made(host, camera)
    segment = await host.registered("porch/a.ts", camera=UUID(camera))
    assert segment["held"]
    assert (await host.get(f"/holds/{hold['id']}")).json["segments"] == 1


async def test_what_runs_all_the_time_marks_by_itself(host: Host) -> None:
    segment = await host.registered()
    host.tasks += [asyncio.create_task(duty) for duty in map(_started, host.parts.upkeep.duties())]
    hold = await made(host, segment["camera_id"])

    async def is_held(wanted: bool) -> bool:
        return bool((await host.get(path_of(segment))).json["held"]) is wanted

    await until(lambda: is_held(True))
    await host.delete(f"/holds/{hold['id']}?reason=closed")
    await until(lambda: is_held(False))


async def _started(duty: Coroutine[object, object, None]) -> None:
    await duty


# From the shell


async def shell(host: Host, *words: str) -> int:
    options = parser().parse_args(["hold", *words, "--url", host.url])
    return await asyncio.to_thread(_run, options)


async def test_holds_from_the_shell_name_cameras_as_people_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    camera = uuid4()
    settings = {"cameras": [{"id": str(camera), "name": "Gate", "folder": "gate"}]}
    async with running(tmp_path, settings) as host:
        await _from_the_shell(host, camera, capsys)


async def _from_the_shell(host: Host, camera: UUID, capsys: pytest.CaptureFixture[str]) -> None:
    await host.registered(camera=camera)
    start = rfc3339(now() - timedelta(hours=1))
    assert (
        await shell(host, "add", "--camera", "gate", "--start", start, "--reason", "fire", "--by", "me") == 0
    )
    hold_id = capsys.readouterr().out.strip()
    await host.parts.upkeep.holding.settle()
    assert await shell(host, "list") == 0
    assert capsys.readouterr().out.startswith(f"{hold_id}  in force  {start} to no end  Gate  fire")
    assert await shell(host, "list", "--camera", "Gate") == 0
    assert hold_id in capsys.readouterr().out
    assert await shell(host, "put-off", hold_id, "--review", rfc3339(now() + DAY)) == 0
    assert await shell(host, "show", hold_id) == 0
    shown = capsys.readouterr().out
    assert "holds:    1 segments" in shown
    assert f"cameras:  Gate ({camera})" in shown
    assert await shell(host, "release", hold_id, "--reason", "closed", "--by", "me") == 0
    assert await shell(host, "list") == 0
    assert capsys.readouterr().out == "none\n"
    assert await shell(host, "list", "--all", "--json") == 0
    assert HoldAnswer.model_validate_json(capsys.readouterr().out).release_reason == "closed"


async def test_the_shell_says_what_is_wrong_by_its_exit_code(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await shell(host, "show", str(uuid4())) == 1
    assert "no hold" in capsys.readouterr().err
    await host.registered()
    assert await shell(host, "add", "--camera", "yard", "--start", "then", "--reason", "x") == 2
    assert "--camera: no such camera: 'yard' (known names and folders: " in capsys.readouterr().err
    assert await shell(host, "add", "--camera", str(uuid4()), "--start", "then", "--reason", "x") == 2
    assert "start_time" in capsys.readouterr().err
    gone = parser().parse_args(["hold", "list", "--url", "http://127.0.0.1:1"])
    assert await asyncio.to_thread(_run, gone) == 3
    assert "does the daemon run" in capsys.readouterr().err
