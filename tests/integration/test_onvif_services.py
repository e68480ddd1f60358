"""What the ONVIF device answers over SOAP, to whom, and what it refuses."""

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from uuid import UUID
from xml.etree.ElementTree import Element

import aiohttp
import pytest

from cctv_storaged.clock import rfc3339
from cctv_storaged.errors import ConfigError
from cctv_storaged.health import Health
from cctv_storaged.onvif import guesses, searching
from cctv_storaged.onvif import server as serving
from cctv_storaged.onvif import web as soapside
from cctv_storaged.onvif.device import Identity
from tests.fakes.xprotect.onvifsoap import NAMES, DeviceRefused, OnvifDevice
from tests.integration.api.harness import Host, running, until
from tests.services.onvif import (
    GATE,
    PASSWORD,
    USER,
    Device,
    after,
    device,
    onvif_settings,
    opened,
    recorded,
)

YARD = UUID(int=4)
RECORDING = f"recording-{GATE}"


@dataclass(frozen=True, slots=True)
class Caller:
    """A logged-in client of the device."""

    at: Device
    http: aiohttp.ClientSession
    soap: OnvifDevice

    async def call(self, prefix: str, method: str, inner: str = "") -> Element:
        return await self.soap.call(prefix, method, inner)

    async def texts(self, prefix: str, method: str, path: str, inner: str = "") -> list[str]:
        answer = await self.call(prefix, method, inner)
        return [(found.text or "") for found in answer.findall(path, NAMES)]

    async def events(self, start: datetime, end: datetime, more: str = "", *, most: int = 50) -> list[str]:
        """Found over the span: `=` for the state at the start, and when there is data or none."""
        found = await self.call(
            "tse",
            "FindEvents",
            f"<tse:StartPoint>{rfc3339(start)}</tse:StartPoint><tse:EndPoint>{rfc3339(end)}</tse:EndPoint>"
            f"<tse:Scope><tt:IncludedRecordings>{RECORDING}</tt:IncludedRecordings></tse:Scope>"
            f"<tse:SearchFilter/>{more}<tse:KeepAliveTime>PT2M</tse:KeepAliveTime>",
        )
        token = found.findtext("tse:SearchToken", "", NAMES)
        told: list[str] = []
        while True:
            answer = await self.call("tse", "GetEventSearchResults", _part(token, most))
            results = answer.findall("tse:ResultList/tt:Result", NAMES)
            assert len(results) <= most
            told += map(_told, results)
            if answer.findtext("tse:ResultList/tt:SearchState", "", NAMES) == "Completed":
                return told


def _part(token: str, most: int) -> str:
    return f"<tse:SearchToken>{token}</tse:SearchToken><tse:MaxResults>{most}</tse:MaxResults>"


def _told(result: Element) -> str:
    time = datetime.fromisoformat(result.findtext("tt:Time", "", NAMES))
    item = result.find(".//tt:Data/tt:SimpleItem", NAMES)
    assert item is not None
    begun = "=" if result.findtext("tt:StartStateEvent", "", NAMES) == "true" else ""
    return f"{begun}{(time - after(0)).total_seconds():g} {item.get('Value')}"


@asynccontextmanager
async def calling(host: Host, kind: Literal["wsse", "digest"] = "wsse") -> AsyncIterator[Caller]:
    async with device(host) as at, aiohttp.ClientSession() as http:
        soap = OnvifDevice(http, f"{at.url}/onvif/device_service", USER, PASSWORD, kind)
        for prefix in ("tds", "trt", "trc", "tse", "trp"):
            soap.services[prefix] = f"{at.url}/onvif/any_service"  # told apart by the body alone
        yield Caller(at, http, soap)


async def two_cameras(host: Host) -> None:
    """The gate from 0 s to 4 s and from 60 s to 62 s, the yard from 0 s to 2 s."""
    await recorded(host, "gate/a.ts", after(0))
    await recorded(host, "gate/b.ts", after(2), recipe={"ts_offset_s": 2})
    await recorded(host, "gate/c.ts", after(60))
    await recorded(host, "yard/a.ts", after(0), camera=YARD)


async def test_each_camera_is_one_source_profile_recording_and_job(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await two_cameras(host)
        async with calling(host) as caller:
            sources = [each.get("token") for each in await caller.call("trt", "GetVideoSources")]
            assert sources == [str(GATE), str(YARD)]
            profiles = await caller.call("trt", "GetProfiles")
            path = "trt:Profiles/tt:VideoSourceConfiguration/tt:SourceToken"
            assert [each.text for each in profiles.findall(path, NAMES)] == sources
            jobs = await caller.texts("trc", "GetRecordingJobs", ".//tt:SourceToken/tt:Token")
            assert jobs == [each.get("token") for each in profiles]
            recordings = await caller.texts("trc", "GetRecordings", "trc:RecordingItem/tt:RecordingToken")
            assert recordings == [f"recording-{source}" for source in sources]
            assert await caller.texts("trt", "GetAudioSources", "*") == []
            summary = await caller.texts("tse", "GetRecordingSummary", "tse:Summary/*")
            assert summary == ["2026-11-20T08:00:00.250Z", "2026-11-20T08:01:02.250Z", "2"]
            token = f"<tse:RecordingToken>{RECORDING}</tse:RecordingToken>"
            source = await caller.texts("tse", "GetRecordingInformation", ".//tt:SourceId", token)
            assert source == [str(GATE)]


async def test_every_operation_that_is_offered_is_answered(tmp_path: Path) -> None:
    profile = f"<trt:ProfileToken>profile-{GATE}</trt:ProfileToken>"
    recording = f"<a:RecordingToken xmlns:a='urn:a'>{RECORDING}</a:RecordingToken>"
    job = f"<trc:JobToken>job-{GATE}</trc:JobToken>"
    stream = "<a:StreamSetup xmlns:a='urn:a'><tt:Stream>RTP-Unicast</tt:Stream></a:StreamSetup>"
    time = "<tse:Time>2026-11-20T08:00:01Z</tse:Time>"
    asked = {
        "tds": {
            "GetSystemDateAndTime": "",
            "GetDeviceInformation": "",
            "GetServices": "<tds:IncludeCapability>true</tds:IncludeCapability>",
            "GetServiceCapabilities": "",
            "GetCapabilities": "<tds:Category>Media</tds:Category>",
            "GetScopes": "",
            "GetHostname": "",
            "GetNetworkInterfaces": "",
        },
        "trt": {
            "GetServiceCapabilities": "",
            "GetProfile": profile,
            "GetVideoSourceConfigurations": "",
            "GetVideoEncoderConfigurations": "",
            "GetAudioSourceConfigurations": "",
            "GetStreamUri": stream + profile,
        },
        "trc": {
            "GetServiceCapabilities": "",
            "GetRecordingConfiguration": recording,
            "GetTrackConfiguration": recording + "<trc:TrackToken>VIDEO001</trc:TrackToken>",
            "GetRecordingJobConfiguration": job,
            "GetRecordingJobState": job,
        },
        "tse": {"GetServiceCapabilities": "", "GetMediaAttributes": time},
        "trp": {
            "GetServiceCapabilities": "",
            "GetReplayUri": stream + recording,
            "GetReplayConfiguration": "",
        },
    }
    async with running(tmp_path) as host:
        await two_cameras(host)
        async with calling(host) as caller:
            for prefix, operations in asked.items():
                for operation, inner in operations.items():
                    answer = await caller.call(prefix, operation, inner)
                    empty = operation == "GetAudioSourceConfigurations"
                    assert (len(answer) == 0) == empty, operation
            uri = await caller.texts("trp", "GetReplayUri", "trp:Uri", recording)
            assert uri == [caller.at.rtsp()]
            services = await caller.texts("tds", "GetServices", "tds:Service/tds:XAddr")
            assert all(each.startswith(f"{caller.at.url}/onvif/") for each in services)
            assert len(services) == 5


START_STATE = "<tse:IncludeStartState>true</tse:IncludeStartState>"
HISTORY: tuple[tuple[int, int, str, list[str]], ...] = (
    (-60, 120, "", ["0 true", "4 false", "60 true", "62 false"]),
    (120, -60, "", ["62 false", "60 true", "4 false", "0 true"]),
    (2, 61, "", ["4 false", "60 true"]),  # where one segment follows another nothing changes
    (2, 3, "", []),
    (4, 60, "", ["4 false", "60 true"]),
    (1, 61, START_STATE, ["=1 true", "4 false", "60 true"]),
    (10, 20, START_STATE, ["=10 false"]),
    (-60, 120, "<tse:MaxMatches>2</tse:MaxMatches>", ["0 true", "4 false"]),
)


async def test_the_history_of_a_track_is_what_the_journal_covers(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await two_cameras(host)
        async with calling(host) as caller:
            for start, end, more, told in HISTORY:
                for most in (50, 1):
                    found = await caller.events(after(start), after(end), more, most=most)
                    assert (start, end, more, found) == (start, end, more, told)


async def test_a_search_that_ended_is_not_known_and_there_are_not_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "MOST_SEARCHES", 2)
    find = "<tse:Scope/><tse:KeepAliveTime>PT2M</tse:KeepAliveTime>"
    async with running(tmp_path) as host:
        await two_cameras(host)
        async with calling(host) as caller:
            tokens = [
                (await caller.texts("tse", "FindRecordings", "tse:SearchToken", find))[0] for _ in range(2)
            ]
            with pytest.raises(DeviceRefused, match="searches are under way"):
                await caller.call("tse", "FindRecordings", find)
            await caller.call("tse", "EndSearch", f"<tse:SearchToken>{tokens[0]}</tse:SearchToken>")
            with pytest.raises(DeviceRefused, match="no such search"):
                await caller.call("tse", "GetRecordingSearchResults", _part(tokens[0], 5))
            path = ".//tt:RecordingInformation/tt:RecordingToken"
            found = await caller.texts("tse", "GetRecordingSearchResults", path, _part(tokens[1], 5))
            assert found == [RECORDING, f"recording-{YARD}"]


FAULTS = (
    ("trp", "GetReplayUri", "<trp:RecordingToken>recording-x</trp:RecordingToken>", 400),
    ("trp", "GetReplayUri", f"<trp:RecordingToken>{GATE}</trp:RecordingToken>", 400),
    ("trp", "GetReplayUri", f"<trp:RecordingToken>recording-{UUID(int=77)}</trp:RecordingToken>", 400),
    ("trt", "GetProfile", "<trt:ProfileToken>../../etc</trt:ProfileToken>", 400),
    ("tse", "FindEvents", "<tse:StartPoint>yesterday</tse:StartPoint>", 400),
    ("tse", "EndSearch", "", 400),
    ("trc", "DeleteRecording", f"<trc:RecordingToken>{RECORDING}</trc:RecordingToken>", 500),
    ("trt", "GetSnapshotUri", "", 500),
    (
        "trt",
        "GetStreamUri",
        "<trt:StreamSetup><tt:Stream>RTP-Multicast</tt:Stream></trt:StreamSetup>"
        f"<trt:ProfileToken>profile-{GATE}</trt:ProfileToken>",
        400,
    ),
)


async def test_what_is_not_there_or_not_offered_is_a_fault(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await recorded(host, "gate/a.ts", after(0))
        async with calling(host) as caller:
            for prefix, operation, inner, status in FAULTS:
                with pytest.raises(DeviceRefused, match=f"{operation} answers {status}: (?!no SOAP fault)"):
                    await caller.call(prefix, operation, inner)


# Log-in


async def test_the_time_is_told_to_everyone_and_recordings_are_not(tmp_path: Path) -> None:
    async with running(tmp_path) as host, device(host) as at, aiohttp.ClientSession() as http:
        stranger = OnvifDevice(http, f"{at.url}/onvif/device_service", "", "")
        stranger.services["trt"] = stranger.address
        before = datetime.now(UTC).year  # which may end meanwhile
        told = await stranger.call("tds", "GetSystemDateAndTime")
        year = told.findtext(".//tt:UTCDateTime/tt:Date/tt:Year", "", NAMES)
        assert before <= int(year) <= datetime.now(UTC).year
        with pytest.raises(DeviceRefused, match="answers 401"):
            await stranger.call("trt", "GetProfiles")


async def test_a_request_that_was_overheard_is_good_for_nothing(tmp_path: Path) -> None:
    """Word for word the same once more: a name token, and a Digest."""
    async with running(tmp_path) as host, calling(host) as caller:
        document = caller.soap._envelope("<trt:GetProfiles/>").encode()
        url = caller.soap.services["trt"]
        statuses = []
        for _ in range(2):
            async with caller.http.post(url, data=document) as answer:
                statuses.append(answer.status)
        assert statuses == [200, 400]
        caller.soap.kind = "digest"
        document = caller.soap._envelope("<trt:GetProfiles/>").encode()
        async with caller.http.post(url, data=document) as answer:
            offered = answer.headers.getall("WWW-Authenticate")
        assert ["MD5" in offered[0], "SHA-256" in offered[1], answer.status] == [True, True, 401]
        assert caller.soap._digest.challenged(offered[1:])
        headers = caller.soap._digest.header("POST", "/onvif/any_service")
        statuses = []
        for _ in range(2):
            async with caller.http.post(url, data=document, headers=headers) as answer:
                statuses.append(answer.status)
        assert statuses == [200, 401]


@pytest.mark.parametrize("kind", ["wsse", "digest"])
async def test_a_password_cannot_be_guessed_without_limit_or_trace(
    tmp_path: Path,
    kind: Literal["wsse", "digest"],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(guesses, "PER_MINUTE", 1)
    async with running(tmp_path) as host, calling(host, kind) as caller:
        guesser = OnvifDevice(caller.http, caller.soap.address, USER, "guess", kind)
        guesser.services["trt"] = guesser.address
        for status in ("40[01]", "429", "429"):
            with pytest.raises(DeviceRefused, match=f"answers {status}"):
                await guesser.call("trt", "GetProfiles")
        with pytest.raises(DeviceRefused, match="answers 429"):  # who is right learns no more
            await caller.call("trt", "GetProfiles")
        assert await caller.call("tds", "GetSystemDateAndTime") is not None
        failed = host.parts.foundation.metrics.onvif_logins_failed.labels("http")
        assert failed._value.get() == 1
    (told,) = (line for line in caplog.messages if "wrong name or password" in line)
    assert "127.0.0.1" in told
    assert PASSWORD not in caplog.text


@pytest.mark.parametrize("begun", [b"X-A: b\r\n", b"Content-Length: 100\r\n\r\n<"], ids=["head", "body"])
async def test_strangers_whose_requests_never_end_keep_nobody_out(tmp_path: Path, begun: bytes) -> None:
    async with running(tmp_path) as host, calling(host) as caller:
        slow = [await asyncio.open_connection("127.0.0.1", caller.at.server.http_port) for _ in range(70)]
        for _, writer in slow:
            writer.write(b"POST /onvif/device_service HTTP/1.1\r\nHost: a\r\n" + begun)
        for _ in range(3):
            assert await caller.call("trt", "GetProfiles") is not None
        async with asyncio.timeout(20):
            with suppress(ConnectionError):
                assert await slow[0][0].read() == b""  # it had to make room
        for _, writer in slow:
            writer.close()


async def test_a_request_that_does_not_end_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soapside, "BODY_S", 0.1)
    async with running(tmp_path) as host, device(host) as at:
        reader, writer = await asyncio.open_connection("127.0.0.1", at.server.http_port)
        writer.write(b"POST /onvif/a HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n<")
        async with asyncio.timeout(20):
            assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")
        writer.close()


async def test_on_loopback_without_a_password_nobody_is_asked(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await recorded(host, "gate/a.ts", after(0))
        async with device(host, password="") as at, aiohttp.ClientSession() as http:
            anybody = OnvifDevice(http, f"{at.url}/onvif/device_service", "", "")
            anybody.services["trt"] = anybody.address
            assert len(await anybody.call("trt", "GetProfiles")) == 1
        with pytest.raises(ConfigError, match="password"):
            opened(host, onvif_settings("", bind="0.0.0.0"))


async def test_a_port_that_cannot_be_had_is_told_by_ready_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "RETRY_S", 0.05)
    async with running(tmp_path) as host:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            wanted = onvif_settings()
            port = {"rtsp_port": taken.getsockname()[1]}
            onvif = wanted.onvif.model_copy(update=port)
            server = opened(host, wanted.model_copy(update={"onvif": onvif}))
            assert server is not None
            health = Health(host.journal, (), (), None, host.parts.foundation.alarms, onvif=server)

            async def trouble() -> str | None:
                return next(part.trouble for part in health.readiness().parts if part.name == "onvif")

            async def well() -> bool:
                return await trouble() is None

            listening = asyncio.create_task(server.run())
            assert "cannot listen on 127.0.0.1" in (await until(trouble) or "")
            assert health.readiness().ready
        await until(well)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


HOSTILE = (
    (b"", 400),
    (b"<a/>", 400),
    (b'<!DOCTYPE a [<!ENTITY b "b">]><a>&b;</a>', 400),
    (b"x" * 200_000, 413),
)


async def test_hostile_bodies_are_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as host, device(host) as at, aiohttp.ClientSession() as http:
        for data, status in HOSTILE:
            async with http.post(f"{at.url}/onvif/device_service", data=data) as answer:
                assert (data[:20], answer.status) == (data[:20], status)
        async with http.get(f"{at.url}/onvif/device_service") as answer:
            assert answer.status == 405
        async with http.post(f"{at.url}/other", data=b"") as answer:
            assert answer.status == 404


async def test_a_port_that_is_taken_is_told_and_tried_again(tmp_path: Path) -> None:
    async with running(tmp_path) as host, device(host) as at:
        settings = onvif_settings()
        taken = settings.onvif.model_copy(update={"rtsp_port": at.server.rtsp_port})
        server = opened(host, settings.model_copy(update={"onvif": taken}))
        assert server is not None
        duty = asyncio.create_task(server.run())
        async with asyncio.timeout(20):
            while server.trouble is None:
                await asyncio.sleep(0.01)
        duty.cancel()
        await asyncio.gather(duty, return_exceptions=True)
        assert "cannot listen" in server.trouble


async def test_a_device_that_is_not_wanted_is_not_made(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        settings = onvif_settings()
        off = settings.onvif.model_copy(update={"enabled": False})
        assert opened(host, settings.model_copy(update={"onvif": off})) is None


def test_the_hardware_address_is_locally_administered_and_stays() -> None:
    one, other = Identity("nvr-01"), Identity("nvr-02")
    assert one.hardware_address == Identity("nvr-01").hardware_address != other.hardware_address
    assert int(one.hardware_address[:2], 16) & 0b11 == 0b10
    assert one.serial == hashlib.sha256(b"nvr-01").hexdigest()[:16]
