"""T-20 to T-26: the daemon as a process while its store hangs, is cut off, spoils, forgets, refuses.

What each client makes of a single fault is shown in tests/contract, what delivery decides in
tests/integration; here the whole is: nothing lost, nothing given up, the host at work all the while, and
all of it over without a restart. The two tests of T-20 share one frozen server, and the others run in the
half minute that its puts hang.
"""

import base64
import contextlib
import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import Daemon, wait_until
from tests.fakes.cutproxy import Cut, CutProxy
from tests.fakes.fakecam import FakeCam, Written
from tests.fakes.s3stub import Behaviour, Mishap, S3Stub, Seen, Stored, cut_one_byte, flip_one_byte
from tests.footage import cached_ts
from tests.oracle import require_invariant
from tests.services.seaweed import ACCESS_KEY, SECRET_KEY, Bucket, SeaweedServer

KINDS = ("MINIO", "S3")
WORKERS = 4
KIB = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A daemon, what it delivers to, and the camera it records."""

    kind: str
    daemon: Daemon
    cam: FakeCam

    def write(self, count: int) -> list[Written]:
        return [self.cam.write() for _ in range(count)]

    def trouble(self) -> str | None:
        """What /queue says of the store; None while all is well."""
        [backend] = self.daemon.get("/queue")["backends"]
        trouble: str | None = backend["trouble"]
        return trouble

    def wait_trouble(self, reason: str) -> None:
        """With the store's own words behind the reason."""
        wait_until(
            lambda: (self.trouble() or "").startswith(f"{reason}: "),
            f"{self.kind} says: {reason}",
            details=self._log,
        )

    def wait_errors(self, count: int) -> None:
        wait_until(lambda: self.errors("put") >= count, f"{count} puts have failed", details=self._log)

    def _log(self) -> str:
        return self.daemon.log[-4000:]

    def errors(self, operation: str) -> float:
        return self.daemon.metric("storage_errors_total", operation=operation, backend=self.kind)

    def alarms(self, text: str = "") -> int:
        """How often the store was said to be away."""
        return self.daemon.log.count(f"backend {self.kind} is away {text}")

    def answers(self) -> None:
        """Every kind of question is answered, with all that was written."""
        for path in ("/health", "/ready", "/metrics", "/queue", "/cameras"):
            self.daemon.request("GET", path)
        assert len(self.daemon.segments()) == len(self.cam.written)

    def content(self, segment: Mapping[str, Any], expect: int = 200) -> Any:
        path = f"/segments/{segment['camera_id']}/{segment['id']}/content"
        return self.daemon.request("GET", path, expect=(expect,))[1]

    def delivered(self) -> list[dict[str, Any]]:
        """All that was written, once it is verified."""
        return self.daemon.wait_delivered(len(self.cam.written))

    def settled(self, stored: Callable[[], Mapping[str, str]]) -> list[dict[str, Any]]:
        """INV, and that the process ends well. `stored`: SHA-256 by key, of all that the store has."""
        segments = self.delivered()
        require_invariant(self.cam.written, segments, stored(), self.daemon.recordings)
        assert self.daemon.get("/queue")["failures"] == []
        assert self.daemon.metric("storage_segments_lost_total") == 0
        assert self.daemon.stop() == 0
        return segments


def small() -> bytes:
    return cached_ts(seconds=0.4, size="64x64", rate=5).read_bytes()


def store_settings(kind: str, endpoint: str, bucket: str) -> dict[str, Any]:
    keys = {"access_key": ACCESS_KEY, "secret_key": SECRET_KEY, "bucket_recordings": bucket}
    no_pictures = {"thumbnails": {"on_ingest": False}}  # every put is a segment's
    if kind == "MINIO":
        return {"backend": kind, "minio": {"endpoint": endpoint, **keys}, **no_pictures}
    return {"backend": kind, "s3": {"endpoint_url": f"http://{endpoint}", **keys}, **no_pictures}


def host_of(daemon: Daemon, kind: str, footage: bytes) -> Host:
    return Host(
        kind=kind, daemon=daemon, cam=FakeCam(daemon.recordings, "gate", footage, daemon.folder / "aside")
    )


def start_all(hosts: Sequence[Host]) -> None:
    """All at the same time."""
    for host in hosts:
        host.daemon.start(ready=False)
    for host in hosts:
        host.daemon.wait_ready()


def attempts(segments: Sequence[Mapping[str, Any]]) -> set[int]:
    return {copy["attempts"] for segment in segments for copy in segment["copies"]}


def footage_in(bucket: Bucket) -> set[str]:
    """Keys of segments; the daemon keeps the ledger's heads there too."""
    return {key for key in sorted(bucket.keys()) if key.endswith(".ts")}


def is_footage(seen: Seen) -> bool:
    """Not one of the probe's own objects."""
    return seen.key.endswith(".ts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stubbed(Host):
    """A host whose store misbehaves to order."""

    stub: S3Stub

    @property
    def footage(self) -> set[str]:
        """Keys of segments; the daemon keeps its mark and the ledger's heads there too."""
        return {key for key in self.stub.objects if key.endswith(".ts")}

    def wait_objects(self, count: int) -> None:
        wait_until(lambda: len(self.footage) == count, f"{count} objects", details=self._log)

    def wait_request(self) -> None:
        """Until the store is asked for anything."""
        before = len(self.stub.seen)
        wait_until(lambda: len(self.stub.seen) > before, "the store is asked again", details=self._log)


MakeStubbed = Callable[..., Stubbed]


@pytest.fixture
def make_stubbed(make_daemon: Callable[..., Daemon]) -> Iterator[MakeStubbed]:
    """Makes hosts with a store of their own, not yet started."""
    with ExitStack() as stubs:

        def make(kind: str, *, name: str | None = None, **behaviour: Any) -> Stubbed:
            stub = stubs.enter_context(S3Stub(behaviour=Behaviour(**behaviour)))
            daemon = make_daemon(name or kind, **store_settings(kind, stub.endpoint, stub.bucket))
            host = host_of(daemon, kind, small())
            return Stubbed(kind=kind, daemon=daemon, cam=host.cam, stub=stub)

        yield make


@pytest.fixture
def stubbed(make_stubbed: MakeStubbed) -> tuple[Stubbed, ...]:
    """One of each kind, at work, and their store probed."""
    hosts = tuple(make_stubbed(kind) for kind in KINDS)
    start_all(hosts)
    for host in hosts:
        host.write(1)
        host.delivered()
    return hosts


# Cut off (T-21)

CUTS = (
    Cut(up_after=0),  # before a single byte
    Cut(up_after=100),  # in the head of the request
    *(Cut(up_after=size) for size in range(2 * KIB, 160 * KIB, 64 * KIB)),  # in the body
    Cut(down_after=0),  # the store has it; the answer is lost
    Cut(down_after=20),  # in the head of the answer
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CutOff(Host):
    """A host whose line to a real store is cut to order."""

    bucket: Bucket
    proxy: CutProxy

    def wait_cuts(self, count: int) -> None:
        wait_until(lambda: self.proxy.cuts == count, f"{count} puts were cut off", details=self._log)


@pytest.fixture
def cut_off(seaweed: SeaweedServer, make_daemon: Callable[..., Daemon]) -> Iterator[list[CutOff]]:
    with ExitStack() as proxies:
        hosts: list[CutOff] = []
        for kind in KINDS:
            bucket, proxy = seaweed.create_bucket(), CutProxy(seaweed.endpoint)
            proxies.callback(proxy.close)
            daemon = make_daemon(kind, **store_settings(kind, proxy.endpoint, bucket.name))
            cam = FakeCam(
                daemon.recordings, "gate", cached_ts(seconds=2).read_bytes(), daemon.folder / "aside"
            )
            hosts.append(CutOff(kind=kind, daemon=daemon, cam=cam, bucket=bucket, proxy=proxy))
        start_all(hosts)
        yield hosts


def test_a_line_cut_anywhere_in_a_put_ends_with_each_segment_stored_once(cut_off: list[CutOff]) -> None:
    """T-21: at steps of the body, after the body before the answer, in the head of either."""
    for host in cut_off:
        host.write(1)
        host.delivered()
    for number, cut in enumerate(CUTS, start=1):
        for host in cut_off:
            host.proxy.cut_once(cut, of=b".ts")  # not of what is small: the ledger's head
            assert host.write(1)[0].size_bytes > 160 * KIB, "every cut falls into it"
        for host in cut_off:
            host.wait_cuts(number)
            host.delivered()
    for host in cut_off:
        assert host.alarms() == 0, "one cut is no outage"
        segments = host.settled(partial(held, host.bucket))
        footage = footage_in(host.bucket)
        assert footage == {segment["storage_path"] for segment in segments}, "stored once"
        assert attempts(segments) == {0}


def held(bucket: Bucket) -> dict[str, str]:
    return {key: hashlib.sha256(bucket.read(key)).hexdigest() for key in bucket.keys()}  # noqa: SIM118


# Hanging (T-20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hanging:
    """Hosts before a real server that is stopped (SIGSTOP) and goes on (SIGCONT)."""

    hosts: tuple[Host, ...]
    buckets: tuple[Bucket, ...]
    frozen: ExitStack

    def hang(self) -> None:
        """From now on, unless it does already."""
        self.frozen.enter_context(self.buckets[0].server.frozen())

    def thaw(self) -> None:
        self.frozen.close()


@pytest.fixture(scope="module")
def hanging(
    _seaweed_of_the_session: SeaweedServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Hanging]:
    """Not `seaweed`: that one goes on with every test."""
    server = _seaweed_of_the_session
    server.ensure_running()
    buckets = tuple(server.create_bucket() for _ in KINDS)
    hosts = []
    with ExitStack() as at_end:
        for kind, bucket in zip(KINDS, buckets, strict=True):
            settings = store_settings(kind, server.endpoint, bucket.name)
            daemon = Daemon(tmp_path_factory.mktemp(kind), settings=settings)
            at_end.callback(daemon.kill)
            hosts.append(host_of(daemon, kind, small()))
        start_all(hosts)
        for host in hosts:
            host.write(1)
            host.delivered()
        yield Hanging(hosts=tuple(hosts), buckets=buckets, frozen=at_end.enter_context(ExitStack()))


def test_while_the_store_hangs_the_host_records_and_answers(hanging: Hanging) -> None:
    """T-20: every worker is held by a put, some in the middle of a large body."""
    hanging.hang()
    before = [host.errors("put") for host in hanging.hosts]
    for host in hanging.hosts:
        host.cam.footage = large()
        host.write(1)
        host.cam.footage = small()
        host.write(WORKERS + 2)
    for host, errors in zip(hanging.hosts, before, strict=True):
        segments = host.daemon.wait_segments(len(host.cam.written))
        host.answers()
        undelivered = next(s for s in segments if s["copies"][0]["state"] == "pending")
        assert len(host.content(undelivered)) == undelivered["size_bytes"]
        assert host.errors("put") == errors, "no answer has waited for a put to give up"
    for host in hanging.hosts:
        for _ in range(9):
            host.answers()


def large() -> bytes:
    """More than the buffers of a connection take: the put hangs while it sends."""
    film = cached_ts(seconds=2).read_bytes()
    return film + film[: 188 * 500] * 160


# Spoiling (T-22)


def test_what_a_store_spoils_is_noticed_and_delivered_anew_beside_it(make_stubbed: MakeStubbed) -> None:
    """T-22: a bit flipped by a store that repeats what it was told, so that only reading back finds it out;
    a byte less at one that tells what it holds.
    """
    liar = make_stubbed("MINIO", checks_sha256=False, repeats_claims=True)
    honest = make_stubbed("S3")
    liar.stub.next(Mishap(spoil=flip_one_byte), fits=is_footage)
    honest.stub.next(Mishap(spoil=cut_one_byte, says_sha256=False), fits=is_footage)
    for host in (liar, honest):
        host.write(3)
    start_all((liar, honest))
    for host in (liar, honest):
        segments = host.delivered()
        assert sorted(copy["attempts"] for s in segments for copy in s["copies"]) == [0, 0, 1]
        assert host.errors("verify") == 1
        host.settled(host.stub.digests)
        paths = {segment["storage_path"] for segment in segments}
        assert len(host.footage - paths) == 1, "what is spoiled stays; nothing was overwritten"


def test_bytes_that_rot_after_their_proof_are_found_by_a_reader_and_delivered_anew(
    stubbed: tuple[Stubbed, ...],
) -> None:
    """T-22: size, ETag and checksum of the object are what they were; only its bytes tell."""
    for host in stubbed:
        [segment] = host.delivered()
        key = segment["storage_path"]
        rotten = flip_one_byte(host.stub.objects[key].data)
        host.stub.objects[key] = replace(host.stub.objects[key], data=rotten)
        with away(host.daemon.recordings / host.cam.written[0].path):
            host.content(segment, expect=502)
    for host in stubbed:
        host.wait_objects(2)
        [segment] = host.settled(host.stub.digests)
        assert segment["storage_path"].endswith(".1.ts"), "beside what is rotten"


# Forgetting (T-23)


def test_what_a_store_forgets_is_put_again_from_its_source(stubbed: tuple[Stubbed, ...]) -> None:
    """T-23: lost between its 200 and the proof; and long after the proof, when a reader finds out."""
    for host in stubbed:
        host.stub.next(Mishap(forget=True), fits=is_footage)
        host.write(2)
    for host in stubbed:
        segments = host.delivered()
        assert sorted(copy["attempts"] for s in segments for copy in s["copies"]) == [0, 0, 1]
        del host.stub.objects[segments[0]["storage_path"]]
        with away(host.daemon.recordings / host.cam.written[0].path):
            host.content(segments[0], expect=502)
    for host in stubbed:
        host.wait_objects(3)  # what was forgotten is back
        segments = host.settled(host.stub.digests)
        assert host.footage == {segment["storage_path"] for segment in segments}


@contextlib.contextmanager
def away(source: Path) -> Iterator[None]:
    """The recorder's file is not there, so that a reader needs the copy."""
    aside = source.with_suffix(".aside")
    source.rename(aside)
    try:
        yield
    finally:
        aside.rename(source)


# Conditions (T-24)


def test_nothing_is_overwritten_whatever_a_store_makes_of_conditions(make_stubbed: MakeStubbed) -> None:
    """T-24: a journal is lost, and its host comes upon its own objects: one has other bytes now, one is as
    it was, one is gone. The store honours conditions, or only seems to.
    """
    kinds = {"honoured": "S3", "ignored": "MINIO", "not_implemented": "S3"}
    hosts = [make_stubbed(kind, name=how, conditions=how) for how, kind in kinds.items()]
    for host in hosts:
        host.write(3)
    scout = hosts[0]
    start_all([scout])
    other, same, gone = (str(segment["storage_path"]) for segment in scout.delivered())
    assert scout.daemon.stop() == 0
    shutil.rmtree(scout.daemon.data_dir)
    found = {other: spoiled(scout.stub.objects[other]), same: scout.stub.objects[same]}
    for host in hosts:
        host.stub.objects = dict(found)
    start_all(hosts)
    for host in hosts:
        paths = [segment["storage_path"] for segment in host.settled(host.stub.digests)]
        assert paths == [other.replace(".ts", ".1.ts"), same, gone]
        assert [host.stub.objects[key] is stored for key, stored in found.items()] == [True, True]
        honoured = host.stub.behaviour.conditions == "honoured"
        assert ("refuse to overwrite" in host.daemon.log) is honoured, "the probe tells what is true"


def spoiled(stored: Stored) -> Stored:
    data = flip_one_byte(stored.data)
    checksum = base64.b64encode(hashlib.sha256(data).digest()).decode()
    return replace(stored, data=data, etag=hashlib.md5(data).hexdigest(), checksum=checksum)


# Throttling (T-25)


def test_a_store_that_throttles_delays_and_fails_nothing(stubbed: tuple[Stubbed, ...]) -> None:
    """T-25: every second put is answered with SlowDown; then one with 429 and a time to wait."""
    with ExitStack() as throttled:
        for host in stubbed:
            slow_down = Mishap(status=503, code="SlowDown")
            throttled.enter_context(host.stub.always(slow_down, every_second_put()))
            host.write(4)
        for host in stubbed:
            host.delivered()
            assert host.errors("put") >= 2
    for host in stubbed:
        host.stub.next(Mishap(status=429, headers={"Retry-After": "2"}), fits=is_footage)
        host.write(1)
    for host in stubbed:
        assert host.trouble() is None
        assert host.alarms() == 0, "asking for a slower pace is no outage"
        segments = host.settled(host.stub.digests)
        assert attempts(segments) == {0}
        newest = max(segments, key=lambda segment: str(segment["start_time"]))
        refused, taken = host.stub.requests("PUT", newest["storage_path"])
        assert taken.at - refused.at >= 2.0, "it was given the time it asked for"


def every_second_put() -> Callable[[Seen], bool]:
    puts = 0

    def fits(seen: Seen) -> bool:
        nonlocal puts
        puts += seen.method == "PUT" and is_footage(seen)
        return seen.method == "PUT" and is_footage(seen) and puts % 2 == 1

    return fits


# Refusing (T-26)


@contextlib.contextmanager
def key_without_rights(stub: S3Stub) -> Iterator[None]:
    with stub.always(Mishap(status=403, code="AccessDenied")):
        yield


@contextlib.contextmanager
def bucket_gone(stub: S3Stub) -> Iterator[None]:
    name, stub.bucket = stub.bucket, "another"
    yield
    stub.bucket = name


@contextlib.contextmanager
def key_expired_between_put_and_proof(stub: S3Stub) -> Iterator[None]:
    """An answer to HEAD has no body, so nothing but a bare 400 says it."""
    before = len(stub.objects)
    with stub.always(Mishap(status=400, code="ExpiredToken"), lambda seen: len(stub.objects) > before):
        yield


REFUSALS = {
    key_without_rights: "auth",
    bucket_gone: "bucket",
    key_expired_between_put_and_proof: "auth",
}


def test_a_store_that_refuses_everything_is_left_alone_until_somebody_helps(
    stubbed: tuple[Stubbed, ...],
) -> None:
    """T-26: no rights, no bucket, an expired key; one alarm each, no segment pays, no restart is needed."""
    for refusal, reason in REFUSALS.items():
        alarms = [host.alarms() for host in stubbed]
        with ExitStack() as refused:
            for host in stubbed:
                refused.enter_context(refusal(host.stub))
                host.write(3)
            for host in stubbed:
                host.wait_trouble(reason)
                host.wait_request()  # now and then one tries, and meets the same
                assert host.daemon.get("/ready")["ready"]
        for host, before in zip(stubbed, alarms, strict=True):
            assert attempts(host.delivered()) == {0}
            assert host.alarms() == before + 1
            assert host.trouble() is None
    for host in stubbed:
        segments = host.settled(host.stub.digests)
        assert host.footage == {segment["storage_path"] for segment in segments}


# Hanging for long (T-20)


def test_no_put_outlives_its_deadline_and_all_is_delivered_soon_after_the_store_goes_on(
    hanging: Hanging,
) -> None:
    """T-20: the other half of it, at the end because puts hang for half a minute."""
    hanging.hang()
    for host in hanging.hosts:
        host.write(WORKERS)
    for host in hanging.hosts:
        host.wait_trouble("network")
        host.wait_errors(WORKERS)  # every worker is free again
        assert host.daemon.get("/ready")["ready"]
        assert host.daemon.metric("storage_backend_up", backend=host.kind) == 0
    hanging.thaw()
    for host, bucket in zip(hanging.hosts, hanging.buckets, strict=True):
        segments = host.delivered()
        assert host.trouble() is None
        assert host.alarms() == host.daemon.log.count(f"backend {host.kind} works again")
        require_invariant(host.cam.written, segments, held(bucket), host.daemon.recordings)
        assert footage_in(bucket) == {segment["storage_path"] for segment in segments}
        assert attempts(segments) == {0}
