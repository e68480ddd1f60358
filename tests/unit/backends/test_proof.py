"""What counts as proof: a table of heads, expectations and kinds of stores."""

import hashlib

import pytest

from cctv_storaged.backends.base import Capabilities, StoredObject
from cctv_storaged.backends.proof import (
    Mark,
    ObjectHead,
    Verdict,
    base64_of,
    composite_of,
    full_sha256,
    is_sampled,
    judge,
)

DIGEST = hashlib.sha256(b"right").digest()
OTHER = hashlib.sha256(b"wrong").digest()
PARTS = [hashlib.sha256(b"a").digest(), hashlib.sha256(b"b").digest()]
COMPOSITE = composite_of(PARTS)
CHECKING = Capabilities(refuses_wrong_sha256=True)
BELIEVING = Capabilities()


def head(*, size: int = 5, etag: str = "e", checksum: str | None = None) -> ObjectHead:
    return ObjectHead(size_bytes=size, etag=etag, checksum_sha256=checksum, metadata={"sha256": DIGEST.hex()})


def expected(mark: Mark | None) -> StoredObject:
    return StoredObject(path="p", size_bytes=5, sha256=DIGEST, etag=str(mark) if mark else None)


PUT = Mark(etag="e")
IN_PARTS = Mark(etag="e", composite=COMPOSITE)


@pytest.mark.parametrize(
    ("found", "mark", "verdict"),
    [
        (head(checksum=base64_of(DIGEST)), None, Verdict.PROVEN),
        (head(checksum=base64_of(DIGEST), etag="x"), PUT, Verdict.PROVEN),
        (head(checksum=base64_of(OTHER)), PUT, Verdict.DIFFERENT),
        (head(checksum=base64_of(DIGEST), size=4), PUT, Verdict.DIFFERENT),
        (head(checksum=COMPOSITE), IN_PARTS, Verdict.PROVEN),
        (head(checksum=COMPOSITE), PUT, Verdict.UNPROVEN),
        (head(checksum=composite_of(PARTS[::-1])), IN_PARTS, Verdict.UNPROVEN),
        (head(), PUT, Verdict.PROVEN),
        (head(), IN_PARTS, Verdict.PROVEN),
        (head(etag="x"), PUT, Verdict.UNPROVEN),
        (head(), None, Verdict.UNPROVEN),
        (head(etag=""), Mark(etag="", composite=COMPOSITE), Verdict.UNPROVEN),
        (head(size=6), None, Verdict.DIFFERENT),
        (head(checksum="not base64 !"), None, Verdict.UNPROVEN),
    ],
)
def test_verdicts_on_a_store_that_checks(found: ObjectHead, mark: Mark | None, verdict: Verdict) -> None:
    assert judge(found, expected(mark), CHECKING) is verdict


@pytest.mark.parametrize("checksum", [None, base64_of(DIGEST), base64_of(OTHER), COMPOSITE])
def test_a_store_that_does_not_check_proves_nothing_by_a_head(checksum: str | None) -> None:
    assert judge(head(checksum=checksum), expected(IN_PARTS), BELIEVING) is Verdict.UNPROVEN
    assert judge(head(checksum=checksum, size=4), expected(IN_PARTS), BELIEVING) is Verdict.DIFFERENT


@pytest.mark.parametrize("mark", [PUT, IN_PARTS, Mark(etag="", composite=COMPOSITE), Mark(etag="")])
def test_a_mark_survives_the_journal(mark: Mark) -> None:
    assert Mark.parse(str(mark)) == mark


def test_only_whole_checksums_are_taken_for_whole() -> None:
    assert full_sha256(base64_of(DIGEST)) == DIGEST
    assert full_sha256(COMPOSITE) is None
    assert full_sha256("AAAA") is None
    assert full_sha256(None) is None


def test_the_sample_is_the_asked_share_and_always_the_same() -> None:
    paths = [f"camera/{number}.ts" for number in range(20_000)]
    chosen = {path for path in paths if is_sampled(path, 0.01)}
    assert 100 < len(chosen) < 320
    assert chosen == {path for path in paths if is_sampled(path, 0.01)}
    assert chosen < {path for path in paths if is_sampled(path, 0.1)}
    assert all(is_sampled(path, 1.0) for path in paths)
    assert not any(is_sampled(path, 0.0) for path in paths)
