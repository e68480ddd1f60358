"""What a store really does, tried with small objects under `{prefix}.probe/` that are removed again.

Stores differ in what they check, and some accept a condition without honouring it (docs/reference/
s3-stores.md), so nothing is believed by name. Blocking; run in a thread.
"""

import hashlib
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from cctv_storaged.backends.base import Capabilities
from cctv_storaged.backends.body import Body, Deadline, Stretch
from cctv_storaged.backends.proof import full_sha256
from cctv_storaged.backends.s3errors import AlreadyThere
from cctv_storaged.backends.storeclient import PartRequest, PutRequest, StoreClient
from cctv_storaged.errors import BackendError, BackendUnavailable, ObjectRejected
from cctv_storaged.pacing import ByteBudget

_CONTENT = b"cctv-storaged tries what this store does; this object may be removed\n"
_RACERS = 8
_PASSING = frozenset({"network", "server", "throttled"})  # no answer about what the store does


def probe_store(client: StoreClient, prefix: str, timeout_s: float) -> Capabilities:
    """Try the store. BackendUnavailable (auth, bucket, clock, ...) where it cannot be used at all."""
    require_bucket(client)
    facts = client.bucket_facts()
    with _Scratch(client, prefix, timeout_s) as scratch:
        returns_sha256 = _keeps(scratch)
        return Capabilities(
            refuses_wrong_sha256=_refuses_wrong_object(scratch) and _refuses_wrong_part(scratch),
            returns_sha256=returns_sha256,
            conditional_put=_keeps_the_first(scratch) and _lets_one_win(scratch),
            versioning=facts.versioning,
            object_lock=facts.object_lock,
            clock_skew_s=facts.clock_skew_s,
        )


def require_bucket(client: StoreClient) -> None:
    """BackendUnavailable where the bucket cannot be used.

    An answer to HEAD has no body: a server that says no more than 400 does not take our key (S3 does that
    with an expired one).
    """
    try:
        client.require_bucket()
    except ObjectRejected as exc:
        raise BackendUnavailable(f"{exc} (it does not say why; has the key expired?)", reason="auth") from exc


class _Scratch:
    """Keys of this probe alone, removed at the end."""

    def __init__(self, client: StoreClient, prefix: str, timeout_s: float) -> None:
        self.client = client
        self._stem = f"{prefix}.probe/{secrets.token_hex(8)}"
        self._timeout_s = timeout_s
        self._keys: list[str] = []

    def __enter__(self) -> "_Scratch":
        return self

    def __exit__(self, *_: object) -> None:
        marked = False
        for key in self._keys:
            with suppress(BackendError):  # an uploader's key may be without the right to delete
                marked |= self.client.delete(key)
        with suppress(BackendError):  # or without that to see versions
            if marked or self.client.keeps_versions():
                self._delete_versions()

    def _delete_versions(self) -> None:
        """Those of these keys, and then the marks above: without one, what a lock keeps would show again."""
        found = [each for each in self.client.every_version(self._stem) if each.key in self._keys]
        kept: set[str] = set()
        for each in sorted(found, key=lambda version: version.mark):
            if each.version is None or each.key in kept:
                continue
            try:
                self.client.delete(each.key, each.version)
            except BackendError:
                kept.add(each.key)

    def key(self, word: str) -> str:
        key = f"{self._stem}-{word}"
        self._keys.append(key)
        return key

    def body(self, content: bytes, sha256: bytes | None = None) -> Body:
        stretch = Stretch(
            descriptor=-1,
            data=content,
            start=0,
            size_bytes=len(content),
            sha256=sha256 or hashlib.sha256(content).digest(),
        )
        return Body(stretch, budget=ByteBudget(None), deadline=Deadline(self._timeout_s), prove=False)

    def put(self, key: str, body: Body, *, exclusive: bool = False) -> None:
        self.client.put(PutRequest(key=key, body=body, metadata={}, exclusive=exclusive))


def _keeps(scratch: _Scratch) -> bool:
    """An object can be written and read; whether its checksum comes back."""
    key = scratch.key("kept")
    scratch.put(key, scratch.body(_CONTENT))
    with scratch.client.read(key, 0, None) as blocks:
        if b"".join(blocks) != _CONTENT:
            raise BackendUnavailable(f"{key} does not read as it was put", reason="server")
    return full_sha256(scratch.client.head(key).checksum_sha256) == hashlib.sha256(_CONTENT).digest()


def _refuses_wrong_object(scratch: _Scratch) -> bool:
    key = scratch.key("wrong")
    return _is_refused(lambda: scratch.put(key, _wrong(scratch)))


def _refuses_wrong_part(scratch: _Scratch) -> bool:
    key = scratch.key("wrong-part")
    try:
        upload_id = scratch.client.begin_upload(key, {})
    except ObjectRejected:
        return True  # it knows no parts, so it takes no wrong ones
    request = PartRequest(key=key, body=_wrong(scratch), upload_id=upload_id, number=1)
    try:
        return _is_refused(lambda: scratch.client.put_part(request))
    finally:
        with suppress(BackendError):
            scratch.client.abort_upload(key, upload_id)


def _wrong(scratch: _Scratch) -> Body:
    return scratch.body(_CONTENT, sha256=hashlib.sha256(b"something else").digest())


def _is_refused(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except BackendUnavailable as exc:
        if exc.reason in _PASSING:
            raise
        return True  # some stores take a wrong payload hash for a wrong signature
    except BackendError:
        return True
    return False


def _keeps_the_first(scratch: _Scratch) -> bool:
    """If-None-Match: * lets the first put pass and stops the second."""
    key = scratch.key("twice")
    try:
        scratch.put(key, scratch.body(_CONTENT), exclusive=True)
    except BackendUnavailable:
        raise
    except BackendError:
        return False  # not implemented
    try:
        scratch.put(key, scratch.body(b"second\n"), exclusive=True)
    except AlreadyThere:
        return True
    except ObjectRejected:
        return False
    return False


def _lets_one_win(scratch: _Scratch) -> bool:
    """Of several puts at the same time exactly one passes."""
    key = scratch.key("race")

    def race(number: int) -> bool:
        try:
            scratch.put(key, scratch.body(b"racer %d\n" % number), exclusive=True)
        except BackendUnavailable:
            raise
        except BackendError:
            return False
        return True

    with ThreadPoolExecutor(_RACERS, thread_name_prefix="probe") as racers:
        return sum(racers.map(race, range(_RACERS))) == 1
