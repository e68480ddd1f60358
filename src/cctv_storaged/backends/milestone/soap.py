"""SOAP 1.1, as far as XProtect's services speak it: envelopes, answers, faults.

The body's element stands in the default namespace: with a prefix it is not understood (seen by others).
Sources: W3C SOAP 1.1 (sections 4 and 4.4), MIP sample `OauthLoginFlow`, answers recorded on 2025 R1.
"""

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit
from xml.sax.saxutils import escape

import aiohttp

from cctv_storaged.backends.milestone.answers import TokenRefused, Unreadable, plain, unreachable
from cctv_storaged.backends.milestone.xmltree import MOST_BYTES, Node, parse_xml
from cctv_storaged.errors import (
    BackendError,
    BackendThrottled,
    BackendUnavailable,
    ObjectRejected,
    Unsupported,
)

ENVELOPE = "http://schemas.xmlsoap.org/soap/envelope/"
_BLOCK = 64 * 1024
_NOT_SUPPORTED = 40000  # ErrorNumber: "Method '…' not supported" (seen on a smaller edition)
_TOKEN_TROUBLES = frozenset({1, 2})  # SubErrorNumber: "No token supplied", "Token invalid" (seen on 2025 R1)
_WITH_ENVELOPE = frozenset({200, 400, 500})  # a fault comes with 500; some hosts send it with 400


class NoSuchService(Unsupported):
    """Nothing answers under the address of the service (404)."""


class SoapFault(ObjectRejected):
    """The service refuses; its numbers where it gave any."""

    def __init__(self, message: str, *, number: int | None = None, sub_number: int | None = None) -> None:
        self.number = number
        self.sub_number = sub_number
        super().__init__(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class SoapCall:
    """One method of a service."""

    namespace: str
    method: str
    action: str  # the SOAPAction header
    fields: Sequence[tuple[str, str]] = field(repr=False)  # children, in the order that the service wants
    secrets: Sequence[str] = field(default=(), repr=False)  # tokens in there: starred in what is told


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What HTTP brought."""

    status: int
    data: bytes = field(repr=False)
    retry_after_s: float | None = None


class SoapClient:
    """Posts calls; one for the management server, one for the recording servers (their TLS differs)."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        tls: ssl.SSLContext | None = None,  # None: the session's own
        server_hostname: str | None = None,
        request_s: float = 30.0,
    ) -> None:
        self._session = session
        self._tls = tls
        self._server_hostname = server_hostname
        self._timeout = aiohttp.ClientTimeout(total=request_s)

    async def call(self, url: str, call: SoapCall, *, authorization: str | None = None) -> Node:
        """The `{method}Response` element. A fault raises TokenRefused, Unsupported or SoapFault."""
        headers = {
            "Accept-Encoding": "identity",
            "Content-Type": "text/xml; charset=utf-8",
            "SOAPAction": f'"{call.action}"',
        }
        if authorization is not None:
            headers["Authorization"] = authorization
            call = replace(call, secrets=(*call.secrets, authorization.partition(" ")[2]))
        where = f"{call.method} at {urlsplit(url).netloc}"
        try:
            answer = await self._posted(url, headers, envelope(call), where)
        except aiohttp.ClientResponseError as exc:  # it carries the request's headers: not chained
            raise Unreadable(f"{where}: this is no HTTP: {plain(exc.message, *call.secrets)}") from None
        except (aiohttp.ClientError, OSError, ValueError, RuntimeError) as exc:  # Runtime: it is closed
            raise unreachable(where, exc) from exc
        return response_of(answer, call)

    async def _posted(self, url: str, headers: Mapping[str, str], body: bytes, where: str) -> Answer:
        """No redirect is followed: the token would go along."""
        async with self._session.post(
            url,
            headers=headers,
            data=body,
            allow_redirects=False,
            ssl=self._tls if self._tls is not None else True,
            server_hostname=self._server_hostname,
            timeout=self._timeout,
        ) as response:
            data = bytearray()
            async for block in response.content.iter_chunked(_BLOCK):
                data += block
                if len(data) > MOST_BYTES:
                    response.close()
                    raise Unreadable(f"{where}: an answer of more than {MOST_BYTES} bytes")
            after = response.headers.get("Retry-After", "")
            wait_s = float(after) if after.isascii() and after.isdigit() and len(after) < 5 else None
            return Answer(status=response.status, data=bytes(data), retry_after_s=wait_s)


def envelope(call: SoapCall) -> bytes:
    """The request's document, UTF-8, with every text escaped. ObjectRejected: a character XML has not."""
    children = "".join(f"<{name}>{_escaped(text)}</{name}>" for name, text in call.fields)
    return (
        '<?xml version="1.0" encoding="utf-8"?>'
        f'<s:Envelope xmlns:s="{ENVELOPE}"><s:Body>'
        f'<{call.method} xmlns="{_escaped(call.namespace)}">{children}</{call.method}>'
        "</s:Body></s:Envelope>"
    ).encode()


def response_of(answer: Answer, call: SoapCall) -> Node:
    """The response element in an HTTP answer; raises what a fault, or a status without one, means."""
    if answer.status in _WITH_ENVELOPE and (answer.status == 200 or _is_soap(answer)):
        return _opened(parse_xml(answer.data, f"the answer to {call.method}"), call)
    raise _refusal(answer, call)


def _opened(root: Node, call: SoapCall) -> Node:
    if (root.name, root.namespace) != ("Envelope", ENVELOPE):
        raise Unreadable(
            f"the answer to {call.method} is no SOAP 1.1 envelope but {plain(root.name)!r} of "
            f"{plain(root.namespace)!r}"
        )
    body = next((node for node in root.children if (node.name, node.namespace) == ("Body", ENVELOPE)), None)
    inner = body.children[0] if body is not None and body.children else None
    if inner is None:
        raise Unreadable(f"the answer to {call.method} has an empty body")
    if (inner.name, inner.namespace) == ("Fault", ENVELOPE):
        raise _fault(inner, call)
    if (inner.name, inner.namespace) != (f"{call.method}Response", call.namespace):
        raise Unreadable(
            f"the answer to {call.method} holds {plain(inner.name)!r} of {plain(inner.namespace)!r}"
        )
    return inner


def _fault(fault: Node, call: SoapCall) -> BackendError:
    number = _number(fault, "ErrorNumber")
    sub_number = _number(fault, "SubErrorNumber")
    words = plain(fault.value("faultstring") or fault.value("faultcode") or "without a reason", *call.secrets)
    numbers = f" (error {number}, {sub_number})" if number is not None else ""
    text = f"{call.method} is refused{numbers}: {words}"
    if number == _NOT_SUPPORTED:
        return Unsupported(text)
    if sub_number in _TOKEN_TROUBLES:
        return TokenRefused(text)
    return SoapFault(text, number=number, sub_number=sub_number)


def _number(fault: Node, name: str) -> int | None:
    """Wherever below `detail` it stands: hosts wrap it differently."""
    detail = fault.child("detail")
    found = next(detail.every(name), None) if detail is not None else None
    text = found.text.strip() if found is not None else ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _refusal(answer: Answer, call: SoapCall) -> BackendError:
    """What a status says that comes without an envelope."""
    text = f"{call.method}: HTTP {answer.status}"
    if answer.status == 401:
        return TokenRefused(f"{text} (is the user known to XProtect, and the clock of this host right?)")
    if answer.status == 403:
        return BackendUnavailable(f"{text} (the user lacks a right in XProtect)", reason="auth")
    if answer.status == 404:
        return NoSuchService(f"{text}: there is no such service")
    if answer.status == 429 or (answer.status == 503 and answer.retry_after_s is not None):
        return BackendThrottled(text, retry_after_s=answer.retry_after_s)
    return BackendUnavailable(text, reason="server")


def _is_soap(answer: Answer) -> bool:
    """Not the page that a web server makes of its own error."""
    return b"Envelope" in answer.data[:1024]


def _escaped(text: str) -> str:
    """XML 1.0 has no way to write most control characters (section 2.2)."""
    if any(not _is_xml_character(char) for char in text):
        raise ObjectRejected("a text for XProtect holds a character that XML cannot carry")
    return escape(text, {'"': "&quot;", "\r": "&#13;"})


def _is_xml_character(char: str) -> bool:
    code = ord(char)
    return code in {0x9, 0xA, 0xD} or 0x20 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or code >= 0x10000
