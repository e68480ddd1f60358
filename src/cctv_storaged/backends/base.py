"""What delivery asks of a place that holds bytes. The protocol and its values, nothing else.

A backend knows bytes and paths. It does not know SQL, retention, or who calls. It never retries: it says
which kind of failure it met (`errors.BackendError` and below) and delivery alone decides what follows.
Every method is safe to call again after a crash at any point of an earlier call.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable
from uuid import UUID

from cctv_storaged.errors import BackendError
from cctv_storaged.model import FileIdentity
from cctv_storaged.pacing import ByteBudget


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """The bytes of one segment, hashed once, still open.

    `descriptor` is open for reading on the very file that was hashed and stays open until the put is over;
    use `os.pread`, never its shared offset. `data` holds the bytes as well when they are few enough to keep.
    """

    descriptor: int
    size_bytes: int
    sha256: bytes
    data: bytes | None
    metadata: Mapping[str, str]  # ASCII; the S3 user metadata without the x-amz-meta- prefix
    identity: FileIdentity | None = None  # fstat(2) from before the hashing; lets a link be trusted unread
    part_sha256: tuple[bytes, ...] = ()  # of each part, from `body.digest_file`; spares a second reading


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """What a backend says it holds, or must hold when it is asked to verify."""

    path: str
    size_bytes: int
    sha256: bytes
    etag: str | None = None  # the backend's own name for this content, as answered by the put
    doubted: bool = False  # a reader got other bytes: verify believes nothing but the bytes
    camera_id: UUID | None = None  # ours, whose footage it is; for a backend that has cameras of its own


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectFacts:
    """What a backend tells about an object it holds, without its bytes."""

    path: str
    size_bytes: int
    sha256: bytes | None  # only where the backend computed it itself
    etag: str | None
    metadata: Mapping[str, str]  # as given to the put, keys in lower case


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedObject:
    """One line of a listing. A listing may lag behind what a stat says: it proves nothing by itself."""

    path: str
    size_bytes: int
    etag: str | None  # not the journal's mark, which may hold more
    modified: datetime  # by the store's own clock; of a file, when its inode was last changed


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a backend was found to do when it was tried at start."""

    refuses_wrong_sha256: bool = False  # a put or a part with a false checksum is refused
    returns_sha256: bool = False  # a stat gives back the checksum that was stored
    conditional_put: bool = False  # If-None-Match: * is honoured
    versioning: bool = False
    object_lock: bool = False
    clock_skew_s: float | None = None  # server's clock minus ours

    def told(self) -> str:
        """For people."""
        able = {
            "refuse wrong checksums": self.refuses_wrong_sha256,
            "give checksums back": self.returns_sha256,
            "refuse to overwrite": self.conditional_put,
            "keep versions": self.versioning,
            "lock objects": self.object_lock,
        }
        skew = "" if self.clock_skew_s is None else f"; its clock is {self.clock_skew_s:+.1f} s from ours"
        return (", ".join(what for what, can in able.items() if can) or "store and give back") + skew


class Backend(Protocol):
    """A place that holds bytes. Raises only `errors.BackendError` and below; put also `SourceChanged`."""

    @property
    def name(self) -> str:
        """MINIO, S3, FILESYSTEM or MILESTONE."""

    @property
    def location(self) -> str:
        """Bucket or folder, for people and metric labels."""

    async def probe(self) -> Capabilities:
        """Try what the backend can do, with objects of its own that it removes again; creates no bucket."""

    async def put(self, path: str, payload: Payload, budget: ByteBudget) -> StoredObject:
        """Bring the bytes to `path`, whole or not at all; durable as far as the backend can be asked to.

        Identical content already there is success; different content there raises ObjectMismatch.
        """

    async def verify(self, expected: StoredObject) -> None:
        """Prove that what is held has the size and SHA-256 of `expected`.

        Raises ObjectMissing or ObjectMismatch.
        """

    def open(
        self, path: str, start: int = 0, length: int | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The object's bytes from `start` on, in blocks of at most 1 MiB."""

    async def delete(self, path: str) -> None:
        """Remove the object, with all versions of it; one that is not there is success.

        Raises ObjectLocked where a lock or legal hold of the backend keeps one of them.
        """

    async def delete_many(self, paths: Sequence[str]) -> Mapping[str, BackendError]:
        """The same of many; what is not gone, and why. BackendUnavailable where it cannot be asked at all."""

    async def sweep(self, older_than_s: float) -> int:
        """Remove what interrupted puts left behind; the number removed."""

    async def close(self) -> None:
        """Give back connections and threads."""


@runtime_checkable
class Describing(Protocol):
    """A backend that gives back what a put was told, so that the journal can be rebuilt from it."""

    async def stat(self, path: str) -> ObjectFacts:
        """Size, metadata and what else is known of the object; ObjectMissing else."""


@runtime_checkable
class Listing(Protocol):
    """A backend that tells what it holds."""

    def listed(self, prefix: str, after: str = "") -> AsyncIterator[Sequence[ListedObject]]:
        """Everything below `prefix` behind `after`, in pages of at most 1000, never an empty one.

        The order is stable: by the bytes of the path, or by its names from folder to folder (SeaweedFS).
        Both are the same for keys that `model.is_object_key` knows, so for these any path may be `after`,
        also one that is not there. What others keep in the same place is listed with the rest. Raises
        BackendError and below, when a page is asked for; go on behind the last one that came.
        """


@runtime_checkable
class LegalHolding(Protocol):
    """A backend that can keep an object from being deleted, whoever asks, until the hold is taken off."""

    async def object_lock(self) -> bool | None:
        """Whether the last probe found that legal holds can be set; None before the first one."""

    async def set_legal_hold(self, path: str, on: bool) -> None:
        """On: of the object as it is now. Off: of every version of it; none there is success.

        Read back before it returns. Raises ObjectRejected where the bucket has no object lock, or took it
        and does not tell of it; ObjectMissing; BackendUnavailable(auth) where the key may not.
        """

    async def legal_hold(self, path: str) -> bool | None:
        """Whether the object as it is now has one; None: the bucket has no object lock."""


@runtime_checkable
class Versioning(Protocol):
    """A backend that may keep what was under a name when something else is put there."""

    async def put_version(self, path: str, payload: Payload, budget: ByteBudget) -> StoredObject:
        """Bring the bytes to `path` as its newest version; what was there stays as an earlier one.

        Raises ObjectRejected where the bucket keeps no versions: there it would be gone.
        """


@runtime_checkable
class Preparing(Protocol):
    """A backend whose bucket or folder this program may make: for the embedded default and tests."""

    async def ensure_bucket(self) -> None:
        """Make the bucket or folder where it is missing."""


@runtime_checkable
class Presigning(Protocol):
    """A backend that lets others fetch an object from it without a key of their own."""

    async def presign(self, path: str, expires_s: int, filename: str | None = None) -> str:
        """A URL to GET the object with, Range and all; `filename` makes browsers save it under that name.

        Whoever has the URL may read until it expires: it is never logged. Lives seven days at most (the
        signature's own limit), and no longer than the credentials it is made with. Says nothing about
        whether there is such an object.
        """
