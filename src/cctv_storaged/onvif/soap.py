"""SOAP 1.2 and 1.1: requests read from hostile bytes, answers and faults written.

ONVIF Core Specification, "Error handling"; SOAP 1.2 Part 1, 5.4. XML is read by defusedxml, which takes no
document type and so no entities, and only as much of it as a request can need.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from xml.etree.ElementTree import Element, ParseError
from xml.sax.saxutils import escape, quoteattr

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from cctv_storaged.clock import EPOCH
from cctv_storaged.onvif.auth import UsernameToken

MOST_BYTES = 64 * 1024
MOST_ELEMENTS = 1000
LONGEST_VALUE = 4096

ENVELOPES = {
    "http://www.w3.org/2003/05/soap-envelope": "1.2",
    "http://schemas.xmlsoap.org/soap/envelope/": "1.1",
}
_ENVELOPE_OF = {version: namespace for namespace, version in ENVELOPES.items()}
NAMESPACES: Mapping[str, str] = {
    "tds": "http://www.onvif.org/ver10/device/wsdl",
    "trt": "http://www.onvif.org/ver10/media/wsdl",
    "trc": "http://www.onvif.org/ver10/recording/wsdl",
    "tse": "http://www.onvif.org/ver10/search/wsdl",
    "trp": "http://www.onvif.org/ver10/replay/wsdl",
    "tt": "http://www.onvif.org/ver10/schema",
    "wsnt": "http://docs.oasis-open.org/wsn/b-2",
    "tns1": "http://www.onvif.org/ver10/topics",
    "ter": "http://www.onvif.org/ver10/error",
}
_WSSE = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
_WSU = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd"
_DECLARED = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in NAMESPACES.items())
_LATEST = datetime(9000, 1, 1, tzinfo=UTC)
_UNPRINTABLE = re.compile("[^\\t\\n\\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_DURATION = re.compile(
    r"P(?!$)(?:(\d{1,6})D)?(?:T(?!$)(?:(\d{1,6})H)?(?:(\d{1,6})M)?(?:(\d{1,9}(?:\.\d{1,9})?)S)?)?",
    re.ASCII,
)


class SoapFault(Exception):
    """What is answered instead; `subcodes` from the outer to the inner, as in ONVIF Core."""

    def __init__(self, reason: str, *subcodes: str, receiver: bool = False) -> None:
        self.reason = reason
        self.subcodes = subcodes or ("ter:WellFormed",)
        self.receiver = receiver
        super().__init__(reason)


def invalid(reason: str, *subcodes: str) -> SoapFault:
    """A value that is not good."""
    return SoapFault(reason, "ter:InvalidArgVal", *subcodes)


@dataclass(frozen=True, slots=True)
class Request:
    """One call."""

    version: str  # of SOAP
    service: str  # our prefix of the operation's namespace; "" for one that is not known
    operation: str
    body: Element  # the operation's own element
    token: UsernameToken | None


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where this device is, as the caller reaches it."""

    http: str
    rtsp: str


Call = Callable[[Element, Addresses], Awaitable[str]]
"""An operation: what was asked, and where we are → the children of the response element."""
Operations = Mapping[str, Call]


def read_request(data: bytes) -> Request:
    """Raises SoapFault."""
    if len(data) > MOST_BYTES or data.count(b"<") > 2 * MOST_ELEMENTS:
        raise SoapFault(f"the request is larger than {MOST_BYTES} bytes or {MOST_ELEMENTS} elements")
    try:
        root = fromstring(data, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as exc:
        raise SoapFault("the request is not XML that is read here") from exc
    namespace, _, name = root.tag.removeprefix("{").partition("}")
    version = ENVELOPES.get(namespace)
    if version is None or name != "Envelope":
        raise SoapFault("the request is no SOAP envelope")
    body = root.find(f"{{{namespace}}}Body")
    operation = next(iter(body), None) if body is not None else None
    if operation is None:
        raise SoapFault("the envelope has no body with an operation")
    uri, _, called = operation.tag.removeprefix("{").partition("}")
    service = next((prefix for prefix, known in NAMESPACES.items() if known == uri), "")
    token = _token_of(root.find(f"{{{namespace}}}Header"))
    return Request(version, service, called, operation, token)


def _token_of(header: Element | None) -> UsernameToken | None:
    found = None if header is None else header.find(f"{{{_WSSE}}}Security/{{{_WSSE}}}UsernameToken")
    if found is None:
        return None
    password = found.find(f"{{{_WSSE}}}Password")
    is_digest = password is not None and str(password.get("Type", "")).endswith("#PasswordDigest")
    return UsernameToken(
        username=_text_of(found.find(f"{{{_WSSE}}}Username")),
        digest=_text_of(password) if is_digest else "",
        nonce=_text_of(found.find(f"{{{_WSSE}}}Nonce")),
        created=_text_of(found.find(f"{{{_WSU}}}Created")),
    )


# Values of a request


def _text_of(element: Element | None) -> str:
    text = "" if element is None else (element.text or "").strip()
    if len(text) > LONGEST_VALUE:
        raise invalid(f"a value is longer than {LONGEST_VALUE} characters")
    return text


def _local(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def child(body: Element, *path: str) -> Element | None:
    """The first below, by local names: clients differ in namespaces."""
    here: Element | None = body
    for name in path:
        here = None if here is None else next((each for each in here if _local(each) == name), None)
    return here


def children(body: Element | None, name: str) -> tuple[Element, ...]:
    """All of that name, by local names."""
    return () if body is None else tuple(each for each in body if _local(each) == name)


def value(body: Element, *path: str) -> str:
    """Its text; empty where it is not there."""
    return _text_of(child(body, *path))


def values(body: Element | None, name: str) -> tuple[str, ...]:
    """The texts of all children of that name."""
    return tuple(map(_text_of, children(body, name)))


def number(body: Element, name: str, default: int, most: int) -> int:
    """A count from 0 to `most`; larger ones are taken down to it, as ONVIF wants."""
    text = value(body, name)
    if not text:
        return default
    try:
        return max(0, min(most, int(text)))
    except ValueError as exc:
        raise invalid(f"{name} is no number") from exc


def moment(body: Element, name: str) -> datetime | None:
    """xs:dateTime as UTC, within the calendar; None where it is not there."""
    text = value(body, name)
    if not text:
        return None
    try:
        read = datetime.fromisoformat(text)
        aware = read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)
    except (ValueError, OverflowError) as exc:
        raise invalid(f"{name} is no xs:dateTime") from exc
    return min(max(aware, EPOCH), _LATEST)


def duration(body: Element, name: str, default: timedelta, most: timedelta) -> timedelta:
    """xs:duration of days, hours, minutes and seconds, at most so long."""
    text = value(body, name)
    if not text:
        return default
    found = _DURATION.fullmatch(text)
    if found is None:
        raise invalid(f"{name} is no xs:duration of days, hours, minutes and seconds")
    days, hours, minutes, seconds = (float(part or 0) for part in found.groups())
    length_s = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    return timedelta(seconds=min(length_s, most.total_seconds()))


# Answers


def tag(name: str, *content: str, **attributes: str) -> str:
    """An element around XML that is there already."""
    written = "".join(f" {key}={quoteattr(value)}" for key, value in attributes.items())
    inside = "".join(content)
    return f"<{name}{written}>{inside}</{name}>" if inside else f"<{name}{written}/>"


def text(name: str, content: object, **attributes: str) -> str:
    """An element with text, or with `true` and `false`."""
    shown = str(content).lower() if isinstance(content, bool) else str(content)
    return tag(name, escape(_printable(shown)), **attributes)


def each(made: Iterable[str]) -> str:
    """One after the other."""
    return "".join(made)


def response(request: Request, content: str) -> bytes:
    """The answer to a call."""
    return _envelope(request.version, tag(f"{request.service}:{request.operation}Response", content))


def fault(version: str, error: SoapFault) -> bytes:
    """A fault in the words of the version that was spoken."""
    reason = escape(_printable(error.reason))
    if version == "1.1":
        side = "Server" if error.receiver else "Client"
        code = tag("faultcode", f"s:{side}") + tag("faultstring", reason)
        return _envelope(version, tag("s:Fault", code, tag("detail", text("ter:Code", error.subcodes[-1]))))
    inner = ""
    for subcode in reversed(error.subcodes):
        inner = tag("s:Subcode", text("s:Value", subcode), inner)
    side = "Receiver" if error.receiver else "Sender"
    code = tag("s:Code", text("s:Value", f"s:{side}"), inner)
    told = tag("s:Reason", f'<s:Text xml:lang="en">{reason}</s:Text>')
    return _envelope(version, tag("s:Fault", code, told))


def content_type(version: str) -> str:
    return "text/xml" if version == "1.1" else "application/soap+xml"


def _envelope(version: str, body: str) -> bytes:
    namespace = _ENVELOPE_OF[version]
    head = f'<?xml version="1.0" encoding="UTF-8"?>\n<s:Envelope xmlns:s="{namespace}" {_DECLARED}>'
    return f"{head}<s:Body>{body}</s:Body></s:Envelope>".encode()


def _printable(content: str) -> str:
    """Without what XML 1.0 cannot hold; a camera's name may be any bytes."""
    return _UNPRINTABLE.sub("?", content)
