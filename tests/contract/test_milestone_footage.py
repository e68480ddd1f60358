"""What XProtect's recorder gives back is what its database holds: from the simulator, picture by picture.

Whatever published material leaves open is a switch of the simulator: the reader passes with it either way.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from cctv_storaged.backends.milestone.base import Gop
from cctv_storaged.backends.milestone.imageserver import Door, ImageServer, Patience
from cctv_storaged.backends.milestone.management import Management
from cctv_storaged.backends.milestone.recordercommands import RecorderCommands
from cctv_storaged.backends.milestone.soap import SoapClient, SoapFault
from cctv_storaged.backends.milestone.tokens import Token, TokenSource
from cctv_storaged.clock import Clock, SystemClock
from cctv_storaged.errors import BackendError, BackendUnavailable, ObjectMissing, ObjectRejected, Unsupported
from cctv_storaged.model import TimeSpan
from tests.fakes.xprotect.certificates import OTHER_NAME
from tests.fakes.xprotect.pictures import Codec, Coded, Group, pictures_of_ts
from tests.fakes.xprotect.simulator import Simulator
from tests.footage import cached_ts
from tests.services.xprotect import USER, camera, running_site

GATE = camera("gate").id
START = datetime(2026, 11, 20, 9, tzinfo=UTC)
SECONDS = 4
SMALL: dict[str, Any] = {"seconds": SECONDS, "size": "64x48", "rate": 10}
RECIPES: dict[str, dict[str, Any]] = {
    "h264": SMALL,
    "h264-b-pictures": SMALL | {"bframes": 2},
    "h264-open-groups": SMALL | {"bframes": 2, "open_gop": True},
    "h265": SMALL | {"codec": "hevc"},
}


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def span(start_s: float, end_s: float) -> TimeSpan:
    return TimeSpan(at(start_s), at(end_s))


@dataclass
class Rig:
    """The simulator, and our reader in front of it."""

    simulator: Simulator
    clock: "SetClock"
    management: Management
    images: ImageServer
    commands: RecorderCommands
    door: Door

    async def record(self, start_s: float = 0.0, **recipe: Any) -> None:
        codec, pictures = await asyncio.to_thread(pictures_of, cached_ts(**(recipe or SMALL)))
        later = [replace(each, time_ms=each.time_ms + round(start_s * 1000)) for each in pictures]
        self.simulator.site.media.add(GATE, codec, later)

    async def read(self, span: TimeSpan) -> list[Gop]:
        async with self.images.footage(self.door, GATE, span) as gops:
            return [gop async for gop in gops]

    def held(self, start_s: float = -1e9, end_s: float = 1e9) -> Sequence[Group]:
        """By the database itself: what has a picture in the span or begins in it."""
        start_ms, end_ms = (round(at(seconds).timestamp() * 1000) for seconds in (start_s, end_s))
        return self.simulator.site.media.groups(GATE, start_ms, end_ms)


@cache
def pictures_of(path: Path) -> tuple[Codec, tuple[Coded, ...]]:
    """ffmpeg takes its time: once for each file."""
    return pictures_of_ts(path, START)


class SetClock(SystemClock):
    """Runs, and can be set forward: tokens age at once."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_s


def oauth_of(simulator: Simulator, clock: Clock) -> TokenSource:
    held: list[Token] = []

    async def oauth(refused: str | None = None) -> Token:
        if not held or held[-1].value == refused or held[-1].good_until <= clock.monotonic():
            value, lifetime_s = simulator.site.tokens.give_oauth(USER)
            held.append(Token(value, clock.monotonic() + lifetime_s))
        return held[-1]

    return oauth


@asynccontextmanager
async def rig(tls_folder: Path | None = None, read_s: float = 20) -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(running_site(tls_folder=tls_folder))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        site = simulator.site
        tls = ssl.create_default_context(cafile=tls_folder / "ca.pem") if tls_folder else None
        soap = SoapClient(session, tls=tls)
        clock = SetClock()
        management = Management(soap, site.url, oauth_of(simulator, clock), clock=clock)
        yield Rig(
            simulator=simulator,
            clock=clock,
            management=management,
            images=ImageServer(management, patience=Patience(connect_s=20, read_s=read_s)),
            commands=RecorderCommands(soap, management),
            door=Door(host=site.host, port=site.recorder_port, tls=tls),
        )


def same(gops: Sequence[Gop], groups: Sequence[Group], *, bunched: bool = True, bare: bool = False) -> None:
    """Bytes, order, key flags and times are those of the database."""
    assert [gop.current_ms for gop in gops] == [group.start_ms for group in groups]
    for gop, group in zip(gops, groups, strict=True):
        times = group.arrivals_ms() if bunched else [picture.time_ms for picture in group.pictures]
        assert [picture.time_ms for picture in gop.pictures] == list(times)
        assert [picture.key for picture in gop.pictures] == [picture.key for picture in group.pictures]
        assert {picture.codec for picture in gop.pictures} == {group.codec}
        if not bare:
            assert [p.data for p in gop.pictures] == [p.data for p in group.pictures]


@pytest.mark.parametrize("name", RECIPES)
async def test_every_picture_comes_back_as_it_was_recorded(name: str) -> None:
    async with rig() as site:
        await site.record(**RECIPES[name])
        assert len(site.held()) >= 3
        same(await site.read(span(-60, 60)), site.held())


SWITCHES: dict[str, dict[str, Any]] = {
    "a group as one body": {"multipart": False},
    "a wrapper packet": {"wrapper_packet": True},
    "single pictures alone": {"single_alone": True},
    "privacy mask": {"privacy_mask": True},
    "headers in lower case": {"header_case": "lower"},
    "headers in upper case": {"header_case": "upper"},
    "goto before the first: nothing": {"before_first": "empty"},
    "goto into a gap: the one after": {"gap_goto": "after"},
    "Next at the end as asked": {"end_next": "asked"},
    "the end is empty": {"end_repeats": False},
    "exact times": {"bunched_times": False},
    "SOAP with prefixes": {"soap_prefixed": True},
}


@pytest.mark.parametrize("switch", SWITCHES)
async def test_what_is_not_known_of_real_recorders_makes_no_difference(switch: str) -> None:
    async with rig() as site:
        site.simulator.site.assumptions.set(SWITCHES[switch])
        await site.record(0, **SMALL, gop=10)
        await site.record(60, **SMALL, gop=1)
        bunched = site.simulator.site.assumptions.bunched_times
        same(await site.read(span(-60, 300)), site.held(), bunched=bunched)
        same(await site.read(span(30, 61.95)), site.held(30, 61.95), bunched=bunched)
        with pytest.raises(ObjectMissing):
            await site.read(span(20, 40))
        with pytest.raises(ObjectMissing):
            await site.read(span(500, 600))
        with pytest.raises(ObjectMissing):
            await site.read(span(-20, -10))


async def test_bytes_may_arrive_one_by_one() -> None:
    async with rig() as site:
        await site.record()
        site.simulator.site.faults.split_every_byte = True
        same(await site.read(span(1.2, 1.9)), site.held(1.2, 1.9))


async def test_a_group_that_is_answered_without_its_pictures_is_asked_for_anew() -> None:
    async with rig() as site:
        await site.record(**SMALL, gop=2)
        gops: list[Gop] = []
        async with site.images.footage(site.door, GATE, span(0, SECONDS)) as read:
            async for gop in read:
                gops.append(gop)
                if len(gops) == 3:
                    site.simulator.site.faults.bodiless_next = 1
        same(gops, site.held())
        assert site.simulator.site.calls["imageserver:connect"] == 2
        site.simulator.site.faults.bodiless_next = 1000
        with pytest.raises(BackendUnavailable, match="no pictures"):
            await site.read(span(0, SECONDS))


@pytest.mark.parametrize("each", [True, False], ids=["each call", "the first call"])
@pytest.mark.parametrize("end", ["closed", "refused"])
async def test_a_token_that_expires_in_the_middle_costs_nothing(end: str, each: bool) -> None:
    async with rig() as site:
        await site.record(**SMALL, gop=2)
        site.simulator.site.assumptions.set({"expired_token": end, "refuses_each": each})
        gops: list[Gop] = []
        async with site.images.footage(site.door, GATE, span(0, SECONDS)) as read:
            async for gop in read:
                gops.append(gop)
                if len(gops) in {2, 9}:
                    site.simulator.site.faults.expire_corporate_tokens = True
        same(gops, site.held())
        assert site.simulator.site.calls["soap:Login"] == 3
        assert site.simulator.site.calls["imageserver:connectupdate"] == (0 if end == "closed" else 2)


async def test_a_token_is_renewed_before_it_ends() -> None:
    async with rig() as site:
        await site.record(**SMALL, gop=2)
        gops: list[Gop] = []
        async with site.images.footage(site.door, GATE, span(0, SECONDS)) as read:
            async for gop in read:
                gops.append(gop)
                if len(gops) == 3:
                    site.clock.ahead_s += 3600
        same(gops, site.held())
        assert site.simulator.site.calls["imageserver:connectupdate"] == 1
        assert site.simulator.site.calls["imageserver:connect"] == 1
        assert site.simulator.site.tokens.corporate_in_force == 2


@pytest.mark.parametrize(("start_s", "end_s"), [(1.5, 2.5), (0, 100)])
async def test_what_retention_eats_in_the_middle_is_missing_and_nothing_else(
    start_s: float, end_s: float
) -> None:
    """What was on its way already is still given; none comes twice."""
    async with rig() as site:
        await site.record(**SMALL, gop=1)
        before = [group.start_ms for group in site.held()]
        given: list[int] = []
        # With all of it gone the reading is short, and says so.
        with (
            contextlib.nullcontext()
            if end_s < SECONDS
            else pytest.raises(BackendUnavailable, match="no pictures")
        ):
            async with site.images.footage(site.door, GATE, span(0, SECONDS)) as read:
                async for gop in read:
                    given.append(gop.current_ms)
                    if len(given) == 3:
                        start_ms, end_ms = (round(at(s).timestamp() * 1000) for s in (start_s, end_s))
                        site.simulator.site.media.remove(GATE, start_ms, end_ms)
        assert given == sorted(set(given) & set(before))
        assert set(given) >= {group.start_ms for group in site.held()} | set(before[:3])


FAULTS: dict[str, tuple[dict[str, Any], type[BackendError], str]] = {
    "wrong length": ({"wrong_content_length": 1}, BackendUnavailable, "Content-length is not true"),
    "length too small": ({"wrong_content_length": -1}, BackendUnavailable, "Content-length is not true"),
    "a part cut": ({"drop_next": 1}, BackendUnavailable, "in the middle of an answer"),
    "half closed": ({"half_close_after": 900}, BackendUnavailable, "in the middle of an answer"),
    "half closed at once": ({"half_close_after": 0}, BackendUnavailable, "closed the connection"),
    "legacy form": ({"video_block": True}, Unsupported, "video block"),
    "JPEG": ({"wrong_picture_type": True}, Unsupported, "JPEG"),
    "empty database": ({"database_empty": True}, ObjectMissing, "no pictures"),
    "refused": ({"refuse_connect": "Device is disabled"}, ObjectRejected, "Device is disabled"),
    "refused token": ({"refuse_connect": "Token invalid"}, BackendUnavailable, "Token invalid"),
    "camera unknown": ({"deleted_cameras": [str(GATE)]}, ObjectRejected, "Unknown device"),
    "recorder away": ({"recorder": "refused"}, BackendUnavailable, "connect to the recording server"),
    "recorder closes": ({"recorder": "unavailable"}, BackendUnavailable, "is gone"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_what_goes_wrong_is_told_by_its_name(fault: str) -> None:
    changes, error, words = FAULTS[fault]
    async with rig() as site:
        await site.record()
        await site.simulator.set_faults(**changes)
        with pytest.raises(error, match=words) as told:
            await site.read(span(0, SECONDS))
        assert "TOKEN#" not in str(told.value)


async def test_a_recorder_that_hangs_is_given_up() -> None:
    async with rig(read_s=0.2) as site:
        await site.record()
        await site.simulator.set_faults(hang_after=900)
        with pytest.raises(BackendUnavailable, match="too long"):
            await site.read(span(0, SECONDS))


async def test_tls_is_verified_by_the_ca_that_is_given(tmp_path: Path) -> None:
    async with rig(tmp_path) as site:
        await site.record()
        same(await site.read(span(0, SECONDS)), site.held())
        await site.images.reach(site.door, GATE)
        for certificate in ("self_signed", "wrong_name"):
            await site.simulator.set_faults(recorder_certificate=certificate)
            with pytest.raises(BackendUnavailable, match="certificate is refused"):
                await site.images.reach(site.door, GATE)
        named = replace(site.door, server_hostname=OTHER_NAME)  # recorder_server_name, of the last one
        await site.images.reach(named, GATE)


async def test_two_cameras_are_read_at_once_with_one_log_in() -> None:
    async with rig() as site:
        await site.record()
        reads = await asyncio.gather(*(site.read(span(0, SECONDS)) for _ in range(5)))
        for read in reads:
            same(read, site.held())
        assert site.simulator.site.calls["soap:Login"] == 1
        await site.management.log_out()
        assert site.simulator.site.tokens.corporate_in_force == 0


# Sequences by SOAP.


@pytest.mark.parametrize("clipped", [False, True])
@pytest.mark.parametrize("limit", [None, 1, 2])
async def test_sequences_by_soap_are_those_of_the_database(clipped: bool, limit: int | None) -> None:
    async with rig() as site:
        site.simulator.site.assumptions.set({"sequences_clipped": clipped, "sequences_limit": limit})
        for start_s in (0, 20, 40, 60):
            await site.record(start_s)
        told = await site.commands.recorded(site.door, GATE, span(1, 61))
        assert told == [span(1, 3.9), span(20, 23.9), span(40, 43.9), span(60, 61)]
        assert await site.commands.recorded(site.door, GATE, span(5, 15)) == []


async def test_sequences_with_a_token_that_expired_are_asked_for_with_a_fresh_one() -> None:
    async with rig() as site:
        await site.record()
        await site.commands.recorded(site.door, GATE, span(0, 4))
        site.simulator.site.faults.expire_corporate_tokens = True
        assert await site.commands.recorded(site.door, GATE, span(0, 4)) == [span(0, 3.9)]
        assert site.simulator.site.calls["soap:Login"] == 2


async def test_a_fault_of_the_recorder_has_its_number() -> None:
    async with rig() as site:
        await site.simulator.set_faults(sequences_fault=40_017)
        with pytest.raises(SoapFault, match="Sequences cannot be read") as told:
            await site.commands.recorded(site.door, GATE, span(0, 4))
        assert told.value.number == 40_017
        await site.simulator.set_faults(sequences_fault=40_000)
        with pytest.raises(Unsupported):
            await site.commands.recorded(site.door, GATE, span(0, 4))
        with pytest.raises(SoapFault, match="Unknown device"):
            await site.commands.recorded(site.door, uuid4(), span(0, 4))
