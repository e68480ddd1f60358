"""The table from a server's refusals to our errors, where the contract does not go over the wire for it."""

from datetime import UTC, datetime

import pytest

from cctv_storaged.backends.s3errors import (
    Refusal,
    UploadGone,
    clock_skew_s,
    failure,
    parse_error,
    printable,
    retry_after_s,
)
from cctv_storaged.errors import BackendThrottled, BackendUnavailable, ObjectMissing, ObjectRejected


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        (Refusal(status=404), ObjectMissing),
        (Refusal(status=404, code="NoSuchKey"), ObjectMissing),
        (Refusal(status=404, code="NoSuchUpload"), UploadGone),
        (Refusal(status=416, code="InvalidRange"), ObjectRejected),
        (Refusal(status=418), ObjectRejected),
        (Refusal(status=400, code="SlowDown"), BackendThrottled),
        (Refusal(status=200, code="InternalError"), BackendUnavailable),
        (Refusal(status=403, code="InvalidObjectState"), ObjectRejected),
    ],
)
def test_refusals(refusal: Refusal, kind: type[Exception]) -> None:
    assert type(failure("put k to b", refusal)) is kind


def test_a_skew_within_the_limit_is_not_the_reason_for_a_403() -> None:
    for skew, reason in ((899.0, "auth"), (901.0, "clock"), (-901.0, "clock"), (None, "auth")):
        error = failure("head k", Refusal(status=403, clock_skew_s=skew))
        assert isinstance(error, BackendUnavailable)
        assert error.reason == reason


def test_a_bucket_elsewhere_is_told_with_its_region() -> None:
    error = failure("put k", Refusal(status=301, code="PermanentRedirect", region="eu-central-1"))
    assert "eu-central-1" in str(error)


@pytest.mark.parametrize(
    ("document", "parsed"),
    [
        (b"<Error><Code>A</Code><Message>m</Message></Error>", ("A", "m")),
        (b'<?xml version="1.0"?>\n<Error xmlns="http://x/"><Code>A</Code></Error>', ("A", "")),
        (b"<Error><Code>A", ("", "")),
        (b"<html><head></head></html>", ("", "")),
        (b"Service Unavailable", ("", "")),
        (b"", ("", "")),
        (b'<!DOCTYPE e [<!ENTITY a "aaaa">]><Error><Code>&a;</Code></Error>', ("", "")),
        (b"\xff\xfe<", ("", "")),
    ],
)
def test_error_documents(document: bytes, parsed: tuple[str, str]) -> None:
    assert parse_error(document) == parsed


def test_a_servers_words_stay_on_one_line_without_what_was_signed() -> None:
    said = printable(
        "no\n\x1b[31mSignature=deadbeefdeadbeef AWSAccessKeyId: AKIAIOSFODNN7EXAMPLE" + "x" * 999
    )
    assert "\n" not in said
    assert "\x1b" not in said
    assert "deadbeef" not in said
    assert "AKIA" not in said
    assert len(said) <= 310


@pytest.mark.parametrize(
    ("text", "seconds"), [("5", 5.0), ("0", 0.0), (None, None), ("-1", None), ("soon", None), ("²", None)]
)
def test_retry_after(text: str | None, seconds: float | None) -> None:
    assert retry_after_s(text) == seconds


def test_the_date_header_tells_the_skew() -> None:
    now = datetime(2026, 3, 5, 12, tzinfo=UTC)
    assert clock_skew_s("Thu, 05 Mar 2026 12:20:00 GMT", now) == 1200
    assert clock_skew_s("Thu, 05 Mar 2026 11:59:30 GMT", now) == -30
    assert clock_skew_s("yesterday", now) is None
    assert clock_skew_s(None, now) is None
