"""Both S3 clients against a server that misbehaves to order, and what goes over the wire to it."""

import base64
import hashlib
import re
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from cctv_storaged.backends.base import StoredObject
from cctv_storaged.backends.body import MIB, SINGLE_PUT_MAX_BYTES
from cctv_storaged.backends.objectstore import ObjectStore
from cctv_storaged.errors import (
    BackendError,
    BackendThrottled,
    BackendUnavailable,
    ObjectMismatch,
    ObjectMissing,
    ObjectRejected,
    SourceChanged,
)
from cctv_storaged.pacing import ByteBudget
from tests.fakes.s3stub import Behaviour, Mishap, S3Stub, Stored, cut_one_byte, flip_one_byte
from tests.services.backends import SHORT, STORES, AnyBackend, closing, knowing, store
from tests.services.payloads import METADATA, payload_of, some_bytes, write_source

UNLIMITED = ByteBudget(None)
PATH = "camera/2026/03/05/12/a.ts"
SIZE = 300_000
CERTIFICATES = Path(__file__).parent.parent / "services" / "certificates"


@pytest.fixture(params=STORES)
def kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture
def stub() -> Iterator[S3Stub]:
    with S3Stub() as made:
        yield made


@pytest.fixture
async def backend(kind: str, stub: S3Stub) -> AsyncIterator[ObjectStore]:
    made = store(kind, stub.endpoint, stub.bucket, timeouts=SHORT, readback_share=0.0)
    yield made
    await made.close()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_source(tmp_path / "recorder" / "a.ts", some_bytes(SIZE))


async def put(backend: AnyBackend, source: Path, path: str = PATH) -> StoredObject:
    with payload_of(source) as payload:
        return await backend.put(path, payload, UNLIMITED)


# What goes over the wire


async def test_a_put_is_one_request_with_checksum_condition_and_metadata(
    backend: ObjectStore, stub: S3Stub, source: Path
) -> None:
    await put(knowing(backend), source)
    (seen,) = stub.seen
    digest = hashlib.sha256(some_bytes(SIZE)).digest()
    assert (seen.method, seen.key, seen.body_bytes) == ("PUT", PATH, SIZE)
    assert seen.headers["x-amz-checksum-sha256"] == base64.b64encode(digest).decode()
    assert seen.headers["x-amz-content-sha256"] == digest.hex()
    assert seen.headers["if-none-match"] == "*"
    assert seen.headers["content-type"] == "video/mp2t"
    metadata = {name: text for name, text in seen.headers.items() if name.startswith("x-amz-meta-")}
    assert metadata == {f"x-amz-meta-{name}": text for name, text in METADATA.items()}
    signed = seen.headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    assert {"host", "if-none-match", "x-amz-checksum-sha256", *metadata} <= set(signed)


async def test_an_upload_in_parts_carries_checksums_and_the_condition_at_the_end(
    backend: ObjectStore, stub: S3Stub, source: Path
) -> None:
    write_source(source, some_bytes(SINGLE_PUT_MAX_BYTES + 1))
    await knowing(backend).verify(await put(backend, source))
    parts = [seen for seen in stub.requests("PUT") if "partNumber" in seen.query]
    assert [seen.query["partNumber"] for seen in parts] == ["1", "2"]
    assert all("x-amz-checksum-sha256" in seen.headers for seen in parts)
    begin, complete = stub.requests("POST")
    assert begin.headers["x-amz-checksum-algorithm"] == "SHA256"
    assert complete.headers["if-none-match"] == "*"
    assert stub.uploads == {}


async def test_no_request_is_tried_twice(backend: ObjectStore, stub: S3Stub, source: Path) -> None:
    """Retrying is delivery's to decide, for reads and lists as well."""
    knowing(backend)
    stored = StoredObject(path=PATH, size_bytes=SIZE, sha256=bytes(32))
    for method, attempt in (
        ("PUT", put(backend, source)),
        ("HEAD", backend.verify(stored)),
        ("DELETE", backend.delete(PATH)),
        ("GET", _read(backend)),
        ("GET", backend.sweep(0)),
    ):
        stub.seen.clear()
        stub.next(Mishap(status=500, code="InternalError"), method=method, times=5)
        with pytest.raises(BackendUnavailable):
            await attempt
        assert sum(seen.method == method for seen in stub.seen) == 1


async def _read(backend: AnyBackend) -> bytes:
    async with backend.open(PATH) as blocks:
        return b"".join([block async for block in blocks])


# Stores that lie (T-22, T-23)


@pytest.mark.parametrize(
    ("spoil", "returns_sha256", "size_bytes"),
    [
        (cut_one_byte, True, SIZE),
        (cut_one_byte, False, SIZE),
        (flip_one_byte, True, SIZE),
        (flip_one_byte, False, SIZE),
        (flip_one_byte, True, SINGLE_PUT_MAX_BYTES + 1),
        (flip_one_byte, False, SINGLE_PUT_MAX_BYTES + 1),
    ],
)
async def test_bytes_stored_otherwise_than_sent_are_noticed(
    kind: str, source: Path, spoil: Callable[[bytes], bytes], returns_sha256: bool, size_bytes: int
) -> None:
    """The store tells size and checksum of what it holds; or, telling no checksum, is read back."""
    write_source(source, some_bytes(size_bytes))
    with S3Stub(behaviour=Behaviour(returns_sha256=returns_sha256)) as stub:
        async with closing(store(kind, stub.endpoint, stub.bucket, readback_share=1.0)) as backend:
            knowing(backend)
            mishap = Mishap(spoil=spoil, says_sha256=False)
            in_parts = size_bytes > SINGLE_PUT_MAX_BYTES
            stub.next(
                mishap, method="POST" if in_parts else "PUT", fits=lambda seen: "uploads" not in seen.query
            )
            stored = await put(backend, source)
            with pytest.raises(ObjectMismatch):
                await backend.verify(stored)


async def test_a_store_that_only_repeats_the_checksum_it_was_told_is_read_back(
    kind: str, source: Path
) -> None:
    behaviour = Behaviour(checks_sha256=False, repeats_claims=True)
    with S3Stub(behaviour=behaviour) as stub:
        async with closing(store(kind, stub.endpoint, stub.bucket, readback_share=0.0)) as backend:
            found = await backend.probe()
            assert not found.refuses_wrong_sha256
            stub.next(Mishap(spoil=flip_one_byte))
            stored = await put(backend, source)
            with pytest.raises(ObjectMismatch):
                await backend.verify(stored)


async def test_without_a_probe_nothing_but_the_bytes_is_believed(
    backend: ObjectStore, stub: S3Stub, source: Path
) -> None:
    stub.next(Mishap(spoil=flip_one_byte))
    stored = await put(backend, source)
    with pytest.raises(ObjectMismatch):
        await backend.verify(stored)


async def test_an_etag_that_is_not_the_puts_own_is_no_proof(
    backend: ObjectStore, stub: S3Stub, source: Path
) -> None:
    stub.behave(returns_sha256=False)
    stored = await put(knowing(backend), source)
    await backend.verify(stored)
    assert stub.requests("GET") == [], "size and the put's own ETag were enough"
    wrong = flip_one_byte(some_bytes(SIZE))
    stub.objects[PATH] = Stored(data=wrong, etag="another", checksum=None, metadata={})
    with pytest.raises(ObjectMismatch):
        await backend.verify(stored)


async def test_an_object_forgotten_after_the_answer_is_missing(
    backend: ObjectStore, stub: S3Stub, source: Path
) -> None:
    stub.next(Mishap(forget=True))
    stored = await put(knowing(backend), source)
    with pytest.raises(ObjectMissing):
        await backend.verify(stored)


@pytest.mark.parametrize("size_bytes", [3 * MIB, SINGLE_PUT_MAX_BYTES + 1])
@pytest.mark.parametrize("checks", [True, False])
async def test_a_rewritten_file_never_becomes_a_whole_object(
    kind: str, source: Path, size_bytes: int, checks: bool
) -> None:
    """Where the server checks nothing, the last block is held back until the hash is right."""
    write_source(source, some_bytes(size_bytes))
    with S3Stub(behaviour=Behaviour(checks_sha256=checks)) as stub:
        async with closing(store(kind, stub.endpoint, stub.bucket)) as backend:
            await backend.probe()
            with payload_of(source) as payload:
                with source.open("r+b") as recorder:
                    recorder.seek(5)
                    recorder.write(b"!")
                with pytest.raises(SourceChanged):
                    await backend.put(PATH, payload, UNLIMITED)
            assert stub.objects == {}
            assert stub.uploads == {}


async def test_an_object_that_cannot_be_read_back_is_its_own_fault_while_the_store_answers(
    kind: str, stub: S3Stub, source: Path
) -> None:
    async with closing(store(kind, stub.endpoint, stub.bucket, readback_share=1.0)) as backend:
        stored = await put(knowing(backend), source)
        stub.next(Mishap(status=500, code="InternalError"), method="GET", times=2)
        with pytest.raises(ObjectRejected):
            await backend.verify(stored)
        stub.next(Mishap(status=500), method="HEAD", fits=lambda seen: not seen.key)
        with pytest.raises(BackendUnavailable):
            await backend.verify(stored)
        await backend.verify(stored)


# Conditions (T-24)


@pytest.mark.parametrize(
    ("conditions", "honoured"),
    [("honoured", True), ("ignored", False), ("not_implemented", False), ("racy", False)],
)
async def test_the_probe_finds_what_becomes_of_conditions(
    backend: ObjectStore, stub: S3Stub, conditions: str, honoured: bool
) -> None:
    stub.behave(conditions=conditions)
    assert (await backend.probe()).conditional_put is honoured
    assert stub.objects == {}


@pytest.mark.parametrize("conditions", ["honoured", "ignored", "not_implemented", "racy"])
async def test_other_content_is_never_overwritten(
    backend: ObjectStore, stub: S3Stub, source: Path, conditions: str
) -> None:
    stub.behave(conditions=conditions)
    await backend.probe()
    stored = await put(backend, source)
    with pytest.raises(ObjectMismatch):
        await put(backend, write_source(source, some_bytes(SIZE, seed=2)))
    await backend.verify(stored)


async def test_an_answer_lost_after_the_put_ends_as_stored_once(
    backend: ObjectStore, stub: S3Stub, source: Path
) -> None:
    knowing(backend)
    stub.next(Mishap(lose_answer=True))
    with pytest.raises(BackendUnavailable):
        await put(backend, source)
    await backend.verify(await put(backend, source))
    assert set(stub.objects) == {PATH}


async def test_a_completion_whose_answer_is_lost_is_found_done(
    backend: ObjectStore, stub: S3Stub, source: Path
) -> None:
    knowing(backend)
    write_source(source, some_bytes(SINGLE_PUT_MAX_BYTES + 1))
    stub.next(Mishap(lose_answer=True), method="POST", fits=lambda seen: "uploadId" in seen.query)
    with pytest.raises(BackendUnavailable):
        await put(backend, source)
    stub.seen.clear()
    await backend.verify(await put(backend, source))
    assert stub.requests("PUT") == []


async def test_a_conflict_is_this_objects_own(backend: ObjectStore, stub: S3Stub, source: Path) -> None:
    knowing(backend)
    stub.next(Mishap(status=409, code="ConditionalRequestConflict"))
    with pytest.raises(ObjectRejected):
        await put(backend, source)
    await backend.verify(await put(backend, source))


async def test_a_completion_that_fails_behind_a_200_is_no_success(
    backend: ObjectStore, stub: S3Stub, source: Path
) -> None:
    knowing(backend)
    write_source(source, some_bytes(SINGLE_PUT_MAX_BYTES + 1))
    stub.next(
        Mishap(status=200, code="InternalError"), method="POST", fits=lambda seen: "uploadId" in seen.query
    )
    with pytest.raises(BackendUnavailable):
        await put(backend, source)
    assert stub.objects == {}


async def test_a_part_refused_aborts_the_upload(backend: ObjectStore, stub: S3Stub, source: Path) -> None:
    knowing(backend)
    write_source(source, some_bytes(SINGLE_PUT_MAX_BYTES + 1))
    stub.next(Mishap(status=400, code="EntityTooSmall"), fits=lambda seen: seen.query["partNumber"] == "2")
    with pytest.raises(ObjectRejected):
        await put(backend, source)
    assert stub.uploads == {}


# Refusals (T-25, T-26)


@pytest.mark.parametrize(
    ("mishap", "retry_after_s"),
    [
        (Mishap(status=503, code="SlowDown"), None),
        (Mishap(status=429, headers={"Retry-After": "17"}), 17.0),
        (Mishap(status=503, headers={"Retry-After": "3"}), 3.0),
        (Mishap(status=503, code="SlowDown", headers={"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}), None),
    ],
)
async def test_a_wish_for_a_slower_pace_is_passed_on(
    backend: ObjectStore, stub: S3Stub, source: Path, mishap: Mishap, retry_after_s: float | None
) -> None:
    for method in ("PUT", "GET", "DELETE"):
        stub.next(mishap, method=method)
    for attempt in (put(knowing(backend), source), _read(backend), backend.delete(PATH)):
        with pytest.raises(BackendThrottled) as caught:
            await attempt
        assert caught.value.retry_after_s == retry_after_s
        assert caught.value.reason == "throttled"


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (403, "AccessDenied", "auth"),
        (403, "", "auth"),
        (401, "", "auth"),
        (400, "ExpiredToken", "auth"),
        (403, "SignatureDoesNotMatch", "auth"),
        (404, "NoSuchBucket", "bucket"),
        (301, "PermanentRedirect", "bucket"),
        (403, "RequestTimeTooSkewed", "clock"),
        (500, "InternalError", "server"),
        (502, "", "server"),
        (503, "", "server"),
        (503, "ServiceUnavailable", "server"),
        (504, "", "server"),
        (507, "XMinioStorageFull", "space"),
        (409, "QuotaExceeded", "space"),
    ],
)
async def test_what_is_wrong_with_the_whole_store_is_never_an_objects_fault(
    backend: ObjectStore, stub: S3Stub, source: Path, status: int, code: str, reason: str
) -> None:
    stub.next(Mishap(status=status, code=code))
    with pytest.raises(BackendUnavailable) as caught:
        await put(knowing(backend), source)
    assert caught.value.reason == reason
    assert PATH in str(caught.value)


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "EntityTooLarge"), (400, "KeyTooLongError"), (400, ""), (405, "MethodNotAllowed"), (413, "")],
)
async def test_what_is_wrong_with_one_object_is_only_its_own(
    backend: ObjectStore, stub: S3Stub, source: Path, status: int, code: str
) -> None:
    stub.next(Mishap(status=status, code=code))
    with pytest.raises(BackendError) as caught:
        await put(knowing(backend), source)
    assert type(caught.value) is ObjectRejected


@pytest.mark.parametrize("method", ["PUT", "HEAD"])
async def test_a_clock_that_is_off_is_told_with_its_offset(
    backend: ObjectStore, stub: S3Stub, source: Path, method: str
) -> None:
    """An answer to HEAD has no code: there the server's Date tells it."""
    stub.behave(clock_offset_s=1200.0)
    stub.next(Mishap(status=403, code="RequestTimeTooSkewed"), method=method)
    begun = time.monotonic()
    with pytest.raises(BackendUnavailable, match=r"-\d+ s from the server's") as caught:
        await (put(knowing(backend), source) if method == "PUT" else backend.stat(PATH))
    took_s = time.monotonic() - begun
    assert caught.value.reason == "clock"
    told = re.search(r"-(\d+) s from the server's", str(caught.value))
    assert told is not None and int(told[1]) == pytest.approx(1200, abs=2 + took_s)


async def test_the_probe_measures_the_clock(backend: ObjectStore, stub: S3Stub) -> None:
    stub.behave(clock_offset_s=-600.0, versioning=True, object_lock=True)
    begun = time.monotonic()
    found = await backend.probe()
    assert found.clock_skew_s == pytest.approx(-600, abs=2 + time.monotonic() - begun)
    assert (found.versioning, found.object_lock) == (True, True)


async def test_a_connection_closed_before_the_body_or_the_answer_is_the_networks_fault(
    backend: ObjectStore, stub: S3Stub, source: Path
) -> None:
    for mishap in (Mishap(close_after_head=True), Mishap(lose_answer=True)):
        stub.next(mishap)
        with pytest.raises(BackendUnavailable) as caught:
            await put(knowing(backend), source)
        assert caught.value.reason == "network"


async def test_a_slow_answer_is_left_in_time(backend: ObjectStore, stub: S3Stub, source: Path) -> None:
    stub.next(Mishap(delay_s=SHORT.read_s + 30))
    begun = time.monotonic()
    with pytest.raises(BackendUnavailable):
        await put(knowing(backend), source)
    assert time.monotonic() - begun < SHORT.read_s + 20


# TLS


async def test_tls_with_a_ca_of_ones_own(kind: str, source: Path) -> None:
    with S3Stub(tls=_server_tls()) as stub:
        ca_file = str(CERTIFICATES / "ca.pem")
        made = store(kind, stub.endpoint, stub.bucket, tls=True, ca_file=ca_file, readback_share=1.0)
        async with closing(made) as backend:
            await backend.probe()
            write_source(source, some_bytes(3 * MIB))
            await backend.verify(await put(backend, source))
            assert await _read(backend) == some_bytes(3 * MIB)


async def test_a_certificate_of_an_unknown_ca_is_not_accepted(kind: str, source: Path) -> None:
    with S3Stub(tls=_server_tls()) as stub:
        async with closing(store(kind, stub.endpoint, stub.bucket, tls=True)) as backend:
            for attempt in (backend.probe(), put(backend, source), _read(backend)):
                with pytest.raises(BackendUnavailable) as caught:
                    await attempt
                assert caught.value.reason == "network"
        assert stub.seen == []


def _server_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATES / "server.pem")
    return context
