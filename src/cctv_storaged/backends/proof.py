"""What counts as proof that a store holds the bytes of the journal: decided here, asked for elsewhere.

Pure: an object's head, what was expected, and what the store was found to do go in; a verdict comes out.
User metadata is never proof: it says what we said.
"""

import base64
import binascii
import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from cctv_storaged.backends.base import Capabilities, StoredObject

_COMPOSITE_MARK = " sha256:"


class Verdict(Enum):
    PROVEN = "proven"
    DIFFERENT = "different"
    UNPROVEN = "unproven"  # nothing speaks against it, but the bytes must be read to know


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectHead:
    """A store's answer to HEAD. `checksum_sha256` is its x-amz-checksum-sha256 as it stands."""

    size_bytes: int
    etag: str
    checksum_sha256: str | None
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What a store called the content it was given; kept as the journal's `etag`.

    `composite` is the checksum of a multipart object's part checksums (`BASE64-PARTS`), which cannot be
    worked out again from the whole file's SHA-256 alone.
    """

    etag: str
    composite: str | None = None

    def __str__(self) -> str:
        return f"{self.etag}{_COMPOSITE_MARK}{self.composite}" if self.composite else self.etag

    @classmethod
    def parse(cls, text: str) -> "Mark":
        etag, _, composite = text.partition(_COMPOSITE_MARK)
        return cls(etag=etag, composite=composite or None)


def base64_of(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def composite_of(part_sha256: Sequence[bytes]) -> str:
    """The composite SHA-256 of a multipart object, as S3 writes it (Checking object integrity, S3 guide)."""
    digest = hashlib.sha256(b"".join(part_sha256)).digest()
    return f"{base64_of(digest)}-{len(part_sha256)}"


def full_sha256(checksum: str | None) -> bytes | None:
    """The SHA-256 of the whole object, where the store's checksum is one (composites end in `-PARTS`)."""
    if checksum is None or "-" in checksum:
        return None
    try:
        digest = base64.b64decode(checksum, validate=True)
    except binascii.Error:
        return None
    return digest if len(digest) == hashlib.sha256().digest_size else None


def judge(head: ObjectHead, expected: StoredObject, capabilities: Capabilities) -> Verdict:
    """Whether a head proves size and SHA-256.

    A checksum that the store gives back, or the ETag it answered the put with, is only proof where it was
    seen to refuse wrong checksums: others repeat what they were told.
    """
    if head.size_bytes != expected.size_bytes:
        return Verdict.DIFFERENT
    if not capabilities.refuses_wrong_sha256:
        return Verdict.UNPROVEN
    if (found := full_sha256(head.checksum_sha256)) is not None:
        return Verdict.PROVEN if found == expected.sha256 else Verdict.DIFFERENT
    mark = Mark.parse(expected.etag or "")
    if head.checksum_sha256 is not None:
        same = head.checksum_sha256 == mark.composite
    else:
        same = head.etag == mark.etag and bool(mark.etag)
    # Other part sizes or another encryption give the same bytes another name: not proof, not a difference.
    return Verdict.PROVEN if same else Verdict.UNPROVEN


def is_sampled(path: str, share: float) -> bool:
    """Whether this object belongs to the share that is read back although its head is proof."""
    return zlib.crc32(path.encode(errors="surrogateescape")) < share * 2**32
