"""The simulator of XProtect against the examples and rules of published material, by raw requests.

It is the check on the client, so nothing here uses the client. The recorder's port has tests of its own.
"""

import asyncio
import base64
import os
import shutil
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from uuid import uuid4

import aiohttp
import pytest

from cctv_storaged.model import TimeSpan
from tests.daemon import wait_until
from tests.fakes.xprotect import management
from tests.fakes.xprotect.signals import BUILT_IN_EVENTS, RETRIEVAL_EVENT
from tests.fakes.xprotect.site import EdgeFile
from tests.footage import cached_ts
from tests.services.rawxprotect import BOOKMARK, GRANT, LOCK, NINE, Client, envelope, login, recorded, site
from tests.services.xprotect import PASSWORD, USER, running_site, simulator

# -- identity and discovery


async def test_the_uris_are_told_without_a_log_in_and_in_any_case() -> None:
    async with site() as client:
        for path in ("/api/.well-known/uris", "/API/.well-known/URIs"):
            async with client.http.get(client.simulator.site.url + path) as got:
                told = await got.json()
            assert told["ProductVersion"] == "25.2.5600.1" and told["ApiGateways"][0].endswith("/API/")
        async with client.http.get(
            client.simulator.site.url + "/idp/.well-known/openid-configuration"
        ) as got:
            assert (await got.json())["server_version"] == "25.2.5600.1"
        client.simulator.site.assumptions.paths_case_sensitive = True
        assert (await client.ask("GET", "/Api/.well-known/uris", rest=False))[0] == 404
        assert (await client.ask("GET", "/API/rest/v1/sites", rest=False))[0] == 200
        assert (await client.ask("GET", "/api/rest/v1/Sites", rest=False))[0] == 404


async def test_a_token_is_given_on_both_paths_and_ends_when_it_said() -> None:
    async with site() as client:
        client.simulator.site.faults.token_lifetime_s = 0
        status, told = await client.log_in()
        assert (status, told["token_type"], told["expires_in"]) == (200, "Bearer", 0)
        late = Client(client.simulator, client.http, told["access_token"])
        assert (await late.ask("GET", "/sites"))[0] == 401
        async with client.http.post(client.simulator.site.url + "/IDP/connect/token", data=GRANT) as got:
            assert got.status == 200


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"password": "wrong"}, "invalid_grant"),
        ({"client_id": "somebody"}, "invalid_client"),
        ({"grant_type": "windows_credentials"}, "invalid_grant"),
        ({"grant_type": "implicit"}, "unsupported_grant_type"),
    ],
)
async def test_a_bad_log_in_is_refused_in_the_way_of_oauth(form: dict[str, str], error: str) -> None:
    async with site() as client:
        status, told = await client.log_in(**form)
        assert (status, told["error"]) == (400, error) and "error_description" in told


async def test_without_a_good_token_rest_answers_401_in_either_shape() -> None:
    async with site() as client:
        nobody = Client(client.simulator, client.http, "made up")
        status, told = await nobody.ask("GET", "/cameras")
        assert status == 401 and told["error"]["httpCode"] == 401 and told["error"]["details"][0]["errorText"]
        client.simulator.site.assumptions.set({"error_wrapped": False, "http_code_string": True})
        client.simulator.site.faults.unauthorized_next = 1
        status, told = await client.ask("GET", "/cameras")
        assert status == 401 and told["httpCode"] == "401" and "error" not in told
        assert (await client.ask("GET", "/cameras"))[0] == 200


# -- the Config API


async def test_a_camera_leads_over_its_hardware_to_its_recorder_and_to_its_storage() -> None:
    async with site() as client:
        camera = (await client.get(f"/cameras/{client.gate.id}"))["data"]
        hardware = (await client.get(f"/hardware/{camera['relations']['parent']['id']}"))["data"]
        recorder = (await client.get(f"/recordingServers/{hardware['relations']['parent']['id']}"))["data"]
        assert recorder["webServerUri"] == client.simulator.site.web_server_uri
        storage = camera["recordingStorage"]["id"]
        assert await client.names(f"/recordingServers/{recorder['id']}/storages") == ["Local default"]
        assert (await client.get(f"/storages/{storage}"))["data"]["retainMinutes"] == 10_080
        assert await client.names(f"/storages/{storage}/archiveStorages") == ["Archive"]
        assert (await client.get(f"/storageInformation/{storage}"))["data"]["isAvailable"] is True
        assert await client.names(f"/hardware/{hardware['id']}/cameras") == ["gate"]
        assert (await client.ask("GET", f"/cameras/{uuid4()}"))[0] == 404


async def test_lists_leave_out_what_is_disabled_and_obey_pages_and_filters() -> None:
    async with site("gate", "yard", "yard-2") as client:
        client.simulator.site.faults.disabled_cameras = [str(client.gate.id)]
        assert await client.names("/cameras") == ["yard", "yard-2"]
        assert await client.names("/cameras?disabled") == ["gate", "yard", "yard-2"]
        assert await client.names("/cameras?disabled&page=1&size=2") == ["yard-2"]
        assert await client.names("/cameras?name='yard'") == ["yard"]
        assert await client.names("/cameras?name=startsWith:'yard'") == ["yard", "yard-2"]
        assert await client.names("/cameras?disabled&name=notEquals:'yard'") == ["gate", "yard-2"]
        client.simulator.site.assumptions.set({"unpaged_limit": 1, "size_limit": 2})
        assert await client.names("/cameras?disabled") == ["gate"]
        assert await client.names("/cameras?disabled&size=100") == ["gate", "yard"]
        told = await client.get(f"/cameras/{client.gate.id}?tasks&noData")
        assert told.keys() == {"tasks"} and "GetSequences" in {each["id"] for each in told["tasks"]}


async def test_booleans_times_and_ids_are_spelt_as_is_assumed() -> None:
    async with site() as client:
        client.simulator.site.assumptions.set(
            {"booleans_as_strings": True, "time_form": "offset", "id_in_upper_case": True}
        )
        camera = (await client.get(f"/cameras/{client.gate.id}"))["data"]
        assert camera["enabled"] == "True" and camera["id"] == str(client.gate.id).upper()
        assert camera["lastModified"] == "2026-01-05T10:00:00.0000000+02:00"


# -- sequences


async def test_sequences_are_told_with_their_rule_of_gaps_whole_or_clipped() -> None:
    async with site() as client:
        await recorded(client, 0, 4, 20)
        status, told = await client.sequences()
        assert status == 200 and told["result"]["state"] == "Success"
        spans = [(each["timeBegin"], each["timeEnd"]) for each in told["result"]["sequences"]]
        assert spans == [
            ("2026-11-22T09:00:00.0000000Z", "2026-11-22T09:00:07.9600000Z"),
            ("2026-11-22T09:00:20.0000000Z", "2026-11-22T09:00:23.9600000Z"),
        ]
        inner = {"time": "2026-11-22T09:00:05Z", "timeBefore": "000.00:00:01", "timeAfter": "000.00:00:01"}
        assert (await client.sequences(**inner))[1]["result"]["sequences"][0]["timeBegin"] == spans[0][0]
        client.simulator.site.assumptions.set({"sequences_clipped": True, "sequences_wrapper": "bare"})
        _, told = await client.sequences(**inner)
        assert told["sequences"][0]["timeBegin"] == "2026-11-22T09:00:04.0000000Z"
        assert told["sequences"][0]["timeEnd"] == "2026-11-22T09:00:06.0000000Z"


async def test_counts_of_sequences_are_taken_from_the_time_outwards() -> None:
    async with site() as client:
        await recorded(client, 0, 10, 20, 30)
        _, told = await client.sequences(time="2026-11-22T09:00:15Z", maxCountBefore=1, maxCountAfter=1)
        begins = [each["timeBegin"][17:19] for each in told["result"]["sequences"]]
        assert begins == ["10", "20"]


async def test_what_a_task_misses_is_named_and_an_absent_task_is_told_in_two_ways() -> None:
    async with site() as client:
        status, told = await client.ask("POST", f"/cameras/{client.gate.id}?task=GetSequences", {})
        assert status == 400 and {"sequenceType", "time", "timeBefore"} <= told["params"].keys()
        assert (await client.sequences(timeBefore="00:05:30"))[0] == 400
        for status_text in ("400", "404"):
            client.simulator.site.assumptions.set({"rest_sequences": status_text})
            assert (await client.sequences())[0] == int(status_text)


async def test_retention_can_eat_what_was_just_told() -> None:
    async with site() as client:
        await recorded(client, 0)
        client.simulator.site.faults.eat_after_sequences = 1
        assert (await client.sequences())[1]["result"]["sequences"]
        assert not (await client.sequences())[1]["result"]["sequences"]


# -- retrieval


async def with_edge(client: Client) -> None:
    path = await asyncio.to_thread(cached_ts, seconds=4)
    client.simulator.site.edge[client.gate.id] = [EdgeFile(path=path, start=NINE)]


async def test_a_retrieval_goes_from_idle_over_progress_to_success_and_is_cleaned_up() -> None:
    async with site() as client:
        await with_edge(client)
        status, answer = await client.retrieve()
        assert status == 200 and answer["result"]["state"] == "Idle"
        told = await client.ended(answer)
        assert told[0]["state"] == "InProgress" and told[0]["taskType"] == "StorageRetrieval"
        assert (told[-1]["state"], told[-1]["progress"]) == ("Success", 100)
        assert len(client.simulator.site.media.sequences(client.gate.id)) == 1
        name = told[-1]["id"]
        assert await client.ask("POST", f"/tasks/{name}?task=TaskCleanup") == (
            200,
            {"result": {"state": "Success"}},
        )
        assert (await client.ask("GET", f"/tasks/{name}"))[0] == 404


async def test_a_retrieval_that_fails_says_its_number() -> None:
    async with site() as client:
        await with_edge(client)
        client.simulator.site.faults.task_error = 60277
        last = (await client.ended((await client.retrieve())[1]))[-1]
        assert (last["state"], last["errorCode"]) == ("Error", 60277) and "VMO60277" in last["errorText"]
        assert not client.simulator.site.media.sequences(client.gate.id)


async def test_a_retrieval_is_refused_without_remote_recording_or_edition() -> None:
    async with site() as client:
        client.simulator.site.faults.not_edge_cameras = [str(client.gate.id)]
        assert (await client.retrieve())[0] == 400
        client.simulator.site.faults.set({"not_edge_cameras": [], "edition": "Express+"})
        assert (await client.retrieve())[0] == 400
        assert not client.simulator.tasks.known


@pytest.mark.parametrize(
    ("reuse", "status", "known"), [("merged", 200, 1), ("rejected", 400, 1), ("again", 200, 2)]
)
async def test_an_identifier_that_comes_again_is_met_in_three_ways(
    reuse: str, status: int, known: int
) -> None:
    async with site() as client:
        await with_edge(client)
        client.simulator.site.assumptions.set({"identifier_reuse": reuse})
        identifier = str(uuid4())
        assert (await client.retrieve(identifier))[0] == 200
        assert (await client.retrieve(identifier))[0] == status
        assert len(client.simulator.tasks.known) == known
        assert (await client.retrieve("no guid"))[0] == 400


async def test_a_rule_retrieves_when_its_event_is_triggered() -> None:
    async with site(rule_retrieves=timedelta(days=36500)) as client:
        await with_edge(client)
        types = {each["id"] for each in (await client.get("/userDefinedEvents"))["array"]}
        assert {str(each) for each in (*BUILT_IN_EVENTS, RETRIEVAL_EVENT)} <= types
        event = {"type": str(RETRIEVAL_EVENT), "source": str(client.gate.id)}
        status, told = await client.ask("POST", "/events", event)
        assert status == 202 and (await client.get(f"/events/{told['data']['id']}"))["data"]
        (task,) = client.simulator.tasks.known
        await client.ended({"result": {"path": {"id": str(task)}}})
        assert client.simulator.site.media.sequences(client.gate.id)


# -- marks


async def test_a_bookmark_lives_by_its_id_and_has_no_collection() -> None:
    async with site() as client:
        mark = BOOKMARK | {"devicePath": {"type": "cameras", "id": str(client.gate.id)}}
        status, told = await client.ask("POST", "/bookmarks", mark)
        assert status == 201
        name = told["result"]["id"]
        assert (await client.get(f"/bookmarks/{name}"))["data"]["reference"] == "INC-42"
        later = {"timeEnd": "2026-11-22T10:00:00Z"}
        assert (await client.ask("PATCH", f"/bookmarks/{name}", later))[0] == 200
        assert (await client.get(f"/bookmarks/{name}"))["data"]["timeEnd"] == "2026-11-22T10:00:00.0000000Z"
        assert (await client.ask("GET", "/bookmarks"))[0] == 400
        assert (await client.ask("DELETE", f"/bookmarks/{name}"))[0] == 200
        assert (await client.ask("DELETE", f"/bookmarks/{name}"))[0] == 404


async def test_bookmarks_that_blogs_show_are_refused_and_old_versions_have_none() -> None:
    async with site() as client:
        status, told = await client.ask("POST", "/bookmarks", BOOKMARK | {"cameraId": str(client.gate.id)})
        assert status == 400 and "devicePath" in told["params"]
        backwards = {"timeTriggered": "2026-11-22T08:00:00Z"}
        path = {"devicePath": {"type": "cameras", "id": str(client.gate.id)}}
        assert (await client.ask("POST", "/bookmarks", BOOKMARK | path | backwards))[0] == 400
        client.simulator.site.faults.version = "23.3.1.1"
        assert (await client.ask("POST", "/bookmarks", BOOKMARK | path))[0] == 404


async def test_a_lock_keeps_footage_from_retention_until_it_is_deleted() -> None:
    async with site() as client:
        await recorded(client, 0)
        media, camera = client.simulator.site.media, client.gate.id
        paths = {"devicePaths": [{"type": "cameras", "id": str(camera)}]}
        status, told = await client.ask("POST", "/evidenceLocks", LOCK | paths)
        assert status == 201 and told["result"]["retentionSize"] > 0
        media.purge(datetime.now(UTC) + timedelta(days=36500), timedelta(0))
        kept = media.sequences(camera)
        assert kept and (kept[0].end_ms - kept[0].start_ms) < 3000, "only what the lock covers is left"
        assert (await client.ask("DELETE", f"/evidenceLocks/{told['result']['id']}"))[0] == 200
        media.purge(datetime.now(UTC) + timedelta(days=36500), timedelta(0))
        assert not media.sequences(camera)


async def test_locks_are_for_corporate_and_may_be_partial() -> None:
    async with site() as client:
        paths = {
            "devicePaths": [{"type": "cameras", "id": str(each.id)} for each in client.simulator.site.cameras]
        }
        client.simulator.site.faults.set({"edition": "Expert", "partial_locks": True})
        assert (await client.ask("POST", "/evidenceLocks", LOCK | paths))[0] == 403
        client.simulator.site.faults.edition = "Corporate"
        _, told = await client.ask("POST", "/evidenceLocks", LOCK | paths)
        assert [each["id"] for each in told["result"]["devicePaths"]] == [str(client.gate.id)]


async def test_an_alarm_is_taken_and_kept() -> None:
    async with site() as client:
        alarm = {"name": "coverage gap", "message": "09:00", "source": str(client.gate.id)}
        assert (await client.ask("POST", "/alarms", alarm))[0] == 202
        assert [each.message for each in client.simulator.signals.alarms] == ["09:00"]
        assert (await client.ask("POST", "/alarms", {"name": "coverage gap"}))[0] == 400


# -- SOAP of the management server


async def test_a_soap_log_in_gives_the_recorders_token_and_renews_it() -> None:
    async with site() as client:
        tokens = client.simulator.site.tokens
        status, text = await client.soap(login())
        token = text.split("<Token>")[1].split("</Token>")[0]
        assert status == 200 and "<MicroSeconds>14400000000</MicroSeconds>" in text
        assert tokens.corporate_is_good(token) and not tokens.corporate_is_good(client.token)
        assert (await client.soap(login(token)))[0] == 200
        assert (await client.soap(login(token, uuid4())))[0] == 500, "another instance's token"
        ended = login(token).replace("Login", "Logout")
        assert (await client.soap(ended, "Logout"))[0] == 200
        assert not tokens.corporate_is_good(token)


async def test_soap_refuses_prefixes_wrong_actions_and_bad_tokens() -> None:
    async with site() as client:
        prefixed = (
            f'<a:Login xmlns:a="{management.NAMESPACE}"><a:instanceId>{uuid4()}</a:instanceId></a:Login>'
        )
        for body, action in ((prefixed, "Login"), (login(), "Logout"), ("<Login/>", "Login")):
            status, text = await client.soap(body, action)
            assert status == 500 and "faultstring" in text
        assert (await client.soap(login(), Authorization="Bearer made up"))[0] == 401


# -- faults


async def test_a_management_server_that_is_away_refuses_and_comes_back() -> None:
    async with site() as client:
        await client.simulator.set_faults(management="refused")
        with pytest.raises(aiohttp.ClientError):
            await client.get("/sites")
        await client.simulator.set_faults(management="unavailable")
        assert (await client.ask("GET", "/sites"))[0] == 503
        await client.simulator.set_faults(management="no", bad_gateway_next=1, bad_gateway_status=504)
        assert [(await client.ask("GET", "/sites"))[0] for _ in range(2)] == [504, 200]


async def test_a_lost_answer_leaves_what_was_done() -> None:
    async with site() as client:
        client.simulator.site.faults.lose_answer_next = 1
        with pytest.raises(aiohttp.ClientError):
            await client.ask("POST", "/userDefinedEvents", {"name": "made"})
        assert "made" in client.simulator.signals.event_types.values()


async def test_a_wrong_clock_is_seen_in_every_answers_date_and_at_the_soap_log_in() -> None:
    async with site() as client:
        client.simulator.site.faults.clock_skew_s = 3600
        async with client.http.get(client.simulator.site.url + "/api/.well-known/uris") as got:
            date = parsedate_to_datetime(got.headers["Date"])
        registered = (await client.soap(login()))[1].split("<RegistrationTime>")[1][:19] + "+00:00"
        for told in (date, datetime.fromisoformat(registered)):
            assert timedelta(minutes=50) < told - datetime.now(UTC) < timedelta(minutes=70)


async def test_what_befalls_cameras_storage_and_recorder_is_told_by_rest() -> None:
    async with site() as client:
        gate = str(client.gate.id)
        client.simulator.site.faults.set(
            {
                "deleted_cameras": [gate],
                "not_recording_cameras": [str(client.simulator.site.cameras[1].id)],
                "storage_full": True,
                "storage_available": False,
                "retain_minutes": 60,
                "web_server_host": "REC-01",
                "hardware_disabled": True,
            }
        )
        assert (await client.ask("GET", f"/cameras/{gate}"))[0] == 404
        (camera,) = (await client.get("/cameras"))["array"]
        assert camera["recordingEnabled"] is False
        storage = camera["recordingStorage"]["id"]
        assert (await client.get(f"/storages/{storage}"))["data"]["retainMinutes"] == 60
        live = (await client.get(f"/storageInformation/{storage}"))["data"]
        assert live["usedSpace"] == 102_400 and live["isAvailable"] is False
        (recorder,) = (await client.get("/recordingServers"))["array"]
        assert recorder["webServerUri"].startswith("http://REC-01:")
        assert not await client.names("/hardware") and len(await client.names("/hardware?disabled")) == 1


async def test_the_older_soap_service_takes_the_basic_users_name_and_password() -> None:
    async with site() as client:
        url = f"{client.simulator.site.url}/ManagementServer/ServerCommandService.svc"
        sent = {"Content-Type": "text/xml; charset=utf-8", "SOAPAction": management.ACTION + "Login"}
        for password, status in ((PASSWORD, 200), ("wrong", 401)):
            credentials = base64.b64encode(f"{USER}:{password}".encode()).decode()
            headers = sent | {"Authorization": f"Basic {credentials}"}
            async with client.http.post(url, data=envelope(login()), headers=headers) as got:
                assert got.status == status


async def test_certificates_change_while_it_runs(tmp_path: Path) -> None:
    async with running_site(tls_folder=tmp_path) as started:
        trust = ssl.create_default_context(cafile=tmp_path / "ca.pem")
        await started.set_faults(certificate="good", recorder_certificate="wrong_name")
        await _handshake(started.site.gateway_port, trust)
        with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"):
            await _handshake(started.site.recorder_port, trust)
        await started.set_faults(certificate="self_signed", recorder_certificate="good")
        await _handshake(started.site.recorder_port, trust)
        with pytest.raises(ssl.SSLCertVerificationError, match="self-signed"):
            await _handshake(started.site.gateway_port, trust)


async def _handshake(port: int, trust: ssl.SSLContext) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust)
    writer.close()


def test_as_a_process_it_is_steered_by_its_control_port(tmp_path: Path) -> None:
    """And takes what a recorder's folder holds as what XProtect recorded."""
    file = tmp_path / "yard" / "2026-11-22" / "09-00-00.ts"
    file.parent.mkdir(parents=True)
    shutil.copyfile(cached_ts(seconds=4), file)
    os.utime(file, (NINE.timestamp(),) * 2)
    with simulator(tls=True, options=("--record-from", str(tmp_path))) as vms:
        vms.record("gate", cached_ts(seconds=4), NINE)
        assert [end - start for start, end in vms.sequences("gate")] == [3960]
        wait_until(lambda: vms.sequences("yard") == vms.sequences("gate"), "the folder was recorded")
        with pytest.raises(AssertionError, match="Faults has no teapot"):
            vms.faults(slow_s=1, teapot=True)
        assert vms.state()["faults"]["slow_s"] == 0, "all or none"
        vms.assume(sequences_clipped=True)
        assert vms.state()["assumptions"]["sequences_clipped"]
        assert vms.purge("gate", TimeSpan(NINE, NINE + timedelta(minutes=1))) == 4
        assert not vms.sequences("gate")
        assert vms.settings()["camera_map"]["gate"] == str(vms.cameras["gate"])
    assert vms.process.returncode == 0
