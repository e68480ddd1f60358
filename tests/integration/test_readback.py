"""Footage that only XProtect holds, read back: pictures at their true times, in a cache that stays small."""

import asyncio
import json
import shutil
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from cctv_storaged.api.problems import problem_of
from cctv_storaged.backends.base import Backend
from cctv_storaged.clock import EPOCH
from cctv_storaged.errors import (
    BackendUnavailable,
    FootageAway,
    NoPlace,
    NotFound,
    NotHeld,
    ObjectRejected,
    Unsupported,
)
from cctv_storaged.keyframes import Footage
from cctv_storaged.model import Copy, CopyState, Segment, TimeSpan
from cctv_storaged.mpegts.probe import StreamFacts, probe_by
from cctv_storaged.mpegts.track import WRAP, ticks_between
from cctv_storaged.reading import Content, Reader
from cctv_storaged.vms import readback, readbackcache
from cctv_storaged.vms.readback import Readback
from cctv_storaged.vms.readbackcache import ReadbackCache
from tests.fakes.scripted_backend import Op, ScriptedBackend, Unavailable
from tests.fakes.scripted_vms import ScriptedVms
from tests.numbered import RATE, numbered_ts, pictures_in
from tests.services.invms import only_in_vms, shown_site
from tests.services.rig import Rig, opened

CAMERA = UUID("11111111-2222-4333-8444-555555555555")
SECONDS = 4
MIB = 2**20


@dataclass(slots=True)
class Bench:
    """A host with one camera's footage in a VMS, and a reader of it."""

    rig: Rig
    vms: ScriptedVms
    cache: ReadbackCache
    readback: Readback
    reader: Reader
    folder: Path
    deleted: set[UUID]  # segments that have their tombstone

    async def delete(self, segment: Segment) -> None:
        """What the remover does."""
        self.deleted.add(segment.id)
        await self.readback.forget(segment.id)

    async def segment(self, number: int, source: Path) -> Segment:
        """The recorder's `number`th segment, which only the VMS has any more; not yet recorded there."""
        path = self.rig.recordings / self.rig.path_of(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, path)
        return await only_in_vms(self.rig.journal, (await self.rig.register(number)).id, CAMERA)

    async def read(self, segment: Segment) -> tuple[Content, bytes]:
        async with self.reader.content(segment) as content, content.opened(0, None, True) as found:
            return content, b"".join([block async for block in found.blocks])

    def files(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir()) if self.folder.exists() else []


@asynccontextmanager
async def bench(
    folder: Path, *backends: Backend, most_bytes: int = 64 * MIB, reserve_bytes: int = 0
) -> AsyncIterator[Bench]:
    async with opened(folder) as rig:
        vms = shown_site()
        cache = ReadbackCache(folder / "cache", most_bytes, reserve_bytes)
        await cache.open()
        deleted: set[UUID] = set()

        async def is_left(segment_id: UUID) -> bool:
            return segment_id not in deleted

        back = Readback(vms, cache, rig.journal.read_backs, rig.clock, is_left=is_left)
        doubt = rig._doubt
        reader = Reader(backends, rig.metrics, rig.pruner().pins, doubt, back)
        try:
            yield Bench(rig, vms, cache, back, reader, folder / "cache", deleted)
        finally:
            await back.close()


def facts_of(data: bytes) -> StreamFacts:
    return probe_by(lambda offset, length: data[offset : offset + length], len(data))


@pytest.mark.parametrize("bunched", [False, True], ids=["own times", "bunched times"])
@pytest.mark.parametrize(("codec", "bframes"), [("h264", 0), ("h264", 2), ("hevc", 0), ("hevc", 3)])
async def test_every_picture_is_shown_when_it_was_recorded(
    tmp_path: Path, codec: str, bframes: int, bunched: bool
) -> None:
    source = numbered_ts(seconds=SECONDS, codec=codec, bframes=bframes, ts_offset_s=95_440)  # the clock wraps
    async with bench(tmp_path) as host:
        segment = await host.segment(0, source)
        host.vms.bunched = bunched
        host.vms.film(CAMERA, source, segment.span.start)
        content, data = await host.read(segment)
    assert segment.stream is not None
    out = tmp_path / "back.ts"
    out.write_bytes(data)
    pictures = pictures_in(out)
    assert [picture.number for picture in pictures] == list(range(SECONDS * RATE))
    first = pictures[0].at_s
    for picture in pictures:
        assert (picture.at_s - first) * RATE == pytest.approx(picture.number, abs=0.05)
    facts = facts_of(data)
    assert facts.start is not None
    assert abs(ticks_between(segment.stream.ticks, facts.start.ticks)) <= 90, "within XProtect's millisecond"
    assert content.remuxed
    assert (content.size_bytes, content.stream) == (len(data), facts.start)
    assert abs(content.span.start - segment.span.start) <= timedelta(milliseconds=1)
    assert (facts.cut_off, facts.discontinuity, facts.starts_with_keyframe) == (False, False, True)


async def test_it_begins_with_the_key_picture_that_leads_to_its_start_and_ends_before_its_end(
    tmp_path: Path,
) -> None:
    source = numbered_ts(seconds=SECONDS)
    async with bench(tmp_path) as host:
        segment = await host.segment(0, source)
        # XProtect's own groups begin 0.4 s before ours: 10 pictures each.
        host.vms.film(CAMERA, numbered_ts(seconds=12), segment.span.start - timedelta(seconds=2.4))
        content, data = await host.read(segment)
    out = tmp_path / "back.ts"
    out.write_bytes(data)
    numbers = [picture.number for picture in pictures_in(out)]
    assert numbers == list(range(20, 64)), "from second 2.0 there until second 6.4"
    assert segment.stream is not None
    assert content.stream is not None
    lead = ticks_between(content.stream.ticks, segment.stream.ticks)
    assert lead == pytest.approx(0.4 * 90_000, abs=180), "its clock is the recorder's, and starts earlier"
    assert segment.span.start - content.span.start == pytest.approx(
        timedelta(seconds=0.4), abs=timedelta(milliseconds=2)
    )
    assert content.span.end <= segment.span.end + timedelta(milliseconds=1)


async def test_what_the_vms_holds_in_part_is_given_in_part(tmp_path: Path) -> None:
    source = numbered_ts(seconds=SECONDS)
    async with bench(tmp_path) as host:
        segment = await host.segment(0, source)
        host.vms.film(CAMERA, source, segment.span.start)
        host.vms.lose(CAMERA, TimeSpan(EPOCH, segment.span.start + timedelta(seconds=2)))
        content, _ = await host.read(segment)
        lines = await host.rig.journal.ledger_lines.page(0)
    assert content.span.start == pytest.approx(
        segment.span.start + timedelta(seconds=2), abs=timedelta(milliseconds=1)
    )
    told = json.loads(next(line.line.detail for line in lines.lines if line.line.cause == "remuxed"))
    assert datetime.fromisoformat(told["start"]) == content.span.start


@pytest.mark.parametrize("left", [slice(0, 2), slice(2, 4)], ids=["its begin", "its end"])
async def test_what_was_read_back_in_part_is_asked_for_anew_soon(
    tmp_path: Path, left: slice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A retrieval may be under way, or the footage not readable yet."""
    source = numbered_ts(seconds=SECONDS)
    async with bench(tmp_path) as host:
        segment = await host.segment(0, source)
        host.vms.film(CAMERA, source, segment.span.start)
        whole = host.vms.groups[CAMERA]
        host.vms.groups[CAMERA] = whole[left]
        part, _ = await host.read(segment)
        assert part.span.duration < segment.span.duration
        await host.read(segment)
        assert host.vms.count("footage") == 1, "whoever asks for its bytes in ranges is given the same"
        host.vms.groups[CAMERA] = whole
        monkeypatch.setattr(readback, "IN_PART_S", 0.0)
        await host.readback.forget(segment.id)
        host.vms.groups[CAMERA] = whole[left]
        await host.read(segment)
        host.vms.groups[CAMERA] = whole
        content, _ = await host.read(segment)
        assert segment.span.end - content.span.end < timedelta(milliseconds=100)
        assert abs(content.span.start - segment.span.start) <= timedelta(milliseconds=1)
        asked = host.vms.count("footage")
        await host.read(segment)
        assert host.vms.count("footage") == asked, "what is whole is kept"


async def test_a_hole_in_the_middle_is_a_part_as_well_and_no_later_process_finds_it(tmp_path: Path) -> None:
    source = numbered_ts(seconds=SECONDS)
    async with bench(tmp_path) as host:
        segment = await host.segment(0, source)
        host.vms.film(CAMERA, source, segment.span.start)
        whole = host.vms.groups[CAMERA]
        host.vms.groups[CAMERA] = [whole[0], *whole[3:]]
        await host.read(segment)
        assert len(host.files()) == 1
    async with bench(tmp_path) as host:
        assert host.files() == []


async def test_what_was_proven_anew_is_read_back_anew(tmp_path: Path) -> None:
    source = numbered_ts(seconds=SECONDS)
    async with bench(tmp_path) as host:
        segment = await host.segment(0, source)
        host.vms.film(CAMERA, source, segment.span.start)
        await host.read(segment)
        host.readback.renewed(segment.id)
        while host.files():
            await asyncio.sleep(0.001)
        assert host.readback.shows(segment.id) is None


async def test_a_segment_that_is_deleted_while_its_file_is_made_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = numbered_ts(seconds=SECONDS)
    began, go_on, synced = threading.Event(), threading.Event(), readbackcache._synced

    def slowly(descriptor: int) -> None:
        began.set()
        go_on.wait(30)
        synced(descriptor)

    monkeypatch.setattr(readbackcache, "_synced", slowly)
    async with bench(tmp_path) as host:
        segment = await host.segment(0, source)
        host.vms.film(CAMERA, source, segment.span.start)
        reading = asyncio.create_task(host.read(segment))
        await asyncio.to_thread(began.wait, 30)
        deleting = asyncio.create_task(host.delete(segment))
        await asyncio.sleep(0)
        go_on.set()
        await deleting
        assert (host.files(), host.cache.size_bytes) == ([], 0)
        await asyncio.gather(reading, return_exceptions=True)
        assert host.files() == []


async def test_who_found_a_segment_before_it_was_deleted_does_not_bring_its_footage_back(
    tmp_path: Path,
) -> None:
    source = numbered_ts(seconds=SECONDS)
    async with bench(tmp_path) as host:
        segment = await host.segment(0, source)
        host.vms.film(CAMERA, source, segment.span.start)
        picture = Footage(host.reader, segment)
        await picture._content()
        await host.delete(segment)
        with pytest.raises(NotFound):
            await host.read(segment)
        with pytest.raises(NotFound):
            await picture.first()
        assert (host.files(), host.cache.size_bytes) == ([], 0)


async def test_a_segment_without_a_picture_of_its_own_shows_the_one_before(tmp_path: Path) -> None:
    """XProtect recorded a key frame every few seconds; its copy is not doubted."""
    source = numbered_ts(seconds=SECONDS)
    async with bench(tmp_path) as host:
        segment = await host.segment(0, source)
        host.vms.film(CAMERA, source, segment.span.start - timedelta(seconds=7))
        host.vms.film(CAMERA, source, segment.span.end + timedelta(seconds=1))
        host.vms.pause_ms = 20_000
        content, data = await host.read(segment)
        assert content.span.end < segment.span.start, "told as it is"
        assert facts_of(data).starts_with_keyframe
        assert await host.rig.state(segment, "MILESTONE") == "verified"
        host.vms.groups[CAMERA] = []
        host.vms.film(CAMERA, source, segment.span.start - timedelta(seconds=SECONDS + 70))
        host.vms.film(CAMERA, source, segment.span.end + timedelta(seconds=1))
        host.vms.pause_ms = 10**6
        await host.readback.forget(segment.id)
        with pytest.raises(ObjectRejected, match="no picture"):
            await host.read(segment)
        assert await host.rig.state(segment, "MILESTONE") == "verified"


async def test_a_cache_that_cannot_be_read_holds_nothing_and_keeps_nobody_from_starting(
    tmp_path: Path,
) -> None:
    (tmp_path / "cache").symlink_to("cache")  # to itself
    async with bench(tmp_path) as host:
        segment = await host.segment(0, numbered_ts(seconds=SECONDS))
        host.vms.film(CAMERA, numbered_ts(seconds=SECONDS), segment.span.start)
        with pytest.raises(NoPlace):
            await host.read(segment)


async def test_a_vms_that_has_nothing_of_it_makes_its_copy_doubted(tmp_path: Path) -> None:
    source = numbered_ts(seconds=SECONDS)
    async with bench(tmp_path) as host:
        segment = await host.segment(0, source)
        with pytest.raises(NotHeld, match=r"MILESTONE at vms\.example does not hold"):
            await host.read(segment)
        assert await host.rig.state(segment, "MILESTONE") == "stored", "to be proven again"
        assert host.files() == []
        assert host.cache.size_bytes == 0


async def test_what_is_away_is_named_to_whoever_wanted_the_footage(tmp_path: Path) -> None:
    source = numbered_ts(seconds=SECONDS)
    async with bench(tmp_path) as host:
        segment = await host.segment(0, source)
        refused = BackendUnavailable("connect to the recording server rec.example:7563: refused")
        host.vms.errors["footage"] = refused
        with pytest.raises(FootageAway) as told:
            await host.read(segment)
    problem = problem_of(told.value)
    assert problem.kind.status == 503
    assert "rec.example:7563" in problem.detail


async def test_pictures_beyond_a_hole_are_not_those_of_the_segment(tmp_path: Path) -> None:
    """The last group before a gap is what XProtect answers with."""
    source = numbered_ts(seconds=SECONDS)
    async with bench(tmp_path) as host:
        segment = await host.segment(0, source)
        host.vms.film(CAMERA, source, segment.span.start - timedelta(seconds=SECONDS + 2.5))
        with pytest.raises(NotHeld):
            await host.read(segment)


async def test_several_who_ask_at_once_are_given_what_is_made_once(tmp_path: Path) -> None:
    source = numbered_ts(seconds=SECONDS)
    async with bench(tmp_path) as host:
        segment = await host.segment(0, source)
        host.vms.film(CAMERA, source, segment.span.start)
        host.vms.hold = asyncio.Event()
        readers = [asyncio.create_task(host.read(segment)) for _ in range(5)]
        while not host.vms.count("footage") or host.readback._making[segment.id].waiting < len(readers):
            await asyncio.sleep(0)
        readers[0].cancel()
        await asyncio.gather(readers[0], return_exceptions=True)
        host.vms.hold.set()
        answers = await asyncio.gather(*readers[1:])
        again = await host.read(segment)
        assert len({data for _, data in (*answers, again)}) == 1
        assert host.vms.count("footage") == 1
        lines = (await host.rig.journal.ledger_lines.page(0)).lines
    told = [line.line for line in lines if line.line.cause == "remuxed"]
    assert len(told) == 1
    assert again[0].sha256 == bytes.fromhex(json.loads(told[0].detail)["sha256"])


async def test_a_reading_that_nobody_waits_for_ends_and_leaves_nothing(tmp_path: Path) -> None:
    source = numbered_ts(seconds=SECONDS)
    async with bench(tmp_path) as host:
        segment = await host.segment(0, source)
        host.vms.film(CAMERA, source, segment.span.start)
        host.vms.hold = asyncio.Event()
        reader = asyncio.create_task(host.read(segment))
        while not host.files():
            await asyncio.sleep(0.001)
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        while host.files():
            await asyncio.sleep(0.001)
        assert host.cache.size_bytes == 0
        host.vms.hold = None
        content, data = await host.read(segment)
        assert content.size_bytes == len(data), "and the next one is given it"


async def test_a_recorder_whose_clock_was_set_back_is_told_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = numbered_ts(seconds=SECONDS)
    async with bench(tmp_path) as host:
        segment = await host.segment(0, source)
        host.vms.film(CAMERA, source, segment.span.start)
        again = shown_site()
        again.film(CAMERA, source, segment.span.start)
        host.vms.groups[CAMERA] = [*host.vms.groups[CAMERA][:3], *again.groups[CAMERA][1:]]
        _, data = await host.read(segment)
    assert "clock was set back by" in caplog.text
    assert not facts_of(data).discontinuity


async def test_what_breaks_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    source = numbered_ts(seconds=SECONDS)
    async with bench(tmp_path) as host:
        segment = await host.segment(0, source)
        host.vms.film(CAMERA, source, segment.span.start)
        host.vms.errors["footage"] = BackendUnavailable("the recorder is away")
        host.vms.breaks_after = 2
        with pytest.raises(BackendUnavailable):
            await host.read(segment)
        assert host.files() == []
        assert host.cache.size_bytes == 0
        assert await host.rig.state(segment, "MILESTONE") == "verified", "it is away, not gone"


async def test_what_no_transport_stream_holds_is_refused(tmp_path: Path) -> None:
    async with bench(tmp_path) as host:
        segment = await host.segment(0, numbered_ts(seconds=SECONDS))
        host.vms.film(CAMERA, numbered_ts(seconds=SECONDS), segment.span.start)
        groups = host.vms.groups[CAMERA]
        object.__setattr__(groups[0], "codec", "jpeg")
        with pytest.raises(Unsupported, match="jpeg"):
            await host.read(segment)


async def test_the_cache_stays_small_and_keeps_what_is_being_read(tmp_path: Path) -> None:
    source = numbered_ts(seconds=SECONDS)
    async with bench(tmp_path, most_bytes=int(2.5 * source.stat().st_size)) as host:
        segments = [await host.segment(number, source) for number in range(4)]
        for segment in segments:
            host.vms.film(CAMERA, source, segment.span.start)
        async with host.reader.content(segments[0]) as first:
            for segment in segments[1:]:
                await host.read(segment)
            assert len(host.files()) == 2
            assert host.cache.size_bytes <= 2.5 * source.stat().st_size
            async with first.opened(0, None, True) as found:
                assert len(b"".join([block async for block in found.blocks])) == first.size_bytes
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(host.reader.content(segments[3]))
                with pytest.raises(NoPlace, match=r"milestone\.cache\.max_bytes"):
                    await host.read(segments[1])
        await host.read(segments[1])
        asked = host.vms.count("footage")
        await host.read(segments[3])
        assert host.vms.count("footage") == asked, "what was used last is still there"


async def test_a_disk_without_room_takes_nothing(tmp_path: Path) -> None:
    source = numbered_ts(seconds=SECONDS)
    async with bench(tmp_path, reserve_bytes=2**62) as host:
        segment = await host.segment(0, source)
        host.vms.film(CAMERA, source, segment.span.start)
        with pytest.raises(NoPlace, match=r"capacity\.reserve"):
            await host.read(segment)
        assert host.files() == []


async def test_the_next_process_finds_what_is_whole_and_nothing_else(tmp_path: Path) -> None:
    source = numbered_ts(seconds=SECONDS)
    async with bench(tmp_path) as host:
        segment = await host.segment(0, source)
        host.vms.film(CAMERA, source, segment.span.start)
        before, data = await host.read(segment)
    (whole,) = host.files()
    (host.folder / f"{segment.id}.00ff.part").write_bytes(b"half")
    (host.folder / "nonsense.ts").write_bytes(b"?")
    other = whole.replace(str(segment.id), str(uuid4()))
    (host.folder / other).write_bytes(b"")  # torn by a power cut
    async with bench(tmp_path) as host:
        after, again = await host.read(await host.rig.segment(segment))
        assert host.files() == [whole]
        assert host.vms.count("footage") == 0
    assert (again, after.span, after.stream, after.sha256) == (
        data,
        before.span,
        before.stream,
        before.sha256,
    )


async def test_a_file_that_was_damaged_is_not_given_out_whole_and_made_anew(tmp_path: Path) -> None:
    source = numbered_ts(seconds=SECONDS)
    async with bench(tmp_path) as host:
        segment = await host.segment(0, source)
        host.vms.film(CAMERA, source, segment.span.start)
        _, data = await host.read(segment)
        (name,) = host.files()
        (host.folder / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises(Exception, match="is not as it was read back"):
            await host.read(segment)
        assert (await host.read(segment))[1] == data


async def test_neighbours_that_were_read_back_play_on(tmp_path: Path) -> None:
    """Their streams' clocks are one, also where nothing is known of the recorder's."""
    source = numbered_ts(seconds=SECONDS)
    async with bench(tmp_path) as host:
        segments = [await host.segment(number, source) for number in range(2)]
        for segment in segments:
            host.vms.film(CAMERA, source, segment.span.start)
        await host.rig.journal._store.write(
            lambda db: db.execute("UPDATE segment SET stream_ticks = NULL, stream_print = NULL")
        )
        contents = [(await host.read(await host.rig.segment(each)))[0] for each in segments]
    starts = [content.stream.ticks for content in contents if content.stream is not None]
    apart = TimeSpan(segments[0].span.start, segments[1].span.start).duration
    assert ticks_between(*starts) == pytest.approx(apart.total_seconds() * 90_000 % WRAP, abs=180)


async def test_the_object_store_is_read_first_and_what_it_has_is_not_gone_while_it_is_away(
    tmp_path: Path,
) -> None:
    source, store = numbered_ts(seconds=SECONDS), ScriptedBackend("S3")
    async with bench(tmp_path, store) as host:
        segment = await host.segment(0, source)
        host.vms.film(CAMERA, source, segment.span.start)
        at_store = Copy(backend="S3", state=CopyState.VERIFIED, path="a.ts")
        both = replace(segment, copies=(*segment.copies, at_store))
        store.objects["a.ts"] = source.read_bytes()
        content, data = await host.read(both)
        assert (content.remuxed, data, host.vms.count("footage")) == (False, source.read_bytes(), 0)
        store.always(Unavailable(), Op.OPEN)
        content, _ = await host.read(both)
        assert content.remuxed
        await host.readback.forget(segment.id)
        host.vms.groups.clear()
        with pytest.raises(BackendUnavailable) as caught:
            await host.read(both)
        assert not isinstance(caught.value, NoPlace)


async def test_no_picture_is_left_that_refers_to_one_behind_the_end(tmp_path: Path) -> None:
    """It would be shown before the end, and is decoded after one that is not there."""
    async with bench(tmp_path) as host:
        segment = await host.segment(0, numbered_ts(seconds=SECONDS))
        film = numbered_ts(seconds=12, bframes=2)
        host.vms.film(CAMERA, film, segment.span.start - timedelta(seconds=2.5))
        _, data = await host.read(segment)
    out = tmp_path / "back.ts"
    out.write_bytes(data)
    assert [picture.number for picture in pictures_in(out)] == list(range(20, 64)), "64 refers to 66"
