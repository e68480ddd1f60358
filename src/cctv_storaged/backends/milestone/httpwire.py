"""One HTTP request and its answer, bounded in bytes and seconds: what identity and REST stand on.

It does not know XProtect. It follows no redirect (a token would go along), keeps no cookie, asks no proxy of
the environment and tries nothing twice. What a server says is repeated only through `words`.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from cctv_storaged.backends.milestone.answers import Unreadable, plain, unreachable
from cctv_storaged.backends.milestone.target import MilestoneTarget
from cctv_storaged.backends.milestone.tls import Trust
from cctv_storaged.backends.milestone.vmstime import skew_of
from cctv_storaged.clock import Clock
from cctv_storaged.errors import BackendUnavailable
from cctv_storaged.logs.redaction import Redactor

ANSWER_MAX_BYTES = 4 * 1024 * 1024
CONNECTIONS = 16
_WORDS_MAX = 4096
_READ_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request; `doing` says what for, in a message."""

    method: str
    url: str  # percent-encoded already
    doing: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)
    max_bytes: int = ANSWER_MAX_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Status, body, and what the headers told."""

    status: int
    data: bytes = field(repr=False)
    content_type: str = ""
    retry_after_s: float | None = None
    clock_skew: timedelta | None = None  # the server's clock minus ours, to the second

    @property
    def good(self) -> bool:
        return 200 <= self.status < 300


def open_session(target: MilestoneTarget, trust: Trust) -> aiohttp.ClientSession:
    """For the management server; within a running loop. Whoever asks a recorder by it names its own TLS."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=trust.context, limit=CONNECTIONS),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=target.request_s, sock_connect=target.connect_s),
        trust_env=False,
        auto_decompress=False,
    )


class HttpWire:
    """Asks the management server."""

    def __init__(self, session: aiohttp.ClientSession, target: MilestoneTarget, clock: Clock) -> None:
        self._session = session
        self._clock = clock
        self._plain_allowed = target.allow_plain_http
        self._secrets = {"password": target.password}
        self._redact = Redactor(frozenset(self._secrets.values()))

    def hide(self, kind: str, secret: str) -> None:
        """This secret is in use as of now, in place of the one of its kind: it is starred in `words`."""
        self._secrets[kind] = secret
        self._redact = Redactor(frozenset(self._secrets.values()))

    def words(self, text: str) -> str:
        """A server's words on one line, not too long, without our secrets."""
        return plain(self._redact(text[:_WORDS_MAX]))

    async def exchange(self, call: Call) -> Answer:
        """BackendUnavailable(network) where there is no answer, (server) where it is none to use."""
        self._refuse_plain(call)
        asked_at = self._clock.now()
        try:
            async with self._session.request(
                call.method,
                URL(call.url, encoded=True),
                headers={"Accept-Encoding": "identity", **call.headers},
                data=call.body,
                allow_redirects=False,
            ) as response:
                data = await _body(call, response)
                return _answer(response, data, asked_at, self._clock.now())
        except aiohttp.ClientResponseError as exc:  # it carries the request's headers: not chained
            raise Unreadable(f"{_where(call)} does not speak HTTP: {self.words(exc.message)}") from None
        except (
            aiohttp.ClientError,
            OSError,
            ValueError,
            RuntimeError,
        ) as exc:  # Runtime: the session is closed
            raise unreachable(f"{call.doing} at {_where(call)}", exc) from exc

    def _refuse_plain(self, call: Call) -> None:
        if not self._plain_allowed and urlsplit(call.url).scheme != "https":
            raise plain_refused(_where(call))


def plain_refused(where: str) -> BackendUnavailable:
    """Why nothing is sent to a server without TLS."""
    return BackendUnavailable(
        f"{where} has no TLS: what is sent there could be read on the way (set up encryption in XProtect, "
        "or set milestone.allow_plain_http)",
        reason="network",
    )


async def _body(call: Call, response: aiohttp.ClientResponse) -> bytes:
    """Whole, or not at all: identity was asked for, so that nothing small unpacks to something huge."""
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        response.close()
        raise Unreadable(f"{call.doing}: {_where(call)} packs its answers, which was not asked for")
    data = bytearray()
    async for block in response.content.iter_chunked(_READ_BYTES):
        data += block
        if len(data) > call.max_bytes:
            response.close()
            raise Unreadable(f"{call.doing}: {_where(call)} answers more than {call.max_bytes} bytes")
    return bytes(data)


def _where(call: Call) -> str:
    parts = urlsplit(call.url)
    return f"{parts.scheme}://{parts.netloc}"


def _answer(
    response: aiohttp.ClientResponse, data: bytes, asked_at: datetime, answered_at: datetime
) -> Answer:
    return Answer(
        status=response.status,
        data=data,
        content_type=response.headers.get("Content-Type", "").partition(";")[0].strip().lower(),
        retry_after_s=_seconds(response.headers.get("Retry-After", "")),
        clock_skew=_skew(response.headers.get("Date", ""), asked_at, answered_at),
    )


def _seconds(value: str) -> float | None:
    """Of a Retry-After header (RFC 9110 10.2.3), at most an hour; its date form is taken as not given."""
    return min(float(value), 3600.0) if value.isascii() and value.isdigit() and len(value) < 10 else None


def _skew(date: str, asked_at: datetime, answered_at: datetime) -> timedelta | None:
    """By the middle of its whole second (RFC 9110 6.6.1)."""
    with contextlib.suppress(ValueError, OverflowError):
        moment = parsedate_to_datetime(date)
        theirs = moment.replace(tzinfo=moment.tzinfo or UTC) + timedelta(milliseconds=500)
        return skew_of(theirs, asked_at, answered_at)
    return None
