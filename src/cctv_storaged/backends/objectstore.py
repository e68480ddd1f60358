"""A backend on any S3-compatible store: the order of put, verify, read and sweep, above either client.

What flows through: payloads out, blocks in. It does not know the client libraries (`StoreClient`), and
leaves every decision about trying again to its caller. The steps run in threads of its own, since both
libraries block; a cancelled caller leaves its thread to the socket timeouts and the object's deadline.
"""

import hashlib
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import timedelta

from cctv_storaged.backends.base import (
    Capabilities,
    ListedObject,
    ObjectFacts,
    Payload,
    StoredObject,
)
from cctv_storaged.backends.body import SINGLE_PUT_MAX_BYTES, Body, Deadline, Stretch, parts, whole
from cctv_storaged.backends.deleting import Deleter
from cctv_storaged.backends.presigner import Presigner
from cctv_storaged.backends.proof import (
    Mark,
    ObjectHead,
    Verdict,
    composite_of,
    full_sha256,
    is_sampled,
    judge,
)
from cctv_storaged.backends.s3errors import AlreadyThere, NoLegalHold, UploadGone, WrongDigest
from cctv_storaged.backends.storeclient import (
    Completion,
    PageRequest,
    Part,
    PartRequest,
    PutRequest,
    StoreClient,
    Upload,
)
from cctv_storaged.backends.storeprobe import probe_store, require_bucket
from cctv_storaged.backends.workers import Workers
from cctv_storaged.clock import Clock, SystemClock
from cctv_storaged.errors import (
    BackendError,
    BackendUnavailable,
    ObjectMismatch,
    ObjectMissing,
    ObjectRejected,
    SourceChanged,
)
from cctv_storaged.pacing import ByteBudget

PAGE_KEYS = 1000
_PRESIGNER_AGE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """How a store is used. Paths are full keys: `prefix` is only where the backend's own objects go and
    what it sweeps. `readback_share` (0 to 1) of the objects is read back by verify although a head is proof.
    """

    bucket: str
    prefix: str = ""
    threads: int = 8
    object_base_s: float = 30.0
    readback_share: float = 0.01
    ours: Callable[[str], bool] | None = None  # which keys may be swept: others may share the bucket


class ObjectStore:
    """`Backend` over a `StoreClient`."""

    def __init__(
        self, name: str, client: StoreClient, settings: StoreSettings, clock: Clock | None = None
    ) -> None:
        self._name = name
        self._client = client
        self._settings = settings
        self._clock = clock or SystemClock()
        self._workers = Workers(name, settings.threads)
        self._deleter = Deleter(client, self._clock)
        self._capabilities = Capabilities()
        self._probed = False
        self._presigner: Presigner | None = None
        self._presigner_at_s = 0.0

    @property
    def name(self) -> str:
        return self._name

    @property
    def location(self) -> str:
        return self._settings.bucket

    @property
    def capabilities(self) -> Capabilities:
        """As the last probe found them; nothing is taken for granted before it."""
        return self._capabilities

    async def probe(self) -> Capabilities:
        settings = self._settings
        self._capabilities = await self._workers.run(
            probe_store, self._client, settings.prefix, settings.object_base_s
        )
        self._probed = True
        return self._capabilities

    async def put(self, path: str, payload: Payload, budget: ByteBudget) -> StoredObject:
        if payload.data is not None:
            return await self._workers.run(self._put, path, payload, budget)
        return await self._workers.run_with(payload, lambda own: self._put(path, own, budget))

    async def put_version(self, path: str, payload: Payload, budget: ByteBudget) -> StoredObject:
        return await self._workers.run_with(payload, lambda own: self._put_version(path, own, budget))

    async def verify(self, expected: StoredObject) -> None:
        await self._workers.run(self._verify, expected)

    async def stat(self, path: str) -> ObjectFacts:
        return await self._workers.run(self._stat, path)

    def open(
        self, path: str, start: int = 0, length: int | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        if length == 0:  # for HTTP there is no such range
            return self._workers.reading(lambda: nullcontext(iter(())))
        return self._workers.reading(lambda: self._client.read(path, start, length))

    async def listed(self, prefix: str, after: str = "") -> AsyncIterator[Sequence[ListedObject]]:
        """By the store's own tokens: one that keeps its place by them (MinIO) begins no listing anew."""
        token: str | None = None
        while True:
            request = PageRequest(keys=PAGE_KEYS, prefix=prefix, after=after, token=token)
            page = await self._workers.run(self._client.page, request)
            if page.objects:
                yield page.objects
            if page.token is None:
                return
            if page.token == token:
                raise BackendUnavailable(f"{self._name} lists the same page again", reason="server")
            token = page.token

    async def delete(self, path: str) -> None:
        await self._workers.run(self._deleter.delete, path)

    async def delete_many(self, paths: Sequence[str]) -> Mapping[str, BackendError]:
        return await self._workers.run(self._deleter.delete_many, paths)

    async def object_lock(self) -> bool | None:
        return self._capabilities.object_lock if self._probed else None

    async def set_legal_hold(self, path: str, on: bool) -> None:
        await self._workers.run(self._set_legal_hold if on else self._take_off_legal_hold, path)

    async def legal_hold(self, path: str) -> bool | None:
        if not self._capabilities.object_lock:
            return None
        return await self._workers.run(self._legal_hold, path)

    async def presign(self, path: str, expires_s: int, filename: str | None = None) -> str:
        return (await self._current_presigner()).url(path, expires_s, filename)

    async def sweep(self, older_than_s: float) -> int:
        return await self._workers.run(self._sweep, older_than_s)

    async def ensure_bucket(self) -> None:
        await self._workers.run(self._client.make_bucket)

    async def close(self) -> None:
        """Cuts what is under way. Threads inside a client library's own request end with its timeouts."""
        self._workers.close()
        self._client.close()

    async def _current_presigner(self) -> Presigner:
        """Kept for a minute: credentials that change may have to be asked for over the network."""
        now_s = self._clock.monotonic()
        if self._presigner is None or now_s - self._presigner_at_s > _PRESIGNER_AGE_S:
            self._presigner = await self._workers.run(self._client.presigner)
            self._presigner_at_s = now_s
        return self._presigner

    # -- in threads -------------------------------------------------------------------------------------

    def _put(self, path: str, payload: Payload, budget: ByteBudget) -> StoredObject:
        _check_size(payload)
        stretches = parts(payload) if payload.size_bytes > SINGLE_PUT_MAX_BYTES else (whole(payload),)
        goal = _goal(path, payload, stretches)
        # Without a store that refuses to overwrite, look first; and look before sending much for nothing.
        looks_first = not self._capabilities.conditional_put or len(stretches) > 1
        if looks_first and (held := self._held(goal)) is not None:
            return held
        try:
            exclusive = self._capabilities.conditional_put
            etag = self._send(path, payload, stretches, budget, exclusive=exclusive)
        except AlreadyThere as exc:
            if (held := self._held(goal)) is None:
                raise ObjectRejected(f"put {path}: it was there, and is gone again") from exc
            return held
        return _named(goal, etag)

    def _put_version(self, path: str, payload: Payload, budget: ByteBudget) -> StoredObject:
        _check_size(payload)
        if not self._client.bucket_facts().versioning:  # asked anew: it can be suspended at any time
            raise ObjectRejected(f"the bucket {self.location} keeps no versions")
        stretches = parts(payload) if payload.size_bytes > SINGLE_PUT_MAX_BYTES else (whole(payload),)
        etag = self._send(path, payload, stretches, budget, exclusive=False)
        return _named(_goal(path, payload, stretches), etag)

    def _send(
        self,
        path: str,
        payload: Payload,
        stretches: tuple[Stretch, ...],
        budget: ByteBudget,
        *,
        exclusive: bool,
    ) -> str:
        deadline = Deadline.for_bytes(payload.size_bytes, self._settings.object_base_s)
        bodies = [self._body(stretch, budget, deadline) for stretch in stretches]
        if len(bodies) > 1:
            return self._send_parts(path, payload, bodies, exclusive)
        with _source_or_wire(stretches[0]):
            return self._client.put(
                PutRequest(key=path, body=bodies[0], metadata=payload.metadata, exclusive=exclusive)
            )

    def _body(self, stretch: Stretch, budget: ByteBudget, deadline: Deadline) -> Body:
        prove = not self._capabilities.refuses_wrong_sha256
        return Body(stretch, budget=budget, deadline=deadline, prove=prove)

    def _send_parts(self, path: str, payload: Payload, bodies: list[Body], exclusive: bool) -> str:
        upload_id = self._client.begin_upload(path, payload.metadata)
        with self._aborted_on_failure(path, upload_id):
            sent = tuple(
                self._send_part(path, upload_id, number, body) for number, body in enumerate(bodies, start=1)
            )
        completion = Completion(key=path, upload_id=upload_id, parts=sent, exclusive=exclusive)
        try:
            return self._client.complete_upload(completion)
        except BackendUnavailable:
            raise  # it may have been carried out for all we know: the sweep removes what was not
        except BackendError:
            self._abort(path, upload_id)
            raise

    def _send_part(self, path: str, upload_id: str, number: int, body: Body) -> Part:
        with _source_or_wire(body.stretch):
            request = PartRequest(key=path, body=body, upload_id=upload_id, number=number)
            return Part(number=number, etag=self._client.put_part(request), sha256=body.stretch.sha256)

    @contextmanager
    def _aborted_on_failure(self, path: str, upload_id: str) -> Iterator[None]:
        done = False
        try:
            yield
            done = True
        finally:
            if not done:
                self._abort(path, upload_id)

    def _abort(self, path: str, upload_id: str) -> None:
        with suppress(BackendError):  # the sweep will find it again
            self._client.abort_upload(path, upload_id)

    def _held(self, goal: StoredObject) -> StoredObject | None:
        """The object that is under the key already, proven to be the same; None where there is none.

        By its bytes: it may be the one that rotted, for whose sake the source is put again.
        """
        try:
            head = self._client.head(goal.path)
        except ObjectMissing:
            return None  # if it is the bucket that is missing, the put will tell; asking costs every object
        except ObjectRejected:
            require_bucket(self._client)
            raise
        self._prove(goal, head, read_back=True)
        return _named(goal, head.etag)

    def _verify(self, expected: StoredObject) -> None:
        read_back = expected.doubted or is_sampled(expected.path, self._settings.readback_share)
        self._prove(expected, self._head(expected.path), read_back=read_back)

    def _prove(self, expected: StoredObject, head: ObjectHead, *, read_back: bool) -> None:
        verdict = judge(head, expected, self._capabilities)
        if verdict is Verdict.DIFFERENT:
            raise ObjectMismatch(
                f"{self.location}/{expected.path} holds {head.size_bytes} bytes"
                f" with checksum {head.checksum_sha256},"
                f" {expected.size_bytes} bytes with SHA-256 {expected.sha256.hex()} were expected"
            )
        if verdict is Verdict.UNPROVEN or read_back:
            self._read_back(expected)

    def _read_back(self, expected: StoredObject) -> None:
        try:
            size_bytes, sha256 = self._hash_held(expected)
        except BackendUnavailable as exc:
            if exc.reason != "server":
                raise
            require_bucket(self._client)  # a store that answers this is not away: the object is rotten
            raise ObjectRejected(f"{self.location}/{expected.path} cannot be read back: {exc}") from exc
        if size_bytes != expected.size_bytes or sha256 != expected.sha256:
            raise ObjectMismatch(
                f"{self.location}/{expected.path} gives back {size_bytes} bytes with SHA-256"
                f" {sha256.hex()}, {expected.size_bytes} with {expected.sha256.hex()} were expected"
            )

    def _hash_held(self, expected: StoredObject) -> tuple[int, bytes]:
        deadline = Deadline.for_bytes(expected.size_bytes, self._settings.object_base_s)
        digest, size_bytes = hashlib.sha256(), 0
        with self._client.read(expected.path, 0, None) as blocks:
            for block in blocks:
                deadline.remaining_s()
                digest.update(block)
                size_bytes += len(block)
        return size_bytes, digest.digest()

    def _head(self, path: str) -> ObjectHead:
        """Like the client's; a HEAD cannot say whether it is the object or the bucket, so ask."""
        try:
            return self._client.head(path)
        except (ObjectMissing, ObjectRejected):
            require_bucket(self._client)
            raise

    def _stat(self, path: str) -> ObjectFacts:
        head = self._head(path)
        trusted = self._capabilities.refuses_wrong_sha256
        return ObjectFacts(
            path=path,
            size_bytes=head.size_bytes,
            sha256=full_sha256(head.checksum_sha256) if trusted else None,
            etag=head.etag or None,
            metadata=head.metadata,
        )

    def _set_legal_hold(self, path: str) -> None:
        self._require_object_lock()
        try:
            self._client.set_legal_hold(path, True)
        except BackendUnavailable as exc:
            if exc.reason == "server":
                self._head(path)  # SeaweedFS says so of an object that is not there
            raise
        if not self._legal_hold(path):
            raise ObjectRejected(f"{self.location}/{path} took a legal hold, and tells of none")

    def _take_off_legal_hold(self, path: str) -> None:
        """Of all versions: one that was put anew since has left the one that was held behind."""
        self._require_object_lock()
        found = [each for each in self._client.every_version(path) if each.key == path and not each.mark]
        for each in found:
            with suppress(ObjectMissing):  # gone meanwhile, or without one
                if self._client.legal_hold(path, each.version):
                    self._client.set_legal_hold(path, False, each.version)
                    if self._client.legal_hold(path, each.version):
                        raise ObjectRejected(f"{self.location}/{path} keeps its legal hold")

    def _legal_hold(self, path: str) -> bool:
        try:
            return self._client.legal_hold(path)
        except NoLegalHold:
            return False

    def _require_object_lock(self) -> None:
        if not self._capabilities.object_lock:
            raise ObjectRejected(f"the bucket {self.location} has no object lock")

    def _sweep(self, older_than_s: float) -> int:
        now = self._clock.now() + timedelta(seconds=self._capabilities.clock_skew_s or 0.0)
        limit = now - timedelta(seconds=older_than_s)
        begun = list(self._client.uploads(self._settings.prefix))
        old = [upload for upload in begun if upload.begun_at <= limit and self._is_ours(upload.key)]
        return sum(self._abort_old(upload) for upload in old)

    def _is_ours(self, key: str) -> bool:
        return self._settings.ours is None or self._settings.ours(key)

    def _abort_old(self, upload: Upload) -> bool:
        try:
            self._client.abort_upload(upload.key, upload.id)
        except UploadGone:  # ended meanwhile, by whoever began it
            return False
        return True


@contextmanager
def _source_or_wire(stretch: Stretch) -> Iterator[None]:
    """A refused hash is the source's fault if the file no longer reads as it was hashed."""
    try:
        yield
    except WrongDigest as exc:
        if stretch.is_true():
            raise
        raise SourceChanged("the file no longer has the bytes that were hashed") from exc


def _check_size(payload: Payload) -> None:
    if payload.data is None and (size := os.fstat(payload.descriptor).st_size) != payload.size_bytes:
        raise SourceChanged(f"the file has {size} bytes now, {payload.size_bytes} were hashed")


def _goal(path: str, payload: Payload, stretches: tuple[Stretch, ...]) -> StoredObject:
    """What must be under the path in the end; its mark knows the composite of these parts, no ETag yet."""
    composite = composite_of([stretch.sha256 for stretch in stretches]) if len(stretches) > 1 else None
    mark = str(Mark(etag="", composite=composite)) if composite else None
    return StoredObject(path=path, size_bytes=payload.size_bytes, sha256=payload.sha256, etag=mark)


def _named(goal: StoredObject, etag: str) -> StoredObject:
    mark = Mark(etag=etag, composite=Mark.parse(goal.etag or "").composite)
    return replace(goal, etag=str(mark) or None)
