"""SOAP 1.1, as far as XProtect's services speak it: envelopes, answers, faults.

The body's element stands in the default namespace: a prefix is not understood (MIP sample notes).
"""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp

from cctv_storaged.backends.milestone.xmltree import Node
from cctv_storaged.errors import ObjectRejected, Unsupported


class NoSuchService(Unsupported):
    """Nothing answers under the address of the service (404)."""


class SoapFault(ObjectRejected):
    """The service refuses; its numbers where it gave any."""

    def __init__(self, message: str, *, number: int | None = None, sub_number: int | None = None) -> None:
        self.number = number
        self.sub_number = sub_number
        super().__init__(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One method of a service."""

    namespace: str
    method: str
    action: str  # the SOAPAction header
    fields: Sequence[tuple[str, str]]  # children in the order that the service wants
    secrets: Sequence[str] = ()  # tokens among them: never repeated in an error


class SoapClient:
    """Posts calls; one for the management server, one for the recording servers (their TLS differs)."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        tls: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
        request_s: float = 30.0,
    ) -> None:
        self._session = session
        self._tls = tls
        self._server_hostname = server_hostname
        self._request_s = request_s

    async def call(self, url: str, call: Call, *, authorization: str | None = None) -> Node:
        """The `{method}Response` element. A fault raises TokenRefused, Unsupported or SoapFault."""
        raise NotImplementedError
