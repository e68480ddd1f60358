"""What a client library for S3 is asked for, as values and one protocol; nothing else.

Single blocking requests. A client raises only `errors.BackendError` and below (and `SourceChanged` where
a body does), and tries nothing twice.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from cctv_storaged.backends.base import ListedObject
from cctv_storaged.backends.body import Body
from cctv_storaged.backends.presigner import Presigner
from cctv_storaged.backends.proof import ObjectHead
from cctv_storaged.errors import BackendError

CONTENT_TYPES = {
    "ts": "video/mp2t",
    "mp4": "video/mp4",
    "mkv": "video/x-matroska",
    "jpg": "image/jpeg",
    "json": "application/json",
    "zip": "application/zip",
}


def content_type(key: str) -> str:
    """By the key's ending, so that a browser given the object knows what it has."""
    return CONTENT_TYPES.get(key.rpartition(".")[2], "application/octet-stream")


@dataclass(frozen=True, slots=True, kw_only=True)
class PutRequest:
    """One object to write; `exclusive` asks for If-None-Match: * (RFC 9110 13.1.2)."""

    key: str
    body: Body
    metadata: Mapping[str, str]
    exclusive: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PartRequest:
    """One part of a begun upload to write; parts are numbered from 1."""

    key: str
    body: Body
    upload_id: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part as the store answered it, for the list that completes an upload."""

    number: int
    etag: str
    sha256: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What makes one object of the parts."""

    key: str
    upload_id: str
    parts: tuple[Part, ...]
    exclusive: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A multipart upload that was begun and neither completed nor aborted."""

    key: str
    id: str
    begun_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRequest:
    """Which page of a listing: the one behind `after`, or the one that the page before named."""

    keys: int  # at most; S3 gives no more than 1000
    prefix: str
    after: str = ""
    token: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some objects; `token` names the page behind it, None at the end."""

    objects: tuple[ListedObject, ...]
    token: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketFacts:
    """What the store says about the bucket; `clock_skew_s` is its clock minus ours."""

    versioning: bool
    object_lock: bool
    clock_skew_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Doomed:
    """What is to be deleted: a version of an object, or the object where versions are not kept."""

    key: str
    version: str | None = None
    mark: bool = field(default=False, compare=False)  # no bytes: it says that the versions below are deleted


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """What came of deleting many."""

    failures: Mapping[Doomed, BackendError]
    marked: frozenset[str]  # keys of which versions are left below a new mark


class StoreClient(Protocol):
    """One bucket of one store."""

    def head(self, key: str) -> ObjectHead:
        """ObjectMissing where there is nothing under the key."""

    def put(self, request: PutRequest) -> str:
        """The ETag.

        Raises AlreadyThere where an exclusive put finds an object, WrongDigest where the hash is not right.
        """

    def begin_upload(self, key: str, metadata: Mapping[str, str]) -> str:
        """The new upload's id."""

    def put_part(self, request: PartRequest) -> str:
        """The part's ETag. WrongDigest as with put."""

    def complete_upload(self, completion: Completion) -> str:
        """The object's ETag. AlreadyThere as with put."""

    def abort_upload(self, key: str, upload_id: str) -> None:
        """Give up the upload's parts."""

    def uploads(self, prefix: str) -> Iterator[Upload]:
        """All that were begun and not ended."""

    def page(self, request: PageRequest) -> Page:
        """One request of a listing (ListObjectsV2)."""

    def read(self, key: str, start: int, length: int | None) -> AbstractContextManager[Iterator[bytes]]:
        """The bytes in blocks of at most 1 MiB; leaving gives the connection back."""

    def delete(self, key: str, version: str | None = None) -> bool:
        """True where the bucket keeps versions and has only put a mark above them; nothing there is success.

        With a version just that one goes.
        """

    def delete_many(self, doomed: Sequence[Doomed]) -> Removal:
        """At most 1000 in one request; nothing there is success."""

    def every_version(self, prefix: str) -> Iterator[Doomed]:
        """All versions of all keys that begin so, and the marks of deletions."""

    def keeps_versions(self) -> bool:
        """Whether the bucket keeps them, or has kept some; no where that may not be asked."""

    def is_locked(self, doomed: Doomed) -> bool:
        """Whether a retention period or a legal hold keeps the version from being deleted."""

    def set_legal_hold(self, key: str, on: bool, version: str | None = None) -> None:
        """Of the latest version where none is named."""

    def legal_hold(self, key: str, version: str | None = None) -> bool:
        """May raise NoLegalHold where there never was one."""

    def require_bucket(self) -> None:
        """BackendUnavailable(bucket) where it is missing."""

    def bucket_facts(self) -> BucketFacts: ...

    def presigner(self) -> Presigner:
        """Signs URLs with the credentials of this moment; asks the store nothing."""

    def make_bucket(self) -> None:
        """It being there (as ours) is success."""

    def close(self) -> None:
        """Cut the connections: threads that wait in them wake with an error."""
