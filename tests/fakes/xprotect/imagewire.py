"""The ImageServer's words on the wire: calls that come, answers that go. Pure.

MIP SDK `imageserver_request_response.html` and the vendor's `ImageServerConnection.cs`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID
from xml.sax.saxutils import escape

from defusedxml import ElementTree

from tests.fakes.xprotect.navigation import Place

END = b"\r\n\r\n"
GENERIC = "application/x-genericbytedata-octet-stream"
JPEG = "image/jpeg"
_BOUNDARY = "boundary--of-simulated-recorder"


class Malformed(Exception):
    """A call that the published material does not allow."""


@dataclass(frozen=True, slots=True)
class Call:
    """One `methodcall`."""

    request_id: int
    method: str
    values: Mapping[str, str]  # of its elements, by path ("transcode/allframes")

    def number(self, name: str) -> int:
        """An element that must be a whole number."""
        try:
            return int(self.values[name])
        except (KeyError, ValueError):
            raise Malformed(
                f"{self.method}: {name} is {self.values.get(name)!r}, not a whole number"
            ) from None

    def yes(self, name: str) -> bool:
        """An element that is yes or no; no where it is left out."""
        value = self.values.get(name, "no")
        if value not in {"yes", "no"}:
            raise Malformed(f"{self.method}: {name} is {value!r}, neither yes nor no")
        return value == "yes"


@dataclass(frozen=True, slots=True)
class Connecting:
    """What `connectparam` says."""

    camera: UUID
    stream: UUID | None
    token: str


@dataclass(frozen=True, slots=True)
class Form:
    """How an image response is written."""

    header_case: Literal["published", "lower", "upper"] = "published"
    length_off_by: int = 0
    privacy_mask: bool = False


def read_call(document: bytes) -> Call:
    """One document, without the line ends that close it."""
    if b"\n" in document or b"\r" in document:
        raise Malformed("a call is one line")
    try:
        root = ElementTree.fromstring(document)
    except ElementTree.ParseError as exc:
        raise Malformed(f"not XML: {exc}") from None
    if root.tag != "methodcall":
        raise Malformed(f"<{root.tag}> is no methodcall")
    values = {}
    for element in root:
        values[element.tag] = (element.text or "").strip()
        values |= {f"{element.tag}/{inner.tag}": (inner.text or "").strip() for inner in element}
    method = values.pop("methodname", "")
    call = Call(-1, method, values)
    return Call(call.number("requestid"), method, values)


def read_connecting(call: Call) -> Connecting:
    """`id={guid}[&streamid={guid}]&connectiontoken={token}`: the token is the rest."""
    parameters, separator, token = call.values.get("connectparam", "").partition("&connectiontoken=")
    if not separator:
        raise Malformed("connectparam has no connectiontoken")
    named = dict(part.partition("=")[::2] for part in parameters.split("&"))
    try:
        stream = named.get("streamid")
        return Connecting(UUID(named["id"]), UUID(stream) if stream else None, token)
    except (KeyError, ValueError):
        raise Malformed(f"connectparam names no device: {parameters!r}") from None


def connected(call: Call, refusal: str | None) -> bytes:
    """The answer to `connect` and `connectupdate`."""
    yes, reason = ("no", refusal) if refusal else ("yes", "Success")
    return method_response(call, f"<connected>{yes}</connected><errorreason>{escape(reason)}</errorreason>")


def method_response(call: Call, inner: str) -> bytes:
    return (
        '<?xml version="1.0" encoding="UTF-8"?><methodresponse>'
        f"<requestid>{call.request_id}</requestid><methodname>{escape(call.method)}</methodname>"
        f"{inner}</methodresponse>"
    ).encode() + END


def live_package(time_ms: int, *, link_lost: bool) -> bytes:
    """The status that `live` mixes in."""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><livepackage><status><statustime>{time_ms}</statustime>'
        f'<statusitem id="5" value="{int(link_lost)}"></statusitem></status></livepackage>'
    ).encode() + END


def single(call: Call, place: Place, kind: str, body: bytes, form: Form) -> bytes:
    """An image response with one body, empty where there is none."""
    headers = {"Content-length": str(len(body) + form.length_off_by), "Content-type": kind}
    return _head(call, place, headers, form) + body + END


def multipart(call: Call, place: Place, bodies: Sequence[bytes], form: Form) -> bytes:
    """An image response with a part for each picture; its whole length is not told."""
    kind = f'multipart/related; boundary={_BOUNDARY}; type="{GENERIC}"'
    written = bytearray(_head(call, place, {"Content-type": kind}, form))
    for body in bodies:
        headers = {"Content-length": str(len(body) + form.length_off_by), "Content-type": GENERIC}
        written += f"--{_BOUNDARY}\r\n".encode() + _lines(headers, form) + b"\r\n" + body + b"\r\n"
    return bytes(written) + f"--{_BOUNDARY}--".encode() + END


def _head(call: Call, place: Place, headers: Mapping[str, str], form: Form) -> bytes:
    places = {"Prev": place.prev_ms, "Current": place.current_ms, "Next": place.next_ms}
    first = {"RequestId": str(call.request_id)} | {name: str(time_ms) for name, time_ms in places.items()}
    mask = {"PrivacyMask": "0"} if form.privacy_mask else {}
    return b"ImageResponse\r\n" + _lines({**first, **headers, **mask}, form) + b"\r\n"


def _lines(headers: Mapping[str, str], form: Form) -> bytes:
    cased = {"published": lambda name: name, "lower": str.lower, "upper": str.upper}
    spelt: Callable[[str], str] = cased[form.header_case]
    return "".join(f"{spelt(name)}: {value}\r\n" for name, value in headers.items()).encode()
