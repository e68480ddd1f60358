"""What only XProtect holds any more, through the API: content, playlists, clips, exports, evidence."""

import asyncio
import hashlib
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from cctv_storaged.assembly import vms as assembly_vms
from cctv_storaged.clock import rfc3339
from cctv_storaged.evidence.manifest import FileRole, read
from tests.daemon import PROJECT
from tests.fakes.scripted_vms import ScriptedVms
from tests.fakes.xprotect.pictures import ms
from tests.hls import read_playlist
from tests.integration.api.exported import (
    GATE,
    NAMED,
    T0,
    asked,
    ended,
    fetched,
    moment,
    recorded,
    work,
)
from tests.integration.api.harness import API, Host, path_of, running
from tests.integration.api.played import frames_played, path
from tests.numbered import RATE, numbered_ts, pictures_in
from tests.services.invms import only_in_vms, shown_site
from tests.services.xprotect import PASSWORD, USER, camera, running_site

CAMERA = UUID("11111111-2222-4333-8444-555555555555")
LEAD_S = 2.4
"""XProtect's own groups of pictures begin 0.4 s before our segments."""
MILESTONE: dict[str, Any] = {
    "url": "https://vms.example",
    "username": "reader",
    "password": "canary-secret",
    "camera_map": {"gate": str(CAMERA)},
}


@pytest.fixture
def vms(monkeypatch: pytest.MonkeyPatch) -> ScriptedVms:
    scripted = shown_site()
    monkeypatch.setattr(assembly_vms, "open_vms", lambda settings, clock: scripted)
    return scripted


@pytest_asyncio.fixture
async def host(tmp_path: Path, vms: ScriptedVms) -> AsyncIterator[Host]:
    async with running(tmp_path, {**NAMED, "milestone": MILESTONE}) as started:
        yield started


async def kept_apart(host: Host, *numbers: int, **recipe: Any) -> list[dict[str, Any]]:
    """Six seconds in three segments, of which the numbered ones (or all) are only in the VMS."""
    made = await recorded(host, **recipe)
    for number in numbers or range(len(made)):
        await only_in_vms(host.journal, UUID(made[number]["id"]), CAMERA)
    return made


def film_in_vms(vms: ScriptedVms, *, bframes: int = 0, lead_s: float = LEAD_S) -> None:
    """XProtect's recording of that time, in groups of its own; picture 0 was taken `lead_s` before T0."""
    vms.film(CAMERA, numbered_ts(seconds=12, bframes=bframes), T0 - timedelta(seconds=lead_s))


def content_of(segment: dict[str, Any]) -> str:
    return f"{path_of(segment)}/content"


async def test_the_content_is_told_by_its_own_size_and_checksum(host: Host, vms: ScriptedVms) -> None:
    first, *_ = await kept_apart(host)
    film_in_vms(vms)
    whole = await host.get(content_of(first))
    digest = hashlib.sha256(whole.body).hexdigest()
    assert (whole.status, whole.headers["Content-Origin"]) == (200, "remuxed-from-vms")
    assert whole.headers["Content-Length"] == str(len(whole.body))
    assert whole.headers["ETag"] == f'"{digest}"'
    head = await host.request("HEAD", content_of(first))
    assert (head.status, head.headers["Content-Origin"]) == (200, "remuxed-from-vms")
    assert (head.headers["ETag"], head.headers["Content-Length"]) == (f'"{digest}"', str(len(whole.body)))
    part = await host.request("GET", content_of(first), headers={"Range": "bytes=188-1000"})
    assert (part.status, part.body) == (206, whole.body[188:1001])
    assert part.headers["Content-Range"] == f"bytes 188-1000/{len(whole.body)}"
    tag = {"If-Range": f'"{digest}"', "Range": "bytes=-100"}
    assert (await host.request("GET", content_of(first), headers=tag)).body == whole.body[-100:]
    same = await host.request("GET", content_of(first), headers={"If-None-Match": f'"{digest}"'})
    assert same.status == 304
    other = await host.request("GET", content_of(first), headers={"If-Match": f'"{"0" * 64}"'})
    assert other.status == 412
    behind = await host.request("GET", content_of(first), headers={"Range": "bytes=99999999-"})
    assert behind.status == 416
    assert vms.count("footage") == 1
    shown = (await host.get(path_of(first))).json
    assert (shown["size_bytes"], shown["checksum"]) == (first["size_bytes"], first["checksum"])


async def test_what_is_there_in_part_is_told_and_played_as_the_part_that_it_is(
    host: Host, vms: ScriptedVms
) -> None:
    first, second, *_ = await kept_apart(host)
    film_in_vms(vms, lead_s=0)
    kept = [group for group in vms.groups[CAMERA] if group.start_ms < ms(moment(1))]
    vms.groups[CAMERA] = kept
    show = partial(host.get, f"/segments/{GATE}/playlist.m3u8", start=rfc3339(T0), end=rfc3339(moment(6)))
    whole = [float(each) for each in re.findall(rb"EXTINF:([0-9.]+)", (await show()).body)]
    part = await host.get(content_of(first))
    start, end = map(datetime.fromisoformat, part.headers["Content-Span"].split("/"))
    assert start == T0
    assert end < moment(1.5)
    lengths = [float(each) for each in re.findall(rb"EXTINF:([0-9.]+)", (await show()).body)]
    assert lengths == [(end - start).total_seconds(), *whole[1:]]
    assert "Content-Span" not in (await host.get(path_of(second))).headers


async def test_the_recorders_bytes_go_before_those_of_the_vms(host: Host, vms: ScriptedVms) -> None:
    first, *_ = await recorded(host)
    film_in_vms(vms)
    await only_in_vms(host.journal, UUID(first["id"]), CAMERA)
    await host.journal._store.write(lambda db: db.execute("UPDATE segment SET source_state = 'present'"))
    away = await host.get(content_of(first))
    assert away.headers["Content-Origin"] == "remuxed-from-vms", "its source cannot be read"
    second = (await host.get(f"/segments/{GATE}", start=rfc3339(T0), end=rfc3339(moment(6)))).json
    there = await host.get(content_of(second["segments"][1]))
    assert "Content-Origin" not in there.headers
    assert vms.count("footage") == 1


async def test_what_the_vms_has_no_more_is_gone_and_its_copy_doubted(host: Host, vms: ScriptedVms) -> None:
    first, *_ = await kept_apart(host)
    gone = await host.get(content_of(first))
    assert (gone.status, gone.json["type"]) == (410, "urn:cctv-storaged:problem:gone")
    assert "MILESTONE at vms.example" in gone.json["detail"]
    assert "does not hold" in gone.json["detail"]
    (copy,) = (await host.get(path_of(first))).json["copies"]
    assert copy["state"] == "stored"


async def test_a_playlist_begins_anew_only_where_the_stream_is_another(host: Host, vms: ScriptedVms) -> None:
    made = await kept_apart(host, 1, 2)
    vms.film(CAMERA, numbered_ts(seconds=6), T0)
    reply = await host.get(path(T0, moment(6), GATE))
    playlist = read_playlist(reply.body)
    assert playlist.uris == [f"{segment['id']}/content.ts" for segment in made]
    # exported.recorded lets each file's clock begin anew, so that the recorder's own breaks count as well.
    await host.journal._store.write(
        lambda db: db.execute("UPDATE segment SET stream_ticks = (start_us / 100 * 9) % 8589934592")
    )
    read_ = read_playlist((await host.get(path(T0, moment(6), GATE))).body)
    assert [segment.discontinuity for segment in read_.segments] == [False, True, False]
    url = f"{host.url}{API}{path(T0, moment(6), GATE)}"
    assert await asyncio.to_thread(frames_played, url) == 6 * RATE


@pytest.mark.parametrize(("bframes", "vms_lead_s"), [(0, 2.4), (2, 2.4), (2, 2.5)])
async def test_a_clip_shows_every_picture_once_and_in_time(
    host: Host, vms: ScriptedVms, tmp_path: Path, bframes: int, vms_lead_s: float
) -> None:
    """Over the borders of segments, in the middle of XProtect's groups."""
    await kept_apart(host)
    film_in_vms(vms, bframes=bframes, lead_s=vms_lead_s)
    where = f"/segments/{GATE}/clip.mp4?start={rfc3339(moment(1))}&end={rfc3339(moment(5.5))}"
    reply = await host.get(where)
    assert reply.status == 200, reply
    lead_s = float(reply.headers["Clip-Lead-Seconds"])
    assert lead_s == pytest.approx(vms_lead_s - 2, abs=0.002), "from XProtect's key picture on"
    out = tmp_path / "clip.mp4"
    out.write_bytes(reply.body)
    pictures = pictures_in(out)
    numbers = [picture.number for picture in pictures]
    assert numbers[:46] == list(range(30, 76))
    for picture in pictures:
        assert picture.at_s == pytest.approx((picture.number - 30) / RATE, abs=0.005)


async def test_a_clip_does_not_change_streams(host: Host, vms: ScriptedVms) -> None:
    await kept_apart(host, 2)
    film_in_vms(vms)
    where = f"/segments/{GATE}/clip.mp4?start={rfc3339(T0)}&end={rfc3339(moment(6))}"
    reply = await host.get(where)
    assert reply.status == 409
    assert rfc3339(moment(4)) in reply.json["detail"]


async def test_pictures_are_those_of_their_time(host: Host, vms: ScriptedVms) -> None:
    first, *_ = await kept_apart(host)
    film_in_vms(vms)
    own = await host.get(f"{path_of(first)}/thumbnail.jpg")
    assert own.status == 200, own
    assert own.headers["Thumbnail-Time"].startswith("2026-01-01T09:59:59.6")
    near = await host.get(f"/cameras/{GATE}/thumbnail.jpg", at=rfc3339(moment(1.5)))
    assert near.status == 200, near
    assert near.headers["Thumbnail-Time"].startswith("2026-01-01T10:00:01.6")
    sheet = await host.get(
        f"/segments/{GATE}/storyboard.jpg", start=rfc3339(T0), end=rfc3339(moment(6)), tiles="3"
    )
    assert sheet.status == 200, sheet


async def test_an_export_of_both_has_a_file_of_each_and_says_which_was_read_back(
    host: Host, vms: ScriptedVms, tmp_path: Path
) -> None:
    await kept_apart(host, 1, 2, audio=True)
    film_in_vms(vms)
    work(host)
    export = await ended(host, await asked(host))
    sources = (await host.get(f"/exports/{export['id']}/manifest")).json["sources"]
    assert [(each["used"], each["remuxed"]) for each in sources] == [
        (True, False),
        (True, True),
        (True, True),
    ]
    with zipfile.ZipFile(await fetched(host, export, tmp_path)) as packed:
        films = [packed.extract(name, tmp_path) for name in packed.namelist() if name.endswith(".mp4")]
    first, second = ([each.number for each in pictures_in(Path(film))] for film in films)
    assert first == list(range(20))
    assert second == list(range(40, 84)), "from the key picture 0.4 s before on, each once"


async def test_evidence_of_what_only_the_vms_has_is_marked_and_holds(
    host: Host, vms: ScriptedVms, tmp_path: Path
) -> None:
    made = await kept_apart(host, 2)
    film_in_vms(vms)
    work(host)
    export = await ended(host, await asked(host, package="evidence"))
    package = await fetched(host, export, tmp_path)
    with zipfile.ZipFile(package) as packed:
        manifest, sheet = read(packed.read("manifest.json")), packed.read("sheet.html").decode()
        (file,) = manifest.of_role(FileRole.REMUXED)
        data = packed.read(file.path)
    assert len(manifest.of_role(FileRole.ORIGINAL)) == 2
    assert manifest.of_role(FileRole.DIFFERING) == []
    assert manifest.version == 2
    assert file.path.startswith("remuxed/")
    assert (file.size_bytes, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert file.source is not None
    assert (file.source.read_from, str(file.source.segment_id)) == ("MILESTONE", made[2]["id"])
    assert file.span is not None
    assert abs(file.span.start - moment(3.6)) <= timedelta(milliseconds=1)
    assert "Read back from a VMS" in sheet
    assert "remuxed" in [gap["cause"] for gap in export["gaps"]]
    argv = [sys.executable, "-m", "cctv_storaged", "verify", str(package)]
    done = subprocess.run(
        argv,
        env={"PYTHONPATH": str(PROJECT / "src")},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    assert "2 originals, 1 read back from a VMS" in done.stdout
    assert "not the recorder's bytes" in done.stdout
    content = await host.get(content_of(made[2]))
    assert content.headers["ETag"] == f'"{file.sha256}"', "what is in the package is what the API gives"
    lines = (await host.get("/ledger", kind="noted")).json["lines"]
    told = [json.loads(line["detail"]) for line in lines if line["cause"] == "remuxed"]
    assert [each["sha256"] for each in told] == [file.sha256]


async def test_what_was_read_back_of_a_deleted_segment_goes_with_it(host: Host, vms: ScriptedVms) -> None:
    first, second, _ = await kept_apart(host)
    film_in_vms(vms)
    for segment in (first, second):
        assert (await host.get(content_of(segment))).status == 200
    folder = host.settings.data_dir / "cache" / "vms"
    assert len(list(folder.iterdir())) == 2
    assert (await host.delete(path_of(first))).status < 300
    (left,) = folder.iterdir()
    assert left.name.startswith(second["id"])


@pytest.mark.parametrize("bunched", [False, True], ids=["own times", "bunched times"])
async def test_the_simulated_recorder_gives_back_what_was_recorded_when_it_was(
    tmp_path: Path, bunched: bool
) -> None:
    """With XProtect's client and wire in between: log-in, token, ImageServer."""
    source = numbered_ts(seconds=6, bframes=2)
    async with running_site(("gate",)) as site:
        site.site.assumptions.set({"bunched_times": bunched})
        await asyncio.to_thread(site.site.media.add_ts, camera("gate").id, source, T0)
        block = {"url": site.site.url, "username": USER, "password": PASSWORD, "allow_plain_http": True}
        block["camera_map"] = {"gate": str(camera("gate").id)}
        async with running(tmp_path, {**NAMED, "milestone": block}) as host:
            made = await recorded(host)
            for segment in made:
                await only_in_vms(host.journal, UUID(segment["id"]), camera("gate").id)
            reply = await host.get(content_of(made[1]))
            assert reply.headers["Content-Origin"] == "remuxed-from-vms"
            where = f"/segments/{GATE}/clip.mp4?start={rfc3339(moment(1))}&end={rfc3339(moment(5))}"
            clip = await host.get(where)
    out = tmp_path / "back.ts"
    out.write_bytes(reply.body)
    assert [picture.number for picture in pictures_in(out)] == list(range(20, 40))
    film = tmp_path / "clip.mp4"
    film.write_bytes(clip.body)
    for picture in pictures_in(film):
        assert picture.at_s == pytest.approx((picture.number - 10) / RATE, abs=0.01)
