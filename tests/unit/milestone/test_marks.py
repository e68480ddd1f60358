"""Marks, events, alarms and retrievals: what is sent, and what each answer and refusal is taken for."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid5

import pytest

from cctv_storaged.backends.milestone.base import Mark, TaskState
from cctv_storaged.errors import (
    BackendError,
    BackendUnavailable,
    ObjectMissing,
    ObjectRejected,
    Unsupported,
)
from cctv_storaged.model import TimeSpan
from tests.unit.milestone.scripted import Asked, Reply, Scripted, scripted, xprotect
from tests.unit.milestone.test_inventory import guid, tell

NINE = datetime(2026, 11, 22, 9, tzinfo=UTC)
MARK = Mark(
    camera_id=guid("gate"),
    span=TimeSpan(NINE + timedelta(microseconds=1), NINE + timedelta(minutes=5, microseconds=1)),
    header="Case 42",
    description="Ä <b>",
    reference="INC-42",
)
ID = uuid5(UUID(int=7), "made")
BOOKMARKS = "POST /api/rest/v1/bookmarks"
LOCKS = "POST /api/rest/v1/evidenceLocks"
LOCK = f"/api/rest/v1/evidenceLocks/{ID}"
EVENTS = "POST /api/rest/v1/events"
ALARMS = "POST /api/rest/v1/alarms"
CAMERA_TASK = f"POST /api/rest/v1/cameras/{guid('gate')}"
DEVICE = {"type": "cameras", "id": str(guid("gate")).upper()}


def refusal(status: int, text: str = "no", named: str = "") -> Reply:
    details = [{"errorText": text, "property": named}]
    return Reply({"error": {"httpCode": str(status), "details": details}}, status)


# -- bookmarks


@pytest.mark.parametrize(
    "body",
    [
        {"result": {"id": str(ID)}},
        {"data": {"id": f"{{{ID}}}"}},
        {"id": str(ID)},
        {"result": {"relations": {"self": {"type": "bookmarks", "id": str(ID)}}}},
    ],
)
async def test_a_bookmark_is_made_around_its_span(body: object) -> None:
    async with scripted() as server, xprotect(server) as vms:
        server.say(BOOKMARKS, Reply(body, 201))
        assert await vms.bookmark(MARK) == ID
        sent = server.of(BOOKMARKS)[0].json
    assert sent == {
        "header": "Case 42",
        "description": "Ä <b>",
        "timeBegin": "2026-11-22T09:00:00.000Z",
        "timeTriggered": "2026-11-22T09:00:00.000Z",
        "timeEnd": "2026-11-22T09:05:00.001Z",
        "reference": "INC-42",
        "devicePath": {"type": "cameras", "id": str(guid("gate"))},
    }


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (refusal(400, "bad", "header"), ObjectRejected),
        (refusal(403), ObjectRejected),  # a right that is lacking; the site itself is not away for it
        (refusal(404), Unsupported),
        (refusal(503), BackendUnavailable),
        (Reply({"result": {}}, 201), BackendUnavailable),
        (Reply({"result": {"id": "first"}}, 201), BackendUnavailable),
    ],
)
async def test_a_bookmark_that_is_not_made_says_why(reply: Reply, kind: type[BackendError]) -> None:
    async with scripted() as server, xprotect(server) as vms:
        server.say(BOOKMARKS, reply)
        with pytest.raises(BackendError) as caught:
            await vms.bookmark(MARK)
    assert isinstance(caught.value, kind)
    assert not isinstance(caught.value, Unsupported) or kind is Unsupported


@pytest.mark.parametrize("what", ["bookmark", "lock"])
async def test_before_2024_r2_there_are_no_marks_and_none_is_asked_for(what: str) -> None:
    async with scripted() as server, xprotect(server) as vms:
        server.say("GET /api/.well-known/uris", Reply({"ProductVersion": "24.1.12345.6"}))
        with pytest.raises(Unsupported, match=r"2024 R2.*24\.1\.12345\.6"):
            await getattr(vms, what)(MARK)
        assert not [asked for asked in server.asked if "rest" in asked.path]


@pytest.mark.parametrize("reply", [Reply(b"", 204), Reply({"result": {}}), refusal(404), Reply(b"", 404)])
async def test_a_mark_that_is_gone_is_removed(reply: Reply) -> None:
    async with scripted() as server, xprotect(server) as vms:
        server.say(f"DELETE /api/rest/v1/bookmarks/{ID}", reply)
        server.say(f"DELETE {LOCK}", reply)
        await vms.remove_bookmark(ID)
        await vms.unlock(ID)


async def test_a_page_that_is_not_the_apis_does_not_count_as_removed() -> None:
    async with scripted() as server, xprotect(server) as vms:
        server.say(f"DELETE {LOCK}", Reply(b"<html>not found</html>", 404))
        with pytest.raises(BackendUnavailable):
            await vms.unlock(ID)


# -- evidence locks


async def test_a_lock_is_for_ever_and_shown_to_cover_the_camera() -> None:
    async with scripted() as server, xprotect(server) as vms:
        server.say(LOCKS, Reply({"result": {"id": str(ID), "devicePaths": [DEVICE]}}, 201))
        assert await vms.lock(MARK) == ID
        sent = server.of(LOCKS)[0].json
    assert sent["retentionExpire"] == "9999-12-31T22:59:59.9999999Z"
    assert sent["retentionOption"] == {"retentionUnits": -1, "retentionType": "Indefinite"}
    assert sent["devicePaths"] == [{"type": "cameras", "id": str(guid("gate"))}]
    assert sent["startTime"] <= sent["tagTime"] <= sent["endTime"] == "2026-11-22T09:05:00.001Z"


async def test_a_lock_whose_answer_does_not_tell_its_devices_is_looked_at() -> None:
    async with scripted() as server, xprotect(server) as vms:
        server.say(LOCKS, Reply({"result": {"id": str(ID)}}))
        server.say(f"GET {LOCK}", Reply({"data": {"id": str(ID), "devicePaths": [DEVICE]}}))
        assert await vms.lock(MARK) == ID


@pytest.mark.parametrize(
    "told",
    [
        {"devicePaths": [{"type": "cameras", "id": str(guid("yard"))}]},
        {"devicePaths": [DEVICE], "endTime": "2026-11-22T09:01:00Z"},
        {"devicePaths": [DEVICE], "startTime": "2026-11-22T09:04:00Z"},
    ],
)
async def test_a_lock_that_does_not_cover_all_is_taken_away_again(told: dict[str, object]) -> None:
    async with scripted() as server, xprotect(server) as vms:
        server.say(LOCKS, Reply({"result": {"id": str(ID), **told}}, 201))
        server.say(f"DELETE {LOCK}", Reply(b"", 204))
        with pytest.raises(ObjectRejected, match="did not take") as caught:
            await vms.lock(MARK)
        assert len(server.of(f"DELETE {LOCK}")) == 1
    assert not isinstance(caught.value, Unsupported)


@pytest.mark.parametrize("status", [400, 403, 404, 405, 501])
async def test_a_refusal_that_blames_no_field_is_the_editions(status: int) -> None:
    async with scripted() as server, xprotect(server) as vms:
        server.say(LOCKS, refusal(status))
        with pytest.raises(Unsupported, match="Corporate"):
            await vms.lock(MARK)


async def test_a_refusal_that_blames_a_field_is_of_this_lock() -> None:
    async with scripted() as server, xprotect(server) as vms:
        server.say(LOCKS, refusal(400, "too long", "header"))
        with pytest.raises(ObjectRejected, match="too long") as caught:
            await vms.lock(MARK)
    assert not isinstance(caught.value, Unsupported)


# -- events and alarms


async def test_an_event_is_sent_by_its_type_alone() -> None:
    async with scripted() as server, xprotect(server) as vms:
        server.say(EVENTS, Reply({"data": {"id": str(ID)}}, 202))
        await vms.send_event(ID, guid("gate"))
        assert server.of(EVENTS)[0].json == {"type": str(ID)}


async def test_an_event_that_the_site_does_not_have_is_told_with_its_setting() -> None:
    async with scripted() as server, xprotect(server) as vms:
        server.say(EVENTS, refusal(400))
        server.say("GET /api/rest/v1/userDefinedEvents", Reply({"array": [{"id": str(guid("other"))}]}))
        with pytest.raises(ObjectMissing, match=r"milestone\.retrieval_event_id"):
            await vms.send_event(ID, guid("gate"))
        server.say("GET /api/rest/v1/userDefinedEvents", Reply({"array": [{"id": str(ID)}]}))
        with pytest.raises(ObjectRejected):
            await vms.send_event(ID, guid("gate"))


async def test_an_alarm_names_its_camera() -> None:
    async with scripted() as server, xprotect(server) as vms:
        server.say(ALARMS, Reply({"data": {}}, 202))
        await vms.raise_alarm(guid("gate"), "gap", "09:00")
        sent = server.of(ALARMS)[0].json
    assert sent == {"name": "gap", "message": "09:00", "source": str(guid("gate"))}


# -- retrievals


def offers(server: Scripted, *tasks: str) -> None:
    told = {"tasks": [{"id": task, "displayName": task} for task in tasks]}
    server.say(CAMERA_TASK.replace("POST", "GET"), Reply(told))


async def retrieved(server: Scripted, *replies: Reply) -> str:
    async with xprotect(server) as vms:
        server.say(CAMERA_TASK, *replies)
        return await vms.retrieve(guid("gate"), MARK.span, ID)


@pytest.mark.parametrize("status", [200, 201])
@pytest.mark.parametrize(
    "body",
    [
        {"result": {"state": "Idle", "path": {"type": "tasks", "id": "T-7"}}},
        {"data": {"state": "Idle", "path": {"type": "Tasks", "id": "T-7"}}},
        {"path": {"type": "tasks", "id": "T-7"}},
    ],
)
async def test_a_retrieval_answers_its_task(body: object, status: int) -> None:
    async with scripted() as server:
        tell(server)
        assert await retrieved(server, Reply(body, status)) == "T-7"
        (asked,) = server.of(CAMERA_TASK)
    assert asked.query == "task=RetrieveEdgeStorage"
    assert asked.json == {
        "startTime": "2026-11-22T09:00:00.000Z",
        "endTime": "2026-11-22T09:05:00.001Z",
        "identifier": str(ID),
        "relatedTasks": "",
    }


async def test_what_was_done_at_once_counts_as_done() -> None:
    async with scripted() as server, xprotect(server) as vms:
        tell(server)
        task = await retrieved(server, Reply({"result": {"state": "Success"}}))
        progress = await vms.task(task)
        await vms.clean_up(task)
        assert not [asked for asked in server.asked if "tasks" in asked.path]
    assert (progress.state, progress.percent) == (TaskState.SUCCESS, 100)


async def test_an_identifier_that_is_known_already_leads_to_the_task_that_has_it() -> None:
    async with scripted() as server:
        tell(server)
        known = [
            {"id": "T-1", "identifier": str(guid("other"))},
            {"id": "T-2", "identifier": f"{{{ID}}}".upper()},
        ]
        server.say("GET /api/rest/v1/tasks", Reply({"array": known}))
        assert await retrieved(server, refusal(400, "exists", "identifier")) == "T-2"


async def test_an_identifier_that_is_known_and_not_told_is_left_out() -> None:
    async with scripted() as server:
        tell(server)
        server.say("GET /api/rest/v1/tasks", Reply({"array": [{"id": "T-1"}]}))
        made = Reply({"result": {"path": {"type": "tasks", "id": "T-3"}}})
        assert await retrieved(server, refusal(400, "exists", "identifier"), made) == "T-3"
        assert [asked.json["identifier"] for asked in server.of(CAMERA_TASK)] == [str(ID), ""]


@pytest.mark.parametrize(
    ("reply", "tasks", "edge", "kind", "words"),
    [
        (refusal(400), ("GetSequences",), True, Unsupported, "2025 R2"),
        (refusal(404), (), True, Unsupported, "Professional"),
        (refusal(403), ("RetrieveEdgeStorage",), True, Unsupported, "right"),
        (refusal(400), ("RetrieveEdgeStorage",), False, ObjectRejected, "remote recording is not enabled"),
        (refusal(400, "no", "startTime"), ("RetrieveEdgeStorage",), True, ObjectRejected, "startTime"),
        (Reply({"result": {"state": "Error", "errorText": "busy"}}), (), True, ObjectRejected, "busy"),
        (Reply({"result": {"state": "Idle"}}), (), True, BackendUnavailable, "names no task"),
        (
            Reply({"result": {"path": {"type": "tasks", "id": "../x"}}}),
            (),
            True,
            BackendUnavailable,
            "names no",
        ),
        (refusal(502), (), True, BackendUnavailable, "502"),
    ],
)
async def test_a_retrieval_that_is_refused_says_whose_matter_it_is(
    reply: Reply, tasks: tuple[str, ...], edge: bool, kind: type[BackendError], words: str
) -> None:
    async with scripted() as server:
        tell(server, camera={"edgeStorageEnabled": edge})
        offers(server, *tasks)
        with pytest.raises(kind, match=words) as caught:
            await retrieved(server, reply)
    assert isinstance(caught.value, Unsupported) == (kind is Unsupported)


@pytest.mark.parametrize(
    ("told", "state", "percent"),
    [
        ({"state": "Idle", "progress": 0}, TaskState.RUNNING, 0),
        ({"state": "InProgress", "progress": "40"}, TaskState.RUNNING, 40),
        ({"state": "InProgress", "progress": 140}, TaskState.RUNNING, 100),
        ({"state": "InProgress", "progress": -5}, TaskState.RUNNING, 0),
        ({"state": "SUCCESS", "progress": 12}, TaskState.SUCCESS, 100),
        ({"state": "Success"}, TaskState.SUCCESS, 100),
        ({}, TaskState.RUNNING, 0),
    ],
)
async def test_a_task_tells_how_far_it_is(told: object, state: TaskState, percent: int) -> None:
    async with scripted() as server, xprotect(server) as vms:
        server.say("GET /api/rest/v1/tasks/7", Reply({"data": told}))
        progress = await vms.task("7")
    assert (progress.state, progress.percent, progress.error) == (state, percent, None)


async def test_a_task_that_failed_tells_its_number() -> None:
    async with scripted() as server, xprotect(server) as vms:
        told = {"state": "Error", "progress": 30, "errorCode": 60277, "errorText": "VMO60277: no\r\ndevice"}
        server.say("GET /api/rest/v1/tasks/7", Reply({"data": told}))
        progress = await vms.task("7")
    assert progress.state is TaskState.ERROR
    assert progress.error == "60277: VMO60277: no  device"


@pytest.mark.parametrize("task", ["unknown", "..", "../sites", "a b", "", "x" * 200])
async def test_a_task_that_is_not_known_is_missing_and_clean(task: str) -> None:
    async with scripted() as server, xprotect(server) as vms:
        with pytest.raises(ObjectMissing):
            await vms.task(task)
        await vms.clean_up(task)
        assert all(asked.path.endswith("/tasks/unknown") for asked in server.asked if "tasks" in asked.path)


async def test_a_task_is_cleaned_up_by_a_task() -> None:
    seen: list[str] = []

    def note(asked: Asked) -> Reply:
        seen.append(asked.query)
        return Reply({"result": {"state": "Success"}})

    async with scripted() as server, xprotect(server) as vms:
        server.say("POST /api/rest/v1/tasks/7", note)
        await vms.clean_up("7")
    assert seen == ["task=TaskCleanup"]
