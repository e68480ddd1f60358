"""What is said to the ImageServer, and what its XML answers mean. No I/O.

One document is one line, ended by CR LF CR LF. Sources: MIP SDK, "ImageServer request/response"; vendor
samples `TcpVideoViewer` and `ImageServerConnection.cs`; `clientcapabilities` as seen on 2025 R3.
"""

from dataclasses import dataclass
from uuid import UUID
from xml.sax.saxutils import escape

from cctv_storaged.backends.milestone.answers import Unreadable, plain
from cctv_storaged.backends.milestone.xmltree import parse_xml

_END = "\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A `methodresponse`."""

    request_id: int | None
    connected: bool
    reason: str  # the server's words; "Success" where it was one


def connect(number: int, camera: UUID, stream: UUID | None, token: str) -> bytes:
    """Pictures as they were recorded, one to a part. User and password must be there and mean nothing."""
    return _call(
        number,
        "connect",
        "<username>token</username><password>token</password>"
        f"<cameraid>{camera}</cameraid><alwaysstdjpeg>no</alwaysstdjpeg>"
        + _parameters(camera, stream, token)
        + "<clientcapabilities><privacymask>no</privacymask><multipartdata>yes</multipartdata>"
        "<datarestriction>no</datarestriction></clientcapabilities>",
    )


def connect_update(number: int, camera: UUID, stream: UUID | None, token: str) -> bytes:
    """A fresh token for the connection that is there."""
    return _call(number, "connectupdate", _parameters(camera, stream, token))


def goto(number: int, time_ms: int) -> bytes:
    """The group of pictures that the time lies in; in a gap, the last one before it."""
    return _call(number, "goto", f"<time>{time_ms}</time>")


def step(number: int, method: str) -> bytes:
    """`next` or `begin`."""
    return _call(number, method, "")


def reply_of(document: bytes, token: str) -> Reply | None:
    """None: some other document, such as the status of a live stream."""
    root = parse_xml(document, "the recorder's answer")
    if root.name != "methodresponse":
        return None
    number = root.value("requestid")
    if number and not (number.isascii() and number.isdigit() and len(number) < 10):
        raise Unreadable(f"the recorder answers request {plain(number)[:40]!r}")
    return Reply(
        request_id=int(number) if number else None,
        connected=root.value("connected").lower() == "yes",
        reason=plain(root.value("errorreason"), token),
    )


def _call(number: int, method: str, inner: str) -> bytes:
    text = (
        '<?xml version="1.0" encoding="UTF-8"?><methodcall>'
        f"<requestid>{number}</requestid><methodname>{method}</methodname>{inner}</methodcall>"
    )
    if "\r" in text or "\n" in text:
        raise Unreadable("XProtect gave a token with a line break, which the ImageServer cannot be told")
    return (text + _END).encode()


def _parameters(camera: UUID, stream: UUID | None, token: str) -> str:
    chosen = f"&streamid={stream}" if stream is not None else ""
    return f"<connectparam>{escape(f'id={camera}{chosen}&connectiontoken={token}')}</connectparam>"
