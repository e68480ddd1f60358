"""Exceptions become problems (RFC 9457) here, and nowhere else.

What an exception says goes out only where its words are meant for a caller; disks, servers and our own
mistakes are told in fixed words, and in full in the log.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from aiohttp import web

from cctv_storaged.errors import (
    BackendError,
    BackendUnavailable,
    CatalogUnavailable,
    Conflict,
    Fault,
    FootageAway,
    JournalError,
    JournalFull,
    LedgerError,
    MediaError,
    MediaToolMissing,
    MediaUnusable,
    NoPlace,
    NoRoom,
    NotFound,
    NotHeld,
    QueueFull,
    RequestError,
    SourceChanged,
    StoreNotNamed,
    Unprocessable,
    WrongPlace,
)

MEDIA_TYPE = "application/problem+json"
URN = "urn:cctv-storaged:problem:"
"""The stable part of every problem's `type`; what follows is the kind's word."""
INSTANCE = "urn:cctv-storaged:request:"
"""With the X-Request-Id behind it: this very occurrence (RFC 9457, 3.1.5)."""
LONGEST_TEXT = 500
MOST_FAULTS = 20
"""A body of nonsense could have thousands."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A sort of problem: what programs tell it by, and its title for people."""

    status: int
    word: str
    title: str


BAD_REQUEST = Kind(400, "bad-request", "The request cannot be understood")
UNAUTHORIZED = Kind(401, "unauthorized", "A token is needed")
FORBIDDEN = Kind(403, "forbidden", "This is not allowed")
NOT_FOUND = Kind(404, "not-found", "There is no such thing here")
METHOD_NOT_ALLOWED = Kind(405, "method-not-allowed", "The resource has no such method")
TIMEOUT = Kind(408, "timeout", "The request took too long to arrive")
CONFLICT = Kind(409, "conflict", "The request contradicts what is already so")
PRECONDITION_FAILED = Kind(412, "precondition-failed", "The content is another one")
TOO_LARGE = Kind(413, "too-large", "The body is too large")
UNSUPPORTED_TYPE = Kind(415, "unsupported-media-type", "The body's type is not understood")
RANGE_NOT_SATISFIABLE = Kind(416, "range-not-satisfiable", "The content has no such range")
EXPECTATION_FAILED = Kind(417, "expectation-failed", "The expectation cannot be met")
MISDIRECTED = Kind(421, "misdirected", "The request was meant for another host")
GONE = Kind(410, "gone", "It has expired")
UNPROCESSABLE = Kind(422, "unprocessable", "Some values cannot be used")
TOO_MANY = Kind(429, "too-many-requests", "Too many requests at the same time")
INTERNAL = Kind(500, "internal", "Something went wrong inside")
BAD_COPY = Kind(502, "bad-copy", "No good copy could be read")
MEDIA_FAILED = Kind(503, "media-failed", "It could not be made now")
UNPLAYABLE = Kind(404, "unplayable", "There is footage, and nothing in it can be shown")
JOURNAL_FULL = Kind(503, "journal-full", "The journal's disk is full")
JOURNAL_BROKEN = Kind(503, "journal-broken", "The journal cannot be used")
CATALOG_AWAY = Kind(503, "catalog-away", "The catalog is away")
BACKEND_AWAY = Kind(503, "backend-away", "The backend is away")
FFMPEG_MISSING = Kind(503, "ffmpeg-missing", "ffmpeg cannot be started")
NO_ROOM = Kind(507, "no-room", "A disk has too little room")
SOURCE_CHANGED = Kind(503, "source-changed", "The file changed while it was read")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One answer that is no success. `faults`: where, in the caller's terms, and what is wrong there."""

    kind: Kind
    detail: str
    faults: tuple[Fault, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)


class Refusal(RequestError):
    """A request that the API itself turns away."""

    def __init__(self, kind: Kind, detail: str, headers: Mapping[str, str] | None = None) -> None:
        self.problem = Problem(kind=kind, detail=detail, headers=headers or {})
        super().__init__(detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    error: type[Exception]
    kind: Kind
    detail: str | None = None  # None: what the exception says is fit for a caller
    retry_after_s: int | None = None


_TABLE: Sequence[_Row] = (
    _Row(error=NotFound, kind=NOT_FOUND),
    _Row(error=Conflict, kind=CONFLICT),
    _Row(error=QueueFull, kind=TOO_MANY, retry_after_s=60),
    _Row(error=NoRoom, kind=NO_ROOM),
    _Row(
        error=JournalFull,
        kind=JOURNAL_FULL,
        detail="nothing was changed; try again once there is room",
        retry_after_s=30,
    ),
    _Row(
        error=JournalError,
        kind=JOURNAL_BROKEN,
        detail="the daemon restarts and checks it; nothing was confirmed",
        retry_after_s=10,
    ),
    _Row(
        error=CatalogUnavailable,
        kind=CATALOG_AWAY,
        detail="the fleet cannot be asked now; scope=host can",
        retry_after_s=30,
    ),
    _Row(
        error=WrongPlace,
        kind=BACKEND_AWAY,
        detail="the disk or bucket that holds the bytes is not the right one (alarm wrong_disk): "
        "GET /places says which, and what to do",
        retry_after_s=30,
    ),
    _Row(error=NoPlace, kind=NO_ROOM),
    _Row(error=FootageAway, kind=BACKEND_AWAY, retry_after_s=30),
    _Row(error=StoreNotNamed, kind=BACKEND_AWAY, retry_after_s=3600),
    _Row(error=NotHeld, kind=GONE),
    _Row(
        error=BackendUnavailable,
        kind=BACKEND_AWAY,
        detail="the backend that holds the bytes does not answer",
        retry_after_s=30,
    ),
    _Row(
        error=MediaToolMissing,
        kind=FFMPEG_MISSING,
        detail="pictures and clips need ffmpeg, which is not installed on this host",
        retry_after_s=60,
    ),
    _Row(error=MediaUnusable, kind=UNPLAYABLE),
    _Row(error=LedgerError, kind=BAD_COPY, detail="an archive of the ledger cannot be read: verify --ledger"),
    _Row(
        error=MediaError,
        kind=MEDIA_FAILED,
        detail="it was begun and did not become whole; the log says why",
        retry_after_s=10,
    ),
    _Row(error=BackendError, kind=BAD_COPY, detail="the backend did not give the bytes it should hold"),
    _Row(
        error=SourceChanged,
        kind=SOURCE_CHANGED,
        detail="the source changed while it was read; a copy may serve the next time",
        retry_after_s=5,
    ),
)

_AIOHTTPS = {
    404: (NOT_FOUND, "no resource has this path; an id in a path is a UUID, as GET /cameras lists them"),
    413: (TOO_LARGE, "bodies have at most 65536 bytes"),
    417: (EXPECTATION_FAILED, "100-continue is the only expectation that can be met"),
}
"""aiohttp's own refusals by status, besides 405."""


def problem_of(error: Exception) -> Problem:
    """What a caller is told of an exception; INTERNAL for one that nobody meant to raise."""
    match error:
        case Refusal():
            return error.problem
        case Unprocessable():
            return Problem(kind=UNPROCESSABLE, detail=str(error), faults=error.faults)
        case web.HTTPException():
            return _of_aiohttp(error)
    for row in _TABLE:
        if isinstance(error, row.error):
            headers = {} if row.retry_after_s is None else {"Retry-After": str(row.retry_after_s)}
            return Problem(kind=row.kind, detail=row.detail or str(error), headers=headers)
    return Problem(kind=INTERNAL, detail="the log says more under this X-Request-Id")


def rendered(problem: Problem, request_id: str | None = None) -> bytes:
    """The problem's JSON document."""
    document: dict[str, object] = {
        "type": URN + problem.kind.word,
        "title": problem.kind.title,
        "status": problem.kind.status,
        "detail": fit(problem.detail),
    }
    if request_id is not None:
        document["instance"] = INSTANCE + request_id
    if problem.faults:
        document["errors"] = [
            {"field": fit(fault.where), "message": fit(fault.message)}
            for fault in problem.faults[:MOST_FAULTS]
        ]
    return json.dumps(document, ensure_ascii=False).encode()


def response_to(problem: Problem, request_id: str | None = None) -> web.Response:
    """The answer that tells the problem."""
    return web.Response(
        status=problem.kind.status,
        body=rendered(problem, request_id),
        content_type=MEDIA_TYPE,
        headers={"Cache-Control": "no-store", **problem.headers},
    )


def plain(text: str) -> str:
    """Text that any JSON document can hold: file names may carry lone surrogates."""
    return text.encode(errors="backslashreplace").decode()


def fit(text: str) -> str:
    """Plain text of a bearable length."""
    clean = plain(text)
    return clean if len(clean) <= LONGEST_TEXT else clean[: LONGEST_TEXT - 1] + "…"


def _of_aiohttp(error: web.HTTPException) -> Problem:
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return Problem(kind=METHOD_NOT_ALLOWED, detail=f"allowed here: {allowed}", headers={"Allow": allowed})
    kind, detail = _AIOHTTPS.get(error.status, (BAD_REQUEST, "the request was not understood"))
    return Problem(kind=kind, detail=detail)
