"""One signed S3 request over the wire: what both clients' hot paths share.

It takes what a client library has built (URL, headers, body) and gives back the bare answer. The library
keeps what is its own: how requests are formed, what answers mean, where credentials come from.
"""

import hashlib
import os
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult

from cctv_storaged.backends.body import Body
from cctv_storaged.backends.sigv4 import EMPTY_SHA256, Credentials, Signer, ToSign
from cctv_storaged.backends.wire import Answer, Timeouts, Wire

# Signed by nobody: proxies change or drop the first three, the others belong to the wire.
_UNSIGNED = frozenset({"user-agent", "expect", "connection", "content-length", "transfer-encoding"})
_DROPPED = frozenset({"expect", "connection", "content-length", "transfer-encoding"})


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Request:
    """A request as a client library built it, before its signature."""

    method: str
    url: SplitResult
    region: str
    headers: Mapping[str, str]
    body: Body | bytes | None


def tls_context(ca_file: str | None, verify: bool) -> ssl.SSLContext:
    """Trust in the host's CAs or in `ca_file` alone; none where `verify` is off."""
    context = ssl.create_default_context(cafile=ca_file)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def ca_bundle(ca_file: str | None) -> str | bool:
    """The same trust as a file, for libraries that take no context; True where the host has no such file."""
    if ca_file is not None:
        return ca_file
    known = (ssl.get_default_verify_paths().cafile, "/etc/ssl/certs/ca-certificates.crt")
    return next((path for path in known if path is not None and os.path.exists(path)), True)


class Requester:
    """Signs and sends; keeps connections per origin and keys per region."""

    def __init__(self, *, timeouts: Timeouts, connections: int, tls: ssl.SSLContext) -> None:
        self._timeouts = timeouts
        self._connections = connections
        self._tls = tls
        self._lock = threading.Lock()
        self._wires: dict[str, Wire] = {}
        self._signers: dict[str, Signer] = {}

    def send(self, request: S3Request, credentials: Credentials) -> Answer:
        """The answer whatever its status. BackendUnavailable(network) where there is none."""
        url, body = request.url, request.body
        target = f"{url.path}?{url.query}" if url.query else url.path or "/"
        deadline = body.deadline if isinstance(body, Body) else None
        headers = self.signed_headers(request, credentials)
        return self._wire(url).exchange(request.method, target, headers, body, deadline)

    def close(self) -> None:
        with self._lock:
            wires = list(self._wires.values())
        for wire in wires:
            wire.close()

    def signed_headers(self, request: S3Request, credentials: Credentials) -> dict[str, str]:
        """What to send with the request, wherever it is sent from."""
        given = {name.lower(): value for name, value in request.headers.items()}
        signed = {name: value for name, value in given.items() if name not in _UNSIGNED}
        signed["host"] = request.url.netloc
        headers = self._signer(request.region).sign(
            ToSign(
                method=request.method,
                path=request.url.path or "/",
                query=request.url.query,
                headers=signed,
                payload_sha256=_payload_sha256(request.body),
            ),
            credentials,
        )
        for name in _UNSIGNED - _DROPPED:
            if name in given:
                headers[name] = given[name]
        return headers

    def _wire(self, url: SplitResult) -> Wire:
        origin = f"{url.scheme}://{url.netloc}"
        if (wire := self._wires.get(origin)) is not None:
            return wire
        with self._lock:
            wire = Wire(origin, timeouts=self._timeouts, keep=self._connections, tls=self._tls)
            return self._wires.setdefault(origin, wire)

    def _signer(self, region: str) -> Signer:
        if (signer := self._signers.get(region)) is None:
            signer = self._signers.setdefault(region, Signer(region))
        return signer


def _payload_sha256(body: Body | bytes | None) -> str:
    if isinstance(body, Body):
        return body.stretch.sha256.hex()
    return hashlib.sha256(body).hexdigest() if body else EMPTY_SHA256
