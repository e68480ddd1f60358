"""AWS Signature Version 4 for S3: in headers, over a body whose SHA-256 is already known, and in a URL.

Both client libraries sign too; they hash the body a second time to do it and derive the day's key for
every request, and boto3 spends 0.3 ms on a URL, of which a day's playlist has 8640. This signs what they
built. Source: AWS "Signature Version 4 signing process" and its S3 rules (path encoded once, not
normalised).
"""

import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a request is signed with; printed with stars."""

    access_key: str
    secret_key: str
    session_token: str | None = None

    def __repr__(self) -> str:
        return "Credentials(***)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToSign:
    """A request as far as its signature covers it; `path` and `query` as they go over the wire."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]  # lower-case names, all of them signed
    payload_sha256: str  # hex


@dataclass(frozen=True, slots=True, kw_only=True)
class ToPresign:
    """What a URL is to give; `path` as it goes over the wire, `query` not encoded yet."""

    host: str  # with its port where the URL has one
    path: str
    query: Mapping[str, str]
    expires_s: int


_Terms = tuple[int, Mapping[str, str], int, Credentials]
"""The second of the signature, the query that is wanted, how long it is good for, and by whose key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Alike:
    """What URLs signed on the same terms share: all but path and signature."""

    terms: _Terms
    query: str
    head: str  # of the text that is signed
    key: bytes = field(repr=False)


class Signer:
    """Signs for one region; keeps the derived key of the day, as it changes only with day and secret.

    It keeps what the URL before had, too: thousands are signed within a second, and differ in their paths.
    """

    def __init__(self, region: str, now: Callable[[], float] = time.time) -> None:
        self._region = region
        self._now = now
        self._key: tuple[str, str, bytes] = ("", "", b"")  # day, secret, key
        self._alike: _Alike | None = None

    def sign(self, request: ToSign, credentials: Credentials) -> dict[str, str]:
        """The request's headers with the four or five that the signature adds."""
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._now()))
        headers = {
            **request.headers,
            "x-amz-date": moment,
            "x-amz-content-sha256": request.payload_sha256,
        }
        if credentials.session_token:
            headers["x-amz-security-token"] = credentials.session_token
        names = sorted(headers)
        signed = ";".join(names)
        canonical = (
            f"{request.method}\n{request.path}\n{canonical_query(request.query)}\n"
            + "".join([f"{name}:{_canonical(headers[name])}\n" for name in names])
            + f"\n{signed}\n{request.payload_sha256}"
        )
        scope = f"{moment[:8]}/{self._region}/s3/aws4_request"
        text = f"{_ALGORITHM}\n{moment}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        signature = hmac.digest(self._day_key(moment[:8], credentials.secret_key), text.encode(), "sha256")
        headers["authorization"] = (
            f"{_ALGORITHM} Credential={credentials.access_key}/{scope}, "
            f"SignedHeaders={signed}, Signature={signature.hex()}"
        )
        return headers

    def presign(self, request: ToPresign, credentials: Credentials) -> str:
        """The query that makes a GET of `request` valid on its own until it expires."""
        alike = self._alike_of(request, credentials)
        canonical = f"GET\n{request.path}\n{alike.query}\nhost:{request.host}\n\nhost\nUNSIGNED-PAYLOAD"
        text = alike.head + hashlib.sha256(canonical.encode()).hexdigest()
        signature = hmac.digest(alike.key, text.encode(), "sha256")
        return f"{alike.query}&X-Amz-Signature={signature.hex()}"

    def _alike_of(self, request: ToPresign, credentials: Credentials) -> _Alike:
        second = int(self._now())
        terms = (second, request.query, request.expires_s, credentials)
        alike = self._alike  # read once, as the day's key
        if alike is None or alike.terms != terms:
            alike = self._alike = self._made_alike(terms)
        return alike

    def _made_alike(self, terms: _Terms) -> _Alike:
        second, wanted, expires_s, credentials = terms
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
        scope = f"{moment[:8]}/{self._region}/s3/aws4_request"
        fields = {
            **wanted,
            "X-Amz-Algorithm": _ALGORITHM,
            "X-Amz-Credential": f"{credentials.access_key}/{scope}",
            "X-Amz-Date": moment,
            "X-Amz-Expires": str(expires_s),
            "X-Amz-SignedHeaders": "host",
        }
        if credentials.session_token:
            fields["X-Amz-Security-Token"] = credentials.session_token
        return _Alike(
            terms=(second, dict(wanted), expires_s, credentials),
            query="&".join([f"{name}={quote(fields[name], safe='-_.~')}" for name in sorted(fields)]),
            head=f"{_ALGORITHM}\n{moment}\n{scope}\n",
            key=self._day_key(moment[:8], credentials.secret_key),
        )

    def _day_key(self, day: str, secret: str) -> bytes:
        kept_day, kept_secret, key = self._key  # read once: other threads may replace it
        if (kept_day, kept_secret) == (day, secret):
            return key
        key = f"AWS4{secret}".encode()
        for word in (day, self._region, "s3", "aws4_request"):
            key = hmac.digest(key, word.encode(), "sha256")
        self._key = (day, secret, key)
        return key


def canonical_query(query: str) -> str:
    """Sorted by name, each with its `=`; the names and values are encoded already."""
    if not query:
        return ""
    pairs = sorted(pair.partition("=")[::2] for pair in query.split("&"))
    return "&".join([f"{name}={value}" for name, value in pairs])


def _canonical(value: str) -> str:
    """Trimmed, runs of spaces made one: only for the signature, the wire carries the value as it is."""
    return " ".join(value.split()) if "  " in value else value.strip(" ")
