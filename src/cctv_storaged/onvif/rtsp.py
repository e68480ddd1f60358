"""RTSP 1.0 messages: read from hostile bytes, written; times of a Range (RFC 2326; ONVIF Streaming)."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

MOST_LINE_BYTES = 4096
MOST_HEADERS = 64
MOST_HEAD_BYTES = 16 * 1024
MOST_BODY_BYTES = 4096
COMPLETION_S = 15.0
"""A request that was begun is here by then."""

REASONS: Mapping[int, str] = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Request Entity Too Large",
    453: "Not Enough Bandwidth",
    454: "Session Not Found",
    455: "Method Not Valid in This State",
    456: "Header Field Not Valid for Resource",
    457: "Invalid Range",
    459: "Aggregate Operation Not Allowed",
    461: "Unsupported Transport",
    503: "Service Unavailable",
    505: "RTSP Version Not Supported",
    551: "Option not supported",
}
_REQUEST = re.compile(r"([A-Z_]{1,32}) (\S{1,2048}) RTSP/(\d{1,2}\.\d{1,2})", re.ASCII)
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64})[ \t]*:(.*)")
_CLOCK = r"(\d{8})T(\d{6})(?:\.(\d{1,9}))?Z"
_CLOCKS = re.compile(rf"clock\s*=\s*{_CLOCK}\s*-\s*(?:{_CLOCK})?", re.ASCII)
_NPT = re.compile(r"npt\s*=\s*(now|\d{1,9}(?:\.\d{1,9})?)?\s*-\s*(\d{1,9}(?:\.\d{1,9})?)?", re.ASCII)
_INTERLEAVED = re.compile(r"interleaved\s*=\s*(\d{1,3})(?:\s*-\s*(\d{1,3}))?", re.ASCII)


class Refusal(Exception):
    """What is answered instead of OK; `last`: nothing more is read from this client."""

    def __init__(self, status: int, headers: Mapping[str, str] | None = None, *, last: bool = False) -> None:
        self.status = status
        self.headers = dict(headers or {})
        self.last = last
        super().__init__(f"{status} {REASONS[status]}")


@dataclass(frozen=True, slots=True)
class Request:
    """One request; header names in lower case."""

    method: str
    uri: str
    headers: Mapping[str, str]

    @property
    def path(self) -> str:
        """Of an absolute address, or as it is."""
        if not self.uri.lower().startswith("rtsp://"):
            return self.uri
        try:
            return urlsplit(self.uri).path
        except ValueError:
            return ""

    @property
    def cseq(self) -> int:
        """Its number; it must have one."""
        text = self.headers.get("cseq", "")
        if not re.fullmatch(r"[0-9]{1,10}", text):
            raise Refusal(400)
        return int(text)


async def read_request(reader: asyncio.StreamReader, idle_s: float) -> Request | None:
    """The next one; None where the client has left.

    Raises TimeoutError where it sends nothing for `idle_s`, and Refusal for what is no request, or too long.
    What it sends besides (RTCP within the connection) is passed over, and shows that it lives.
    """
    while True:
        async with asyncio.timeout(idle_s):
            first = await reader.read(1)
        if not first:
            return None
        try:
            async with asyncio.timeout(COMPLETION_S):
                if first == b"$":
                    size = (await reader.readexactly(3))[1:]
                    await reader.readexactly(int.from_bytes(size, "big"))
                elif first not in b"\r\n":
                    return await _rest(reader, first)
        except TimeoutError as exc:
            raise Refusal(400, last=True) from exc
        except asyncio.IncompleteReadError:
            return None


async def _rest(reader: asyncio.StreamReader, first: bytes) -> Request:
    found = _REQUEST.fullmatch(await _line(reader, first))
    if found is None:
        raise Refusal(400, last=True)
    if found[3] != "1.0":
        raise Refusal(505, last=True)
    headers = await _headers(reader)
    size = headers.get("content-length", "0")
    if not re.fullmatch(r"[0-9]{1,9}", size):
        raise Refusal(400, last=True)
    if int(size) > MOST_BODY_BYTES:
        raise Refusal(413, last=True)
    await reader.readexactly(int(size))  # parameters asked for: there are none
    return Request(found[1], found[2], headers)


async def _headers(reader: asyncio.StreamReader) -> dict[str, str]:
    headers: dict[str, str] = {}
    lines = read_bytes = 0
    while line := await _line(reader):
        lines, read_bytes = lines + 1, read_bytes + len(line)
        found = _HEADER.fullmatch(line)
        if found is None or lines > MOST_HEADERS or read_bytes > MOST_HEAD_BYTES:
            raise Refusal(400, last=True)
        name = found[1].lower()
        if name in headers and name in ("cseq", "content-length", "session", "authorization", "range"):
            raise Refusal(400, last=True)
        headers[name] = f"{headers[name]}, {found[2].strip()}" if name in headers else found[2].strip()
    return headers


async def _line(reader: asyncio.StreamReader, begun: bytes = b"") -> str:
    """Without its end. The stream's own limit is MOST_LINE_BYTES."""
    try:
        line = begun + await reader.readuntil(b"\n")
    except asyncio.LimitOverrunError as exc:
        raise Refusal(400, last=True) from exc
    try:
        return line.rstrip(b"\r\n").decode()
    except UnicodeDecodeError as exc:
        raise Refusal(400, last=True) from exc


def response(status: int, cseq: int | None, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    """An answer as it goes over the wire."""
    lines = [f"RTSP/1.0 {status} {REASONS[status]}"]
    lines += [f"CSeq: {cseq}"] if cseq is not None else []
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += [f"Content-Length: {len(body)}"] if body else []
    return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass(frozen=True, slots=True)
class Range:
    """What part of a recording is asked for. `start` None: from where it stands, or its beginning."""

    start: datetime | timedelta | None = None  # a timedelta counts from the beginning of the recording
    end: datetime | timedelta | None = None
    now: bool = False


def read_range(text: str | None) -> Range:
    """`clock=` and, for players that know nothing else, `npt=`. Raises Refusal."""
    if text is None:
        return Range()
    asked = text.partition(";")[0].strip()
    if (found := _CLOCKS.fullmatch(asked)) is not None:
        start, end = _moment(*found.groups()[:3]), _moment(*found.groups()[3:])
        if end is not None and start is not None and end <= start:
            raise Refusal(457)
        return Range(start, end)
    if (found := _NPT.fullmatch(asked)) is not None:
        if found[1] == "now":
            return Range(now=True)
        since = timedelta(seconds=float(found[1] or 0))
        until = timedelta(seconds=float(found[2])) if found[2] else None
        if until is not None and until <= since:
            raise Refusal(457)
        return Range(since, until)
    raise Refusal(457)


def _moment(date: str | None, clock: str | None, fraction: str | None) -> datetime | None:
    if date is None or clock is None:
        return None
    microseconds = (fraction or "0").ljust(6, "0")[:6]
    try:
        read = datetime.strptime(f"{date}{clock}{microseconds}", "%Y%m%d%H%M%S%f").replace(tzinfo=UTC)
    except ValueError as exc:
        raise Refusal(457) from exc
    if not 1970 <= read.year < 8000:
        raise Refusal(457)
    return read


def clock_of(moment: datetime) -> str:
    """A utc-time of RFC 2326, 3.7."""
    digits = f"{moment.microsecond:06d}"
    return f"{moment:%Y%m%dT%H%M%S}.{digits if moment.microsecond % 1000 else digits[:3]}Z"


def channels_of(transport: str) -> tuple[int, int] | None:
    """The channels for RTP and RTCP of the first transport that can be served; None for none of them."""
    for each in transport.split(",")[:8]:
        parts = [part.strip() for part in each.split(";")]
        if parts[0].upper() != "RTP/AVP/TCP" or "multicast" in parts:
            continue
        found = next((read for part in parts if (read := _INTERLEAVED.fullmatch(part))), None)
        first = int(found[1]) if found is not None else 0
        second = int(found[2]) if found is not None and found[2] else first + 1
        if first != second and max(first, second) < 256:
            return first, second
    return None
