"""The port of XProtect's simulated recorder by bare sockets: who is let in, what goes wrong, and SOAP.

Nothing of the client is used here: the simulator is the check on it, and this is the check on the simulator.
"""

import asyncio
import re
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID
from xml.sax.saxutils import escape

import pytest

from tests.fakes.xprotect.pictures import moment
from tests.fakes.xprotect.site import Site, guid
from tests.services.barerecorder import (
    CAMERA,
    START,
    START_MS,
    ask_to_connect,
    connect,
    connected,
    new_site,
    opened,
    port,
    token_of,
)

ACTION = "http://videoos.net/2/XProtectCSRecorderCommand"
RECORDING = "f9c62604-d0c5-4050-ae25-72de51639b14"


# -- connecting


@pytest.mark.parametrize(
    ("token", "camera", "reason"),
    [("wrong", CAMERA, "Token invalid"), (None, guid("no camera"), "Unknown device")],
)
async def test_a_connection_that_is_refused_is_told_why_and_ended(
    token: str | None, camera: UUID, reason: str
) -> None:
    site = new_site(0)
    async with port(site):
        socket, answer = await connect(site, token=token, camera=camera)
        assert f"<connected>no</connected><errorreason>{reason}</errorreason>" in answer
        assert await socket.reader.read() == b""


async def test_a_disabled_camera_is_refused_and_so_is_everybody_by_order() -> None:
    site = new_site(0)
    async with port(site):
        site.faults.disabled_cameras = [str(CAMERA)]
        _, disabled = await connect(site)
        site.faults.set({"disabled_cameras": [], "refuse_connect": "Too many clients"})
        _, refused = await connect(site)
    assert "Device is disabled" in disabled
    assert "<errorreason>Too many clients</errorreason>" in refused


@pytest.mark.parametrize(
    "call",
    [
        "<methodcall>\r\n<requestid>1</requestid><methodname>connect</methodname></methodcall>",
        "<methodcall><methodname>connect</methodname></methodcall>",
        "<methodcall><requestid>1</requestid><methodname>next</methodname></methodcall>",
        "<methodcall><requestid>1</requestid><methodname>connect</methodname></methodcall>",
        "<methodcall><requestid>1",
    ],
)
async def test_a_call_that_the_material_does_not_allow_is_complained_of_and_ends_the_connection(
    call: str,
) -> None:
    site = new_site(0)
    async with port(site) as listening:
        socket = await opened(site)
        socket.writer.write(call.encode() + b"\r\n\r\n")
        assert await socket.reader.read() == b""
        assert len(listening.images.complaints) == 1


# -- tokens


@pytest.mark.parametrize("manner", ["closed", "refused"])
async def test_a_token_that_expires_in_mid_session_ends_it_unless_it_is_renewed(manner: str) -> None:
    site = new_site(0)
    site.assumptions.set({"expired_token": manner})
    async with port(site):
        socket = await connected(site)
        assert (await socket.shows("begin")).bodies
        site.faults.expire_corporate_tokens = True
        assert not site.tokens.corporate_is_good("any")  # it is done by the next question
        fresh = escape(f"id={CAMERA}&connectiontoken={token_of(site)}")
        socket.ask("connectupdate", f"<connectparam>{fresh}</connectparam>")
        assert "<connected>yes</connected>" in await socket.text()
        assert (await socket.shows("next")).bodies
        site.faults.expire_corporate_tokens = True
        socket.ask("next")
        if manner == "refused":
            assert "<connected>no</connected><errorreason>Token expired" in await socket.text()
        else:
            assert await socket.reader.read() == b""


# -- faults


async def whole_session(site: Site) -> bytes:
    """All that a session of the same questions answers, but for the token."""
    socket = await opened(site)
    ask_to_connect(socket, token_of(site))
    socket.ask("begin", "<keyframesonly>yes</keyframesonly>")
    socket.ask("alarms", f"<starttime>{START_MS}</starttime><endtime>{START_MS + 1}</endtime>")
    socket.writer.write_eof()
    return await socket.reader.read()


async def test_answers_split_at_every_byte_are_the_same_answers() -> None:
    site = new_site(0)
    async with port(site):
        plain = await whole_session(site)
        site.faults.split_every_byte = True
        split = await whole_session(site)
        site.faults.set({"split_every_byte": False, "split_at": 3})
        in_two = await whole_session(site)
    assert plain.count(b"ImageResponse") == plain.count(b"<alarm ") == 1
    assert plain == split == in_two


async def test_a_connection_ends_after_so_many_bytes_or_is_cut_by_order() -> None:
    site = new_site(0)
    async with port(site):
        plain = await whole_session(site)
        site.faults.half_close_after = 300
        assert await whole_session(site) == plain[:300]
        site.faults.half_close_after = None
        site.faults.drop_next = 1
        cut = await whole_session(site)
        assert plain.startswith(cut)
        assert cut.count(b"ImageResponse") == 1
        assert await whole_session(site) == plain  # it was only the next one


@pytest.mark.parametrize("fault", ["half_close_after", "hang_after"])
async def test_a_connection_that_ends_half_or_hangs_is_still_listened_to(fault: str) -> None:
    site = new_site(0)
    site.faults.set({fault: 10})
    async with port(site) as listening:
        socket = await opened(site)
        ask_to_connect(socket, token_of(site))
        assert len(await socket.reader.readexactly(10)) == 10
        if fault == "half_close_after":
            assert await socket.reader.read() == b""
        socket.ask("begin")
        while not site.calls["imageserver:begin"]:
            await asyncio.sleep(0.01)
        assert listening.connections == 1
        assert socket.reader.at_eof() == (fault == "half_close_after")


async def test_a_wrong_length_is_announced_by_order() -> None:
    site = new_site(0)
    site.assumptions.multipart = False
    async with port(site):
        socket = await connected(site)
        right = int((await socket.goto(0)).headers["Content-length"])
        site.faults.wrong_content_length = 7
        socket.ask("begin")
        assert f"Content-length: {right + 7}" in await socket.text()


@pytest.mark.parametrize("away", ["refused", "unavailable", "silent"])
async def test_a_recorder_that_is_away_answers_nobody(away: str) -> None:
    site = new_site(0)
    site.faults.set({"recorder": away})
    async with port(site):
        socket = await opened(site)
        socket.ask("connect")
        if away == "silent":
            socket.writer.write_eof()
        try:
            assert await socket.reader.read() == b""
        except ConnectionError:  # reset, or a broken pipe where that was known before we asked
            assert away != "silent"


# -- RecorderCommandService


async def soap(site: Site, method: str, inner: str, action: str | None = None, prefix: str = "") -> str:
    """The answer to a call, with its status in front."""
    name, names = (f"{prefix}:{method}", f"xmlns:{prefix}") if prefix else (method, "xmlns")
    body = (
        '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>'
        f'<{name} {names}="{ACTION}">{inner}</{name}></s:Body></s:Envelope>'
    )
    socket = await opened(site)
    socket.writer.write(
        "POST /RecorderCommandService/RecorderCommandService.asmx HTTP/1.1\r\nHost: recorder\r\n"
        f"Content-Type: text/xml; charset=utf-8\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
        f'SOAPAction: "{action or f"{ACTION}/{method}"}"\r\n\r\n{body}'.encode()
    )
    head, _, document = (await socket.reader.read()).decode().partition("\r\n\r\n")
    return head.split(" ")[1] + " " + document


def asking(site: Site, start_s: float, end_s: float, count: int, kind: str = RECORDING) -> str:
    times = [moment(START_MS + round(at * 1000)).isoformat() for at in (start_s, end_s)]
    return (
        f"<token>{token_of(site)}</token><deviceId>{CAMERA}</deviceId><sequenceType>{kind}</sequenceType>"
        f"<minTime>{times[0]}</minTime><maxTime>{times[1]}</maxTime><maxCount>{count}</maxCount>"
    ).replace("host & name", "host &amp; name")


def begins(answer: str) -> Sequence[float]:
    """Seconds after the start of the footage."""
    assert answer.startswith("200 "), answer
    return [
        (datetime.fromisoformat(one) - START).total_seconds()
        for one in re.findall("<TimeBegin>(.*?)</TimeBegin>", answer)
    ]


async def test_sequences_are_told_onward_and_in_pages() -> None:
    site = new_site(0, 60, 120, 180)
    async with port(site):
        whole = await soap(site, "SequencesGet", asking(site, -10, 500, 100))
        page = await soap(site, "SequencesGet", asking(site, -10, 500, 3))
        rest = await soap(site, "SequencesGet", asking(site, 122, 500, 3))
        none = await soap(site, "SequencesGet", asking(site, 10, 50, 3))
        site.assumptions.sequences_clipped = True
        clipped = await soap(site, "SequencesGet", asking(site, 61, 121, 9))
    assert [begins(each) for each in (whole, page, rest)] == [[0, 60, 120, 180], [0, 60, 120], [180]]
    assert "<SequencesGetResult />" in none
    assert begins(clipped) == [61, 120]
    assert "<TimeTrigged>2026-11-22T09:00:00.0000000Z</TimeTrigged>" in whole
    assert "<TimeEnd>2026-11-22T09:00:01.9000000Z</TimeEnd>" in whole


async def test_the_types_of_sequences_are_told() -> None:
    site = new_site()
    async with port(site):
        token = escape(token_of(site))
        asked = f"<token>{token}</token><deviceId>{CAMERA}</deviceId>"
        answer = await soap(site, "SequencesGetTypes", asked)
    assert f"<SequenceType><Id>{RECORDING}</Id><Name>RecordingSequence</Name></SequenceType>" in answer
    assert answer.count("<SequenceType>") == 3


async def test_soap_faults_name_what_is_wrong() -> None:
    site = new_site(0)
    async with port(site):
        good = asking(site, 0, 1, 1)
        bad = re.sub("<token>.*</token>", "<token>wrong</token>", good)
        absent = re.sub("<token>.*</token>", "<token></token>", good)
        assert "<SubErrorNumber>2</SubErrorNumber>" in await soap(site, "SequencesGet", bad)
        assert "<SubErrorNumber>1</SubErrorNumber>" in await soap(site, "SequencesGet", absent)
        assert "SOAPAction" in await soap(site, "SequencesGet", good, action="other")
        assert "namespace must be the default" in await soap(site, "SequencesGet", good, prefix="p")
        assert "<ErrorNumber>40000</ErrorNumber>" in await soap(site, "StartRecording", good)
        site.faults.sequences_fault = 777
        answer = await soap(site, "SequencesGet", good)
    assert answer.startswith("500 ")
    assert "<ErrorNumber>777</ErrorNumber>" in answer


async def test_anything_else_over_http_is_not_found() -> None:
    site = new_site()
    async with port(site):
        socket = await opened(site)
        for _ in range(2):  # on the same connection
            socket.writer.write(b"GET / HTTP/1.1\r\nHost: recorder\r\n\r\n")
            assert (await socket.text()).startswith("HTTP/1.1 404 ")
