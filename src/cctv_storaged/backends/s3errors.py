"""What an S3 server's refusal means for us: one table from its codes to our errors, for both clients.

It does not know either client; they hand over a `Refusal`. Sources: the Amazon S3 error code list, and
the codes that MinIO and SeaweedFS add to it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from xml.etree import ElementTree

from cctv_storaged.errors import (
    BackendError,
    BackendThrottled,
    BackendUnavailable,
    ObjectMismatch,
    ObjectMissing,
    ObjectRejected,
)

SKEW_LIMIT_S = 15 * 60  # S3 accepts no request that is further from its own clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A server's no, as both clients can tell it. `code` is empty where the answer had no body (HEAD)."""

    status: int
    code: str = ""
    message: str = ""
    region: str | None = None  # where the bucket is, if the server says so
    retry_after_s: float | None = None
    clock_skew_s: float | None = None  # server's clock minus ours


class WrongDigest(ObjectRejected):
    """The bytes that arrived do not have the checksum they were announced with."""


class AlreadyThere(ObjectMismatch):
    """A put that may not overwrite found an object; whether it differs is still to be seen."""


class NoLegalHold(ObjectMissing):
    """The object has no legal hold, nor ever had one."""


class UploadGone(ObjectRejected):
    """The multipart upload is not known (any more)."""


_REMEDIES = {
    "auth": "check access key, secret key and the bucket's policy",
    "bucket": "create the bucket or correct its name or region",
    "clock": "set this host's clock; is NTP running?",
    "space": "the store has no room: free some or raise the quota",
}

_REASONS = {
    "NoSuchBucket": "bucket",
    "AllAccessDisabled": "bucket",
    "InvalidBucketName": "bucket",
    "PermanentRedirect": "bucket",
    "TemporaryRedirect": "bucket",
    "Redirect": "bucket",
    "IllegalLocationConstraintException": "bucket",
    "AccessDenied": "auth",
    "AccountProblem": "auth",
    "AuthorizationHeaderMalformed": "auth",
    "ExpiredToken": "auth",
    "InvalidAccessKeyId": "auth",
    "InvalidSecurity": "auth",
    "InvalidToken": "auth",
    "NotSignedUp": "auth",
    "SignatureDoesNotMatch": "auth",
    "TokenRefreshRequired": "auth",
    "UnauthorizedAccess": "auth",
    "RequestExpired": "clock",
    "RequestTimeTooSkewed": "clock",
    "InsufficientCapacity": "space",
    "QuotaExceeded": "space",
    "XMinioAdminBucketQuotaExceeded": "space",
    "XMinioStorageFull": "space",
    "InternalError": "server",
    "ServiceUnavailable": "server",
    "XMinioServerNotInitialized": "server",
    "RequestTimeout": "network",
}
_THROTTLES = frozenset(
    {"SlowDown", "SlowDownRead", "SlowDownWrite", "Throttling", "ThrottlingException", "TooManyRequests"}
    | {"RequestLimitExceeded", "BandwidthLimitExceeded", "TooManyRequestsException"}
)
_OBJECTS: dict[str, Callable[[str], BackendError]] = {
    "NoSuchKey": ObjectMissing,
    "NoSuchVersion": ObjectMissing,
    "NoSuchUpload": UploadGone,
    "NoSuchObjectLegalHold": NoLegalHold,  # SeaweedFS
    "NoSuchObjectLockConfiguration": NoLegalHold,
    "PreconditionFailed": AlreadyThere,
    "BadDigest": WrongDigest,
    "XAmzContentChecksumMismatch": WrongDigest,
    "XAmzContentSHA256Mismatch": WrongDigest,
    "ConditionalRequestConflict": ObjectRejected,
    "OperationAborted": ObjectRejected,
    "InvalidObjectState": ObjectRejected,
}
_STATUSES = {
    301: "bucket",
    307: "bucket",
    401: "auth",
    403: "auth",
    408: "network",
    500: "server",
    502: "server",
    503: "server",
    504: "server",
    507: "space",
}


def failure(doing: str, refusal: Refusal) -> BackendError:
    """Our error for a refusal met while `doing` ("put KEY to BUCKET")."""
    text = _text(doing, refusal)
    if _throttles(refusal):
        return BackendThrottled(text, retry_after_s=refusal.retry_after_s)
    if (kind := _OBJECTS.get(refusal.code)) is not None:
        return kind(text)
    if (reason := _reason(refusal)) is not None:
        return BackendUnavailable(_text(doing, refusal, _remedy(reason, refusal)), reason=reason)
    if refusal.status == 404:
        return ObjectMissing(text)
    return AlreadyThere(text) if refusal.status == 412 else ObjectRejected(text)


def _throttles(refusal: Refusal) -> bool:
    if refusal.code in _THROTTLES or refusal.status == 429:
        return True
    return refusal.status == 503 and refusal.retry_after_s is not None


def _reason(refusal: Refusal) -> str | None:
    reason = _REASONS.get(refusal.code) or _STATUSES.get(refusal.status)
    if reason == "auth" and not refusal.code and abs(refusal.clock_skew_s or 0.0) > SKEW_LIMIT_S:
        return "clock"  # the answer to a HEAD has no code, but it has the server's time
    return reason


def _text(doing: str, refusal: Refusal, remedy: str = "") -> str:
    """The server's words come last: they may be long, and a filter may star what follows a secret in them."""
    said = f", {refusal.code}" if refusal.code else ""
    words = printable(refusal.message)
    return f"{doing}: HTTP {refusal.status}{said}{remedy}{f': {words}' if words else ''}"


def _remedy(reason: str, refusal: Refusal) -> str:
    text = ""
    if reason == "clock" and refusal.clock_skew_s is not None:
        text += f"; this host's clock is {-refusal.clock_skew_s:+.0f} s from the server's"
    if reason == "bucket" and refusal.region:
        text += f"; the bucket is in region {printable(refusal.region)}"
    remedy = _REMEDIES.get(reason)
    return f"{text} ({remedy})" if remedy else text


def printable(text: str) -> str:
    """A server's words on one line, not too long, and without what must not be repeated."""
    line = "".join(char if char.isprintable() else " " for char in text[:300])
    return re.sub(r"(?i)(signature|credential|access ?key ?id)\W*\s*[\w/+=.-]{8,}", r"\1 ***", line)


def parse_error(data: bytes) -> tuple[str, str]:
    """Code and message of an S3 error document; empty where it is none (a proxy's page)."""
    if not data.lstrip().startswith(b"<") or b"<!" in data:  # no DTD: entities are not for us to expand
        return "", ""
    try:
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError:
        return "", ""
    found = {child.tag.rpartition("}")[2]: child.text or "" for child in root}
    return found.get("Code", ""), found.get("Message", "")


def retry_after_s(value: str | None) -> float | None:
    """Seconds of a Retry-After header (RFC 9110 10.2.3); its date form is taken as not given."""
    return float(value) if value is not None and value.isascii() and value.isdigit() else None


def clock_skew_s(date: str | None, now: datetime) -> float | None:
    """Server's clock minus ours by its Date header, to the second; None where there is none."""
    if not date:
        return None
    try:
        moment = parsedate_to_datetime(date)
    except ValueError:
        return None
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds()
