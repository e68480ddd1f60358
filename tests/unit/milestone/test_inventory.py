"""What a site consists of, from whatever it tells: cameras with recorders, storages with archives."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import pytest

from cctv_storaged.errors import BackendUnavailable, ObjectMissing
from cctv_storaged.model import TimeSpan
from tests.unit.milestone.scripted import Reply, Scripted, scripted, xprotect
from tests.unit.milestone.test_identity import SetClock
from tests.unit.milestone.test_tls import of_server

SPAN = TimeSpan(datetime(2026, 11, 22, 9, tzinfo=UTC), datetime(2026, 11, 22, 10, tzinfo=UTC))


def guid(name: str) -> UUID:
    return uuid5(UUID(int=7), name)


def child_of(kind: str, name: str, **facts: object) -> dict[str, object]:
    return {"relations": {"parent": {"type": kind, "id": str(guid(name))}}, **facts}


RECORDER = {"id": str(guid("recorder")), "name": "REC-1", "enabled": True}
HARDWARE = {"id": str(guid("hardware")), "enabled": True, **child_of("recordingServers", "recorder")}
CAMERA = {
    "id": str(guid("gate")),
    "name": "Gate",
    "enabled": True,
    "recordingEnabled": True,
    "edgeStorageEnabled": True,
    "recordingStorage": {"type": "storages", "id": str(guid("storage"))},
    **child_of("hardware", "hardware"),
}


def tell(server: Scripted, *, recorder: Any = None, hardware: Any = None, camera: Any = None) -> None:
    for kind, usual, changes in (
        ("recordingServers", RECORDER | {"webServerUri": "https://rec-1:7563/"}, recorder),
        ("hardware", HARDWARE, hardware),
        ("cameras", CAMERA, camera),
    ):
        told = [] if changes == "none" else [usual | (changes or {})]
        server.say(f"GET /api/rest/v1/{kind}", Reply({"array": told}))


async def test_a_camera_is_told_with_its_recorder_and_its_storage() -> None:
    async with scripted() as server, xprotect(server) as vms:
        tell(server)
        (camera,), (recorder,) = await vms.cameras(), await vms.recorders()
        assert all("disabled" in asked.query.split("&") for asked in server.asked if "rest" in asked.path)
    assert (camera.id, camera.name, camera.recorder_id) == (guid("gate"), "Gate", guid("recorder"))
    assert camera.storage_id == guid("storage")
    assert (camera.enabled, camera.recording_enabled, camera.edge_storage_enabled) == (True, True, True)
    assert (recorder.host, recorder.port, recorder.tls) == ("rec-1", 7563, True)


async def test_old_forms_are_read_alike() -> None:
    """Booleans as strings (before 2022 R2), GUIDs in upper case and braces."""
    old = {
        "id": f"{{{str(guid('gate')).upper()}}}",
        "enabled": "False",
        "recordingEnabled": "true",
        "edgeStorageEnabled": "False",
        "relations": {"parent": {"type": "Hardware", "id": str(guid("hardware")).upper()}},
    }
    async with scripted() as server, xprotect(server) as vms:
        tell(server, camera=old)
        (camera,) = await vms.cameras()
    assert (camera.id, camera.recorder_id) == (guid("gate"), guid("recorder"))
    assert (camera.enabled, camera.recording_enabled, camera.edge_storage_enabled) == (False, True, False)


async def test_a_camera_of_disabled_hardware_is_disabled() -> None:
    async with scripted() as server, xprotect(server) as vms:
        tell(server, hardware={"enabled": False})
        assert not (await vms.cameras())[0].enabled


@pytest.mark.parametrize(
    ("told", "overrides", "address"),
    [
        ({"activeWebServerUri": "https://other:7000/"}, {}, ("other", 7000, True)),
        ({"activeWebServerUri": "", "webServerUri": "http://rec-1/"}, {}, ("rec-1", 7563, False)),
        ({"webServerUri": "http://[::1]:7563/"}, {}, ("::1", 7563, False)),
        ({"webServerUri": None, "hostName": "rec-1", "portNumber": "7564"}, {}, ("rec-1", 7564, False)),
        ({}, {"rec-1": "10.0.0.7"}, ("10.0.0.7", 7563, True)),  # by the recorder's name, in any case
        ({"webServerUri": "https://WIN-7/"}, {"win-7": "10.0.0.8"}, ("10.0.0.8", 7563, True)),  # by its host
    ],
)
async def test_a_recorder_is_reached_at_the_address_in_use_or_the_one_that_the_settings_say(
    told: Mapping[str, object], overrides: Mapping[str, str], address: tuple[str, int, bool]
) -> None:
    async with scripted() as server, xprotect(server, recorder_host_override=overrides) as vms:
        tell(server, recorder=told)
        (recorder,) = await vms.recorders()
    assert (recorder.host, recorder.port, recorder.tls) == address


@pytest.mark.parametrize("uri", ["", "ftp://rec/", "https://", "https://rec:99999/", "https://a b/"])
async def test_a_recorder_without_an_address_hides_no_camera_and_is_not_asked(uri: str) -> None:
    async with scripted() as server, xprotect(server) as vms:
        tell(server, recorder={"webServerUri": uri})
        assert len(await vms.cameras()) == 1
        with pytest.raises(BackendUnavailable, match="REC-1 has no address"):
            await vms.reach(guid("gate"))


async def test_a_recorder_without_tls_is_read_only_where_that_is_allowed() -> None:
    """The management server may have TLS and its recorders none: tokens could be read on the way."""
    async with (
        scripted(of_server()) as server,
        xprotect(server, allow_plain_http=False) as vms,
    ):
        tell(server, recorder={"webServerUri": "http://rec-1:7563/"})
        with pytest.raises(BackendUnavailable, match="REC-1 has no TLS"):
            await vms.reach(guid("gate"))


async def test_a_camera_whose_hardware_may_not_be_seen_is_told_but_not_read() -> None:
    async with scripted() as server, xprotect(server) as vms:
        tell(server, hardware="none")
        assert len(await vms.cameras()) == 1
        with pytest.raises(BackendUnavailable, match="may not see its hardware") as caught:
            await vms.reach(guid("gate"))
    assert caught.value.reason == "auth"


async def test_the_site_is_asked_once_a_minute_however_many_ask() -> None:
    clock = SetClock()
    async with scripted() as server, xprotect(server, clock) as vms:
        tell(server)
        await vms.cameras()
        asked = len(server.asked)
        clock.at += 59
        await vms.cameras()
        await vms.recorders()
        assert len(server.asked) == asked
        clock.at += 1
        await vms.cameras()
        assert len(server.asked) > asked


async def test_a_camera_that_was_added_is_found_before_the_minute_is_over() -> None:
    clock = SetClock()
    async with scripted() as server, xprotect(server, clock) as vms:
        tell(server, camera="none")
        with pytest.raises(ObjectMissing, match="no camera"):
            await vms.reach(guid("gate"))
        clock.at += 5
        tell(server, recorder={"webServerUri": ""})
        with pytest.raises(BackendUnavailable, match="has no address"):
            await vms.reach(guid("gate"))


async def test_a_failed_question_is_not_kept() -> None:
    async with scripted() as server, xprotect(server) as vms:
        server.say("GET /api/rest/v1/recordingServers", Reply(b"", 502))
        tell_rest = dict(server.said)
        tell(server)
        server.say("GET /api/rest/v1/recordingServers", *tell_rest["GET /api/rest/v1/recordingServers"])
        with pytest.raises(BackendUnavailable):
            await vms.cameras()
        tell(server)
        assert len(await vms.cameras()) == 1


# -- storages


STORAGE = f"GET /api/rest/v1/storages/{guid('storage')}"
MB = 1024 * 1024


def tell_storage(server: Scripted, told: Mapping[str, object], archives: list[dict[str, object]]) -> None:
    server.say(STORAGE, Reply({"data": {"id": str(guid("storage")), "name": "Disk", **told}}))
    server.say(f"{STORAGE}/archiveStorages", Reply({"array": archives}))


async def test_a_storage_is_told_with_its_archives() -> None:
    async with scripted() as server, xprotect(server) as vms:
        tell_storage(
            server,
            {"retainMinutes": 60, "maxSize": "100", "signing": True},
            [{"id": str(guid("archive")), "retainMinutes": 1440, "maxSize": 900, "mounted": True}],
        )
        information = "GET /api/rest/v1/{}/{}".format
        server.say(
            information("storageInformation", guid("storage")),
            Reply({"data": {"usedSpace": 40, "isAvailable": True}}),
        )
        server.say(
            information("archiveStorageInformation", guid("archive")),
            Reply({"data": {"usedSpace": 60, "isAvailable": True}}),
        )
        storage = await vms.storage(guid("storage"))
        asked = len(server.asked)
        assert await vms.storage(guid("storage")) == storage
        assert len(server.asked) == asked
    assert storage.retention == timedelta(days=1)
    assert (storage.size_bytes, storage.used_bytes) == (1000 * MB, 100 * MB)
    assert (storage.available, storage.signed) == (True, True)


async def test_what_a_storage_does_not_tell_is_not_made_up() -> None:
    async with scripted() as server, xprotect(server) as vms:
        tell_storage(server, {}, [])
        storage = await vms.storage(guid("storage"))
    assert (storage.retention, storage.size_bytes, storage.used_bytes) == (None, None, None)
    assert (storage.available, storage.signed) == (None, None)


@pytest.mark.parametrize("archive", [{"mounted": False}, {"mounted": "False"}])
async def test_an_archive_that_is_not_there_makes_the_storage_unavailable(archive: dict[str, object]) -> None:
    async with scripted() as server, xprotect(server) as vms:
        tell_storage(server, {}, [{"id": str(guid("archive")), **archive}])
        information = f"GET /api/rest/v1/storageInformation/{guid('storage')}"
        server.say(information, Reply({"data": {"isAvailable": True}}))
        assert (await vms.storage(guid("storage"))).available is False


async def test_a_storage_that_is_not_known_is_missing() -> None:
    async with scripted() as server, xprotect(server) as vms:
        with pytest.raises(ObjectMissing):
            await vms.storage(guid("storage"))


async def test_a_camera_that_is_not_known_is_missing_everywhere() -> None:
    async with scripted() as server, xprotect(server) as vms:
        tell(server, camera="none")
        with pytest.raises(ObjectMissing):
            await vms.recorded(guid("gate"), SPAN)
        with pytest.raises(ObjectMissing):
            await vms.retrieve(guid("gate"), SPAN, guid("job"))
        with pytest.raises(ObjectMissing):
            async with vms.footage(guid("gate"), SPAN):
                pass


@pytest.mark.parametrize(
    "camera",
    [
        {"id": "none"},
        {"id": None},
        {"enabled": "perhaps"},
        {"enabled": 1.5},
        {"name": ["x"]},
        {"name": "x" * 100_000},
        {"recordingStorage": {"id": "disk 1"}},
    ],
)
async def test_a_camera_that_cannot_be_read_is_a_fault_of_the_server(camera: dict[str, object]) -> None:
    async with scripted() as server, xprotect(server) as vms:
        tell(server, camera=camera)
        with pytest.raises(BackendUnavailable) as caught:
            await vms.cameras()
    assert caught.value.reason == "server"
