"""The ONVIF device's RTSP side: what is answered in which state, and clients that harm or do nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from cctv_storaged.errors import BackendUnavailable
from cctv_storaged.onvif import guesses, sending, session
from cctv_storaged.onvif import server as serving
from cctv_storaged.pacing import ByteBudget
from tests.integration.api.harness import Host, running, until
from tests.services.onvif import GATE, PASSWORD, USER, Device, after, device, recorded
from tests.services.rtspclient import AT_ONCE, OVER_TCP, rtsp_client

PATIENCE_S = 20.0


@asynccontextmanager
async def gate(folder: Path) -> AsyncIterator[tuple[Host, Device]]:
    """A device of one camera with two seconds of footage."""
    async with running(folder) as host:
        await recorded(host, "gate/a.ts", after(0))
        async with device(host) as at:
            yield host, at


async def to_end(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the device closes."""
    async with asyncio.timeout(PATIENCE_S):
        try:
            return await reader.read(-1)
        except ConnectionError:
            return b""


async def test_every_method_is_answered_in_its_state_and_refused_in_another(tmp_path: Path) -> None:
    async with gate(tmp_path) as (_, at), rtsp_client(at.rtsp(), USER, PASSWORD) as client:
        options = await client.ask("OPTIONS", "*")
        assert (options.status, "PAUSE" in options.headers["public"]) == (200, True)
        described = await client.ask("DESCRIBE", Accept="application/sdp")
        assert described.headers["content-base"] == at.rtsp() + "/"
        lines = described.body.decode().split("\r\n")
        assert "m=video 0 RTP/AVP 96" in lines
        assert "a=x-onvif-track:VIDEO001" in lines
        assert any(line.startswith("a=fmtp:96 packetization-mode=1;profile-level-id=") for line in lines)
        for method in ("PLAY", "PAUSE", "TEARDOWN"):
            assert (await client.ask(method)).status == 454
        assert (await client.ask("RECORD")).status == 405
        udp = {"Transport": "RTP/AVP;unicast;client_port=5000-5001"}
        assert (await client.ask("SETUP", at.rtsp() + "/video", **udp)).status == 461
        backchannel = {"Require": "www.onvif.org/ver20/backchannel"}
        refused = await client.ask("DESCRIBE", **backchannel)
        assert (refused.status, refused.headers["unsupported"]) == (551, backchannel["Require"])
        for span in (
            "clock=yesterday-",
            "clock=20300101T000000Z-",
            "clock=20000101T000000Z-20000102T000000Z",
        ):
            assert (await client.play(Range=span, **AT_ONCE)).status == 457
        for header in ({"Scale": "-1.0"}, {"Scale": "fast"}, {"Frames": "some"}, {"Frames": "all/3"}):
            assert (await client.play(**header)).status == 456
        assert (await client.play(Range="npt=0-")).status == 200
        assert (await client.ask("SETUP", at.rtsp() + "/video", **OVER_TCP)).status == 455
        for method in ("GET_PARAMETER", "SET_PARAMETER", "PAUSE", "TEARDOWN"):
            assert (await client.ask(method)).status == 200
        client.session = ""
        assert (await client.ask("GET_PARAMETER")).status == 200


async def test_addresses_that_lead_nowhere_are_not_found(tmp_path: Path) -> None:
    async with gate(tmp_path) as (_, at), rtsp_client(at.rtsp(), USER, PASSWORD) as client:
        base = at.rtsp().removesuffix(str(GATE))
        for path in (str(UUID(int=9)), "", "../../etc/passwd", str(GATE).upper() + "/a", f"{GATE}/audio"):
            assert (path, (await client.ask("DESCRIBE", base + path)).status) == (path, 404)


async def test_the_live_stream_opens_and_sends_no_picture(tmp_path: Path) -> None:
    """What it sent would be recorded under the time of its arrival."""
    async with gate(tmp_path) as (_, at):
        live = at.rtsp().replace("/replay/", "/live/")
        async with rtsp_client(live, USER, PASSWORD) as client:
            assert (await client.play(Range="npt=now-")).status == 200
            for _ in range(3):
                assert (await client.ask("GET_PARAMETER")).status == 200
            assert client.packets == []
            assert at.server.replaying.slots.taken == 0


async def test_nothing_is_answered_to_a_stranger(tmp_path: Path) -> None:
    async with gate(tmp_path) as (_, at):
        async with rtsp_client(at.rtsp()) as stranger:
            assert (await stranger.ask("OPTIONS")).status == 200
            for method in ("DESCRIBE", "SETUP", "PLAY", "GET_PARAMETER", "TEARDOWN"):
                answer = await stranger.ask(method, **OVER_TCP)
                assert (method, answer.status) == (method, 401)
                assert answer.headers["www-authenticate"].endswith("algorithm=MD5")
        async with rtsp_client(at.rtsp(), USER, "guess") as guesser:
            statuses = [(await guesser.ask("DESCRIBE")).status for _ in range(3)]
            assert statuses == [401, 401, 401]
            assert await to_end(guesser.reader) == b""


async def test_a_log_in_is_good_for_its_connection_alone(tmp_path: Path) -> None:
    async with gate(tmp_path) as (_, at), rtsp_client(at.rtsp(), USER, PASSWORD) as client:
        assert (await client.ask("DESCRIBE")).status == 200
        assert client.auth is not None
        overheard = client.auth.header("DESCRIBE", at.rtsp())
        async with rtsp_client(at.rtsp()) as other:
            assert (await other.ask("DESCRIBE", **overheard)).status == 401


@pytest.mark.parametrize("known", [False, True])
async def test_who_asks_nothing_is_sent_away(
    tmp_path: Path, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "STRANGER_S", 0.2 if not known else 3600.0)
    async with gate(tmp_path) as (_, at), rtsp_client(at.rtsp(), USER, PASSWORD) as client:
        if known:
            assert (await client.ask("DESCRIBE")).status == 200
            monkeypatch.setattr(session, "SESSION_TIMEOUT_S", 0.2)
            assert (await client.ask("GET_PARAMETER")).status == 200
        assert await to_end(client.reader) == b""


async def test_hostile_bytes_end_their_connection_and_no_other(tmp_path: Path) -> None:
    async with gate(tmp_path) as (_, at):
        for data in (
            b"\x16\x03\x01\x00\xa5\n",
            b"GET / HTTP/1.1\r\n\r\n",
            b"x" * 100_000,
            b"$\x00\xff\xff" * 10,
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", at.server.rtsp_port)
            writer.write(data)
            writer.write_eof()
            answer = await to_end(reader)
            assert answer == b"" or answer.startswith(b"RTSP/1.0 400 ")
            writer.close()
        async with rtsp_client(at.rtsp(), USER, PASSWORD) as client:
            assert (await client.ask("DESCRIBE")).status == 200


@pytest.mark.parametrize("sent", [b"\r\n", b"$\x00\x00\x00", b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n"])
async def test_a_stranger_is_sent_away_however_busy_it_is(
    tmp_path: Path, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "STRANGER_S", 0.3)
    async with gate(tmp_path) as (_, at):
        reader, writer = await asyncio.open_connection("127.0.0.1", at.server.rtsp_port)
        ended = asyncio.create_task(to_end(reader))
        async with asyncio.timeout(PATIENCE_S):
            while not ended.done():
                writer.write(sent)
                await asyncio.sleep(0.05)
        assert (await ended).count(b"RTSP/1.0 200") <= session.MOST_OF_STRANGER
        writer.close()


async def test_a_stranger_may_ask_so_many_things_and_no_more(tmp_path: Path) -> None:
    """Also at once, in less than its time, and without ever trying to log in."""
    async with gate(tmp_path) as (_, at):
        for asked in (b"OPTIONS", b"DESCRIBE", b"RECORD"):
            reader, writer = await asyncio.open_connection("127.0.0.1", at.server.rtsp_port)
            uri = at.rtsp().encode()
            writer.write(100 * (asked + b" " + uri + b" RTSP/1.0\r\nCSeq: 1\r\n\r\n"))
            assert (await to_end(reader)).count(b"RTSP/1.0 ") == session.MOST_OF_STRANGER + 1
            writer.close()


async def test_there_are_not_more_connections_than_may_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "MOST_RTSP", 2)
    async with (
        gate(tmp_path) as (_, at),
        rtsp_client(at.rtsp(), USER, PASSWORD) as first,
        rtsp_client(at.rtsp(), USER, PASSWORD) as second,
    ):
        for client in (first, second):
            assert (await client.ask("DESCRIBE")).status == 200
        reader, writer = await asyncio.open_connection("127.0.0.1", at.server.rtsp_port)
        assert await to_end(reader) == b""
        writer.close()
        for client in (first, second):
            assert (await client.ask("DESCRIBE")).status == 200


async def test_strangers_keep_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "MOST_RTSP", 4)
    async with gate(tmp_path) as (_, at):
        silent = [await asyncio.open_connection("127.0.0.1", at.server.rtsp_port) for _ in range(10)]
        async with rtsp_client(at.rtsp(), USER, PASSWORD) as client:
            assert (await client.ask("DESCRIBE")).status == 200
            assert await to_end(silent[0][0]) == b""
            more = [await asyncio.open_connection("127.0.0.1", at.server.rtsp_port) for _ in range(10)]
            assert (await client.ask("DESCRIBE")).status == 200
        for _, writer in silent + more:
            writer.close()


async def test_a_password_cannot_be_guessed_over_ever_new_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(guesses, "PER_MINUTE", 1)
    async with gate(tmp_path) as (host, at):
        statuses = []
        async with rtsp_client(at.rtsp(), USER, PASSWORD) as known:
            assert (await known.ask("DESCRIBE")).status == 200
            for _ in range(3):
                async with rtsp_client(at.rtsp(), USER, "guess") as guesser:
                    statuses.append((await guesser.ask("DESCRIBE")).status)
            assert (await known.ask("DESCRIBE")).status == 200
        async with rtsp_client(at.rtsp(), USER, PASSWORD) as right:
            refused = await right.ask("DESCRIBE")
        assert statuses == [401, 503, 503]
        assert (refused.status, "retry-after" in refused.headers) == (503, True)
        failed = host.parts.foundation.metrics.onvif_logins_failed.labels("rtsp")
        assert failed._value.get() == 1
    (told,) = (line for line in caplog.messages if "wrong name or password" in line)
    assert "127.0.0.1" in told


async def test_a_client_that_takes_nothing_is_given_up_and_little_is_read_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "STALLED_S", 0.5)
    async with running(tmp_path) as host:
        for at in range(8):  # 16 MB: more than sockets hold
            await recorded(host, f"gate/{at}.ts", after(2 * at), recipe={"bitrate": "8M"})
        recorded_bytes = sum(path.stat().st_size for path in (host.recordings / "gate").iterdir())
        async with device(host) as here, rtsp_client(here.rtsp(), USER, PASSWORD) as client:
            transport = client.writer.transport
            assert isinstance(transport, asyncio.Transport)
            assert (await client.play(Range="npt=0-", **AT_ONCE)).status == 200
            transport.pause_reading()

            async def is_given_up() -> bool:
                return here.server.replaying.slots.taken == 0

            await until(is_given_up)
            transport.resume_reading()
            assert len(await to_end(client.reader)) < recorded_bytes * 0.9


class Slow(ByteBudget):
    """Lets the first bytes wait."""

    def debit(self, size_bytes: int) -> float:
        wait_s = 0.6 if self.limited else 0.0
        self.change(None)
        return wait_s


async def test_a_replay_that_waits_for_the_shared_rate_is_not_taken_for_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gate(tmp_path) as (_, at):
        at.server.replaying = replace(at.server.replaying, budgets=(Slow(1.0),))
        async with rtsp_client(at.rtsp(), USER, PASSWORD) as client:
            assert (await client.play(Range="npt=0-", **AT_ONCE)).status == 200
            monkeypatch.setattr(session, "SESSION_TIMEOUT_S", 0.1)
            assert (await client.ask("GET_PARAMETER")).status == 200
            assert len(await client.pictures()) == 50


async def test_a_log_in_is_good_for_its_stream_alone(tmp_path: Path) -> None:
    """Its track is a part of it: some clients name the whole in every request."""
    async with gate(tmp_path) as (_, at), rtsp_client(at.rtsp(), USER, PASSWORD) as client:
        assert (await client.ask("DESCRIBE")).status == 200
        auth, client.auth = client.auth, None
        assert auth is not None
        for named, status in ((at.rtsp(), 200), (at.rtsp() + "/video", 200), (at.rtsp(UUID(int=4)), 401)):
            header = auth.header("SETUP", named)
            assert (await client.ask("SETUP", at.rtsp() + "/video", **OVER_TCP, **header)).status == status


async def test_a_store_that_is_away_ends_the_connection_and_not_just_the_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver that saw an end would take the rest for not recorded."""
    async with gate(tmp_path) as (host, at):
        await recorded(host, "gate/b.ts", after(2), recipe={"ts_offset_s": 2})
        host.deliver()
        span = {"start": "2026-11-20T00:00:00Z", "end": "2026-11-21T00:00:00Z"}
        listed = await host.get(f"/segments/{GATE}", **span)
        await host.delivered(listed.json["segments"][1])
        (host.recordings / "gate/b.ts").unlink()

        def away(*_: object, **__: object) -> object:
            raise BackendUnavailable("unplugged")

        async with rtsp_client(at.rtsp(), USER, PASSWORD) as client:
            await client.set_up()
            monkeypatch.setattr(type(host.parts.foundation.backends[0]), "open", away)
            assert (await client.play(Range="npt=0-", **AT_ONCE)).status == 200
            await to_end(client.reader)  # after a mere end of pictures it would stay open
            assert await answered_meanwhile(at) == 503
        assert at.server.replaying.slots.taken == 0


async def answered_meanwhile(at: Device) -> int:
    """What another client is answered meanwhile."""
    async with rtsp_client(at.rtsp(), USER, PASSWORD) as client:
        return (await client.ask("DESCRIBE")).status
