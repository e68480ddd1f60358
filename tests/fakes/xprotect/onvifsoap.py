"""SOAP 1.2 calls to an ONVIF device, authenticated by WS-UsernameToken or HTTP Digest."""

import base64
import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal
from urllib.parse import urlsplit
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape

import aiohttp
from defusedxml import ElementTree

from tests.fakes.xprotect.digest import DigestAuth

NAMES: dict[str, str] = {
    "s": "http://www.w3.org/2003/05/soap-envelope",
    "tt": "http://www.onvif.org/ver10/schema",
    "tds": "http://www.onvif.org/ver10/device/wsdl",
    "trt": "http://www.onvif.org/ver10/media/wsdl",
    "tmd": "http://www.onvif.org/ver10/deviceIO/wsdl",
    "tse": "http://www.onvif.org/ver10/search/wsdl",
    "trc": "http://www.onvif.org/ver10/recording/wsdl",
    "trp": "http://www.onvif.org/ver10/replay/wsdl",
    "tns1": "http://www.onvif.org/ver10/topics",
    "wsnt": "http://docs.oasis-open.org/wsn/b-2",
}
_WSS = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
_WSU = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd"
_TOKEN = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-username-token-profile-1.0"
_MESSAGE = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-soap-message-security-1.0"


class DeviceRefused(Exception):
    """The device answered a fault, or none that is ONVIF."""


@dataclass(slots=True)
class OnvifDevice:
    """One device for one user."""

    http: aiohttp.ClientSession
    address: str
    """Of its device service."""
    user: str
    password: str = field(repr=False)
    kind: Literal["wsse", "digest"] = "wsse"
    services: dict[str, str] = field(default_factory=dict)
    """Addresses by prefix, as `GetServices` told them."""
    asked: list[str] = field(default_factory=list)
    _digest: DigestAuth = field(init=False)

    def __post_init__(self) -> None:
        self._digest = DigestAuth(self.user, self.password)

    async def call(self, prefix: str, method: str, inner: str = "") -> Element:
        """The element `…Response` of an answer."""
        self.asked.append(method)
        url = self.services.get(prefix) or (self.address if prefix == "tds" else "")
        if not url:
            raise DeviceRefused(f"the device offers no service {NAMES[prefix]}")
        status, body = await self._post(url, prefix, method, inner)
        root = _parsed(body, method)
        answer = root.find(f"s:Body/{prefix}:{method}Response", NAMES)
        if status != 200 or answer is None:
            reason = root.findtext("s:Body/s:Fault/s:Reason/s:Text", "no SOAP fault", NAMES)
            raise DeviceRefused(f"{method} answers {status}: {reason}")
        return answer

    async def _post(self, url: str, prefix: str, method: str, inner: str) -> tuple[int, bytes]:
        document = self._envelope(f"<{prefix}:{method}>{inner}</{prefix}:{method}>").encode()
        kind = f'application/soap+xml; charset=utf-8; action="{NAMES[prefix]}/{method}"'
        path = urlsplit(url).path or "/"
        for _ in range(2):
            headers = {"Content-Type": kind} | self._digest.header("POST", path)
            async with self.http.post(url, data=document, headers=headers) as answer:
                status, body = answer.status, await answer.read()
                challenges = answer.headers.getall("WWW-Authenticate", [])
            if status != 401 or self.kind != "digest" or not self._digest.challenged(challenges):
                break
        return status, body

    def _envelope(self, inner: str) -> str:
        names = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in NAMES.items())
        header = f"<s:Header>{self._security()}</s:Header>" if self.kind == "wsse" and self.user else ""
        return (
            f'<?xml version="1.0" encoding="UTF-8"?><s:Envelope {names}>{header}'
            f"<s:Body>{inner}</s:Body></s:Envelope>"
        )

    def _security(self) -> str:
        """WS-Security UsernameToken Profile 1.0: Base64(SHA-1(nonce + created + password))."""
        nonce, created = secrets.token_bytes(16), f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"
        digest = hashlib.sha1(nonce + created.encode() + self.password.encode()).digest()
        password, once = base64.b64encode(digest).decode(), base64.b64encode(nonce).decode()
        return (
            f'<wsse:Security s:mustUnderstand="1" xmlns:wsse="{_WSS}" xmlns:wsu="{_WSU}"><wsse:UsernameToken>'
            f"<wsse:Username>{escape(self.user)}</wsse:Username>"
            f'<wsse:Password Type="{_TOKEN}#PasswordDigest">{password}</wsse:Password>'
            f'<wsse:Nonce EncodingType="{_MESSAGE}#Base64Binary">{once}</wsse:Nonce>'
            f"<wsu:Created>{created}</wsu:Created></wsse:UsernameToken></wsse:Security>"
        )


def _parsed(body: bytes, method: str) -> Element:
    try:
        root: Element = ElementTree.fromstring(body)
    except ElementTree.ParseError as exc:
        raise DeviceRefused(f"{method} answers no XML: {exc}") from None
    return root
