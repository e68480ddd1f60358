"""What `backends.base.Listing` promises, tried on files, and with both clients on a real S3 server."""

import asyncio
import hashlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from cctv_storaged.backends import listpage, objectstore, walking
from cctv_storaged.backends.base import ListedObject, Listing
from cctv_storaged.errors import BackendUnavailable
from cctv_storaged.model import is_object_key
from cctv_storaged.pacing import ByteBudget
from tests.services.backends import STORES, Subject, files_subject, store_subject
from tests.services.payloads import payload_of, write_source
from tests.services.seaweed import Bucket, SeaweedServer

KINDS = ("filesystem-link", "minio", "s3")
CAMERAS = [UUID(int=number, version=4) for number in (0x3F0C, 0x3F0D, 0xE0 << 120)]
DATA = b"G" * 188
FOREIGN = (
    f"{CAMERAS[0]}-old/x.ts",  # before the camera's by its bytes, behind it from folder to folder
    f"{CAMERAS[0]}.txt",
    f"{CAMERAS[0]}/2026/03/05/12.ts",
    f"{CAMERAS[0]}/2026/03/05/12-0/20260305T120000.000000Z_10000_0123456789ab.ts",
    "exports/0198/clip.mp4",
    "exports-old/1",
    "thumbnails/x/1.jpg",
    "ledger/head",
    ".cctv-storaged-identity",
    ".cctv-put-0123456789abcdef",
    "a b+c%41&<é>'\"\n.ts",
    "a!b/c",
    "a",
    "Z",
)
"""What lies in the same place and is no segment."""


def key(camera: UUID, second: int, spare: str = "") -> str:
    start = datetime(2026, 3, 5, 12, tzinfo=UTC) + timedelta(seconds=second)
    return f"{camera}/{start:%Y/%m/%d/%H/%Y%m%dT%H%M%S.%fZ}_10000_0123456789ab{spare}.ts"


SEGMENTS = sorted(
    [key(camera, second) for camera in CAMERAS for second in (0, 10, 3600, 90_000)]
    + [key(CAMERAS[0], 0, ".1"), key(CAMERAS[0], 0, ".2")]
)


@pytest.fixture(scope="module")
def stores(
    _seaweed_of_the_session: SeaweedServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Subject]]:
    """The same holdings on each kind."""
    _seaweed_of_the_session.ensure_running()
    bucket = _seaweed_of_the_session.create_bucket()
    made = {kind: store_subject(kind, bucket) for kind in STORES}
    made["filesystem-link"] = files_subject("filesystem-link", tmp_path_factory.mktemp("listed"))
    for kind in ("minio", "filesystem-link"):
        asyncio.run(fill(made[kind], tmp_path_factory.mktemp("source") / "source.ts"))
    yield made
    for subject in made.values():
        asyncio.run(subject.backend.close())


@pytest.fixture(params=KINDS)
def subject(request: pytest.FixtureRequest, stores: dict[str, Subject]) -> Subject:
    return stores[request.param]


async def fill(subject: Subject, source: Path) -> None:
    write_source(source, DATA)
    with payload_of(source) as payload:
        for path in (*SEGMENTS, *FOREIGN):
            await subject.backend.put(path, payload, ByteBudget(None))


async def listed(subject: Subject, prefix: str = "", after: str = "") -> list[ListedObject]:
    return [found async for page in subject.backend.listed(prefix, after) for found in page]


def ours(found: list[ListedObject], prefix: str = "") -> list[str]:
    return [one.path for one in found if is_object_key(prefix, one.path)]


async def test_everything_is_listed_once_with_its_size_and_time(subject: Subject) -> None:
    assert isinstance(subject.backend, Listing)
    found = await listed(subject)
    assert sorted(one.path for one in found) == sorted((*SEGMENTS, *FOREIGN))
    assert {one.size_bytes for one in found} == {len(DATA)}
    assert {abs(one.modified - datetime.now(UTC)) < timedelta(hours=1) for one in found} == {True}
    if subject.is_store:
        assert {one.etag for one in found} == {hashlib.md5(DATA).hexdigest()}


async def test_segments_come_in_the_order_of_their_bytes_whatever_else_lies_there(subject: Subject) -> None:
    assert ours(await listed(subject)) == SEGMENTS


@pytest.mark.parametrize("page", [1, 2, 3, 7])
async def test_small_pages_are_the_same_list(
    subject: Subject, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = await listed(subject)
    paged(subject, page, monkeypatch)
    pages = [list(found) async for found in subject.backend.listed("")]
    assert [one for found in pages for one in found] == whole
    assert {len(found) for found in pages[:-1]} == {page}


async def test_a_listing_goes_on_behind_any_segment_and_behind_names_that_are_gone(subject: Subject) -> None:
    for after in (*SEGMENTS, key(CAMERAS[0], 5), key(CAMERAS[1], 4000), f"{CAMERAS[0]}/2026/03/05/1"):
        expected = [path for path in SEGMENTS if path > after]
        assert ours(await listed(subject, after=after)) == expected, after


async def test_what_no_segment_can_lie_in_is_jumped_over(subject: Subject) -> None:
    for word in ("exports", "ledger", "thumbnails", "0"):
        assert ours(await listed(subject, after=f"{word}0")) == [one for one in SEGMENTS if one > f"{word}0"]


async def test_only_what_is_below_the_prefix_is_listed(subject: Subject) -> None:
    for camera in CAMERAS:
        found = await listed(subject, prefix=f"{camera}/2026/03/05/")
        assert ours(found) == [path for path in SEGMENTS if path.startswith(f"{camera}/2026/03/05/")]
    assert await listed(subject, prefix="nothing/") == []
    assert [one.path for one in await listed(subject, prefix="exports/")] == ["exports/0198/clip.mp4"]


async def test_a_listing_given_up_half_way_blocks_nothing(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    paged(subject, 1, monkeypatch)
    for _ in range(20):
        async for _ in subject.backend.listed(""):
            break
    assert len(await listed(subject)) == len(SEGMENTS) + len(FOREIGN)


async def test_a_missing_bucket_is_no_empty_one(
    _seaweed_of_the_session: SeaweedServer, tmp_path: Path
) -> None:
    nowhere = Bucket(server=_seaweed_of_the_session, name="nowhere")
    backends = [store_subject(kind, nowhere) for kind in STORES]
    backends.append(files_subject(KINDS[0], tmp_path / "gone"))
    (tmp_path / "gone").rmdir()
    for missing in backends:
        with pytest.raises(BackendUnavailable) as raised:
            await listed(missing)
        assert raised.value.reason == "bucket"
        await missing.backend.close()


async def test_an_unreadable_folder_is_no_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root reads everything, so the kernel's refusal is put in its way."""
    subject = files_subject(KINDS[0], tmp_path)
    for name in ("lost+found", str(CAMERAS[0])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.ts").write_bytes(DATA)
    whole = walking._sorted

    def refusing(inside: walking._Folder, *rest: object) -> list[str]:
        if inside.names == (refused,):
            raise PermissionError(13, "refused")
        return whole(inside, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(walking, "_sorted", refusing)
    refused = "lost+found"
    assert [one.path for one in await listed(subject)] == [f"{CAMERAS[0]}/x.ts"]
    refused = str(CAMERAS[0])
    with pytest.raises(BackendUnavailable, match=refused):
        await listed(subject)
    await subject.backend.close()


async def test_links_and_pipes_are_not_listed_and_not_followed(tmp_path: Path) -> None:
    subject = files_subject(KINDS[0], tmp_path / "store")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x.ts").write_bytes(DATA)
    os.symlink(tmp_path / "elsewhere", tmp_path / "store" / "folder")
    os.symlink(tmp_path / "elsewhere" / "x.ts", tmp_path / "store" / "x.ts")
    os.mkfifo(tmp_path / "store" / "pipe.ts")
    assert await listed(subject) == []
    await subject.backend.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>a proxy's page</html>",
        b"not even that",
        b"<!DOCTYPE x [<!ENTITY a 'b'>]><ListBucketResult/>",
        b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
        b"<ListBucketResult><Contents><Key>a</Key></Contents></ListBucketResult>",
        b"<ListBucketResult><Contents><Key>a</Key><Size>x</Size><LastModified>y</LastModified></Contents>"
        b"</ListBucketResult>",
    ],
)
def test_an_answer_that_is_no_listing_is_no_empty_one(answer: bytes) -> None:
    with pytest.raises(BackendUnavailable, match="makes no sense"):
        listpage.parse_page(answer)


def paged(subject: Subject, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of this many, asked for by either client."""
    if subject.is_store:
        monkeypatch.setattr(objectstore, "PAGE_KEYS", size)
    else:
        monkeypatch.setattr(walking, "PAGE_FILES", size)
