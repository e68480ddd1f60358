"""The API of a running daemon, asked by commands: one small client for all of them.

A command of its own module, `cli_NAME.py`, needs three things:

    add_api_options(parser)                      --config, --url, --token-file, --ca-file, --client-cert
    def NAME(options) -> int:
        return with_api(options, lambda api: work(api, options))
    def work(api: ApiClient, options) -> int:
        found = api.get("/holds", HoldsAnswer, {"limit": "10"})    a pydantic model, None values left out
        made = api.post("/holds", HoldAnswer, body, key=api.new_key())
        api.delete(f"/holds/{id}", {"reason": …})

`with_api` says what went wrong in one line on stderr and gives the exit code of the contract:
1 the daemon refuses (not found, conflict), 2 bad usage, settings or token, 3 it cannot be reached, or cannot
now. A work that finds something wrong returns `FOUND_WRONG` itself. Paths are those below /api/v1/storage.
"""

import argparse
import base64
import hashlib
import json
import os
import re
import secrets
import ssl
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlencode, urlsplit

import urllib3
from pydantic import BaseModel, ValidationError
from urllib3.response import BaseHTTPResponse

from cctv_storaged.config import load_by_hand
from cctv_storaged.errors import ConfigError, Fault, StoragedError
from cctv_storaged.logs.lines import one_line

PREFIX = "/api/v1/storage"
DONE, FOUND_WRONG, BAD_USAGE, OUT_OF_REACH = 0, 1, 2, 3
TOKEN_VARIABLE = "CCTV_TOKEN"
TIMEOUT_S = 60.0
MOST_TOKEN_BYTES = 4096
_BLOCK_BYTES = 64 * 1024
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_CERTIFICATE = re.compile(b"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.S)
_TOKEN = re.compile(r"[\x21-\x7e]+")

Model = TypeVar("Model", bound=BaseModel)


class ApiError(StoragedError):
    """The daemon's answer is no success, or there is none; `code` is the exit code that says so."""

    def __init__(self, message: str, code: int) -> None:
        self.code = code
        super().__init__(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiAddress:
    """Where the daemon is, and what shows that it is the one."""

    url: str  # scheme, host and port
    token: str | None = field(default=None, repr=False)
    fingerprint: str | None = None  # SHA-256 of its certificate, in hex: no other is believed then
    ca_file: str | None = None  # instead of the host's CAs
    client_cert: str | None = None  # PEM, certificate and key: what a daemon with api.tls_client_ca asks for


def add_api_options(parser: argparse.ArgumentParser) -> None:
    """The options that say which daemon is asked."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings of the daemon to ask")
    parser.add_argument("--url", metavar="URL", help="its address instead, such as https://nvr-01:8082")
    help_text = f"file with the token; else the variable {TOKEN_VARIABLE}"
    parser.add_argument("--token-file", type=Path, metavar="FILE", help=help_text)
    parser.add_argument("--ca-file", type=Path, metavar="FILE", help="CA certificates (PEM) for --url")
    help_text = "certificate and key (PEM) for a daemon that asks for one"
    parser.add_argument("--client-cert", type=Path, metavar="FILE", help=help_text)


@cache
def tell(text: str) -> None:
    """A remark beside what a command prints; each once."""
    print(f"cctv-storaged: {text}", file=sys.stderr, flush=True)


def with_api(options: argparse.Namespace, work: Callable[["ApiClient"], int]) -> int:
    """Does the work with a client of the daemon that the options name; what fails is told in one line.

    Raises ConfigError and OSError, which the command line tells as well.
    """
    address = address_of(options, os.environ)
    try:
        with closing(ApiClient(address)) as api:
            return work(api)
    except ApiError as exc:
        print(f"cctv-storaged: {one_line(str(exc))}", file=sys.stderr)
        return exc.code


def address_of(options: argparse.Namespace, environ: Mapping[str, str]) -> ApiAddress:
    """What the options and the environment say. Raises ConfigError."""
    token = _token(options.token_file, environ)
    given = getattr(options, "client_cert", None)
    client_cert = None if given is None else str(given)
    if options.url is not None:
        ca_file = None if options.ca_file is None else str(options.ca_file)
        return ApiAddress(
            url=_checked_url(options.url), token=token, ca_file=ca_file, client_cert=client_cert
        )
    api = load_by_hand(options.config, environ, tell).api
    if api.port == 0:
        raise ConfigError([Fault("api.port", "is any free one", "name the daemon's address with --url")])
    host = _EVERYWHERE.get(api.host, api.host)
    where = f"[{host}]:{api.port}" if ":" in host else f"{host}:{api.port}"
    if api.tls_cert is None:
        return ApiAddress(url=f"http://{where}", token=token)
    fingerprint = _fingerprint(Path(api.tls_cert))
    return ApiAddress(url=f"https://{where}", token=token, fingerprint=fingerprint, client_cert=client_cert)


class ApiClient:
    """Asks one daemon. Raises ApiError."""

    def __init__(self, address: ApiAddress, timeout_s: float = TIMEOUT_S) -> None:
        """`timeout_s`: how long an answer may take to come, and its parts to follow each other."""
        self._url = address.url
        self._headers = {"Accept": "application/json", "User-Agent": "cctv-storaged"}
        if address.token is not None:
            self._headers["Authorization"] = f"Bearer {address.token}"
        self._pool = _pool(address, timeout_s)

    def get(self, path: str, model: type[Model], query: Mapping[str, str | None] | None = None) -> Model:
        """What lies there."""
        return _parsed(self._asked("GET", path, query), model)

    def ready(self, model: type[Model]) -> Model:
        """/ready, whatever it says."""
        return _parsed(self._asked("GET", "/ready", None, prefix="", as_told=(503,)), model)

    def post(
        self,
        path: str,
        model: type[Model],
        body: Mapping[str, object] | None = None,
        *,
        key: str | None = None,
    ) -> Model:
        """What came of it; `key` makes a repetition safe."""
        headers = {} if key is None else {"Idempotency-Key": key}
        return _parsed(self._asked("POST", path, None, _encoded(body), headers), model)

    def patch(self, path: str, model: type[Model], body: Mapping[str, object]) -> Model:
        """What it is now."""
        return _parsed(self._asked("PATCH", path, None, _encoded(body)), model)

    def delete(self, path: str, query: Mapping[str, str | None] | None = None) -> None:
        """Done when this returns."""
        self._asked("DELETE", path, query)

    @contextmanager
    def stream(
        self, path: str, query: Mapping[str, str | None] | None = None, *, accept: str = "*/*"
    ) -> Iterator[Iterator[bytes]]:
        """The bytes of an answer that may be long, in blocks: a CSV, a file."""
        response = self._sent("GET", PREFIX + path, query, None, {"Accept": accept})
        try:
            if response.status >= 300:
                raise _refused(response.status, response.read())
            yield self._blocks(response)
        finally:
            response.close()

    @staticmethod
    def new_key() -> str:
        """An Idempotency-Key for one call and its repetitions."""
        return secrets.token_hex(16)

    def close(self) -> None:
        self._pool.clear()

    def _asked(
        self,
        method: str,
        path: str,
        query: Mapping[str, str | None] | None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        prefix: str = PREFIX,
        as_told: tuple[int, ...] = (),
    ) -> bytes:
        """`as_told`: statuses from 300 on whose answer is one all the same."""
        response = self._sent(method, prefix + path, query, body, headers or {})
        try:
            data = b"".join(self._blocks(response))
        finally:
            response.close()
        if response.status >= 300 and response.status not in as_told:
            raise _refused(response.status, data)
        return data

    def _sent(
        self,
        method: str,
        path: str,
        query: Mapping[str, str | None] | None,
        body: bytes | None,
        headers: Mapping[str, str],
    ) -> BaseHTTPResponse:
        sent = {**self._headers, **headers}
        if body is not None:
            sent["Content-Type"] = "application/json"
        asked = {name: value for name, value in (query or {}).items() if value is not None}
        url = f"{self._url}{path}" + (f"?{urlencode(asked)}" if asked else "")
        try:
            return self._pool.request(
                method, url, body=body, headers=sent, preload_content=False, redirect=False
            )
        except urllib3.exceptions.HTTPError as exc:
            raise ApiError(f"{self._url} cannot be asked: {_why(exc)}", OUT_OF_REACH) from exc

    def _blocks(self, response: BaseHTTPResponse) -> Iterator[bytes]:
        try:
            yield from response.stream(_BLOCK_BYTES)
        except urllib3.exceptions.HTTPError as exc:
            raise ApiError(f"{self._url} broke off its answer: {_why(exc)}", OUT_OF_REACH) from exc


def _checked_url(url: str) -> str:
    parts = urlsplit(url)
    whole = parts.scheme in ("http", "https") and parts.hostname
    if not whole or parts.path not in ("", "/") or parts.query or parts.fragment or parts.username:
        hint = "scheme, host and port, such as https://nvr-01:8082"
        raise ConfigError([Fault("--url", f"{url!r} is no address of a daemon", hint)])
    return f"{parts.scheme}://{parts.netloc}"


def _token(file: Path | None, environ: Mapping[str, str]) -> str | None:
    where, given = TOKEN_VARIABLE, environ.get(TOKEN_VARIABLE)
    if file is not None:
        where, given = "--token-file", _read(file, "--token-file", MOST_TOKEN_BYTES).decode(errors="replace")
    token = (given or "").strip()
    if file is None and not token:
        return None
    if not _TOKEN.fullmatch(token):
        raise ConfigError([Fault(where, "holds no token", "one word, as POST /tokens answered it")])
    return token


def _fingerprint(certificate: Path) -> str:
    """Of the daemon's own certificate: whatever names it was made for, it is the one that is asked."""
    found = _CERTIFICATE.search(_read(certificate, "api.tls_cert", 2**20))
    if found is None:
        raise ConfigError([Fault("api.tls_cert", f"{certificate} holds no certificate", "PEM is needed")])
    try:
        return hashlib.sha256(base64.b64decode(found[1])).hexdigest()
    except ValueError as exc:
        message = f"{certificate} holds no certificate: {exc}"
        raise ConfigError([Fault("api.tls_cert", message, "PEM is needed")]) from exc


def _read(file: Path, where: str, most_bytes: int) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(most_bytes)
    except OSError as exc:
        message = f"{file} cannot be read: {exc.strerror or exc}"
        raise ConfigError([Fault(where, message, "give this user the right to read it")]) from exc


def _pool(address: ApiAddress, timeout_s: float) -> urllib3.PoolManager:
    timeout = urllib3.Timeout(connect=5.0, read=timeout_s)
    if address.fingerprint is not None:  # this very certificate, and no other
        return urllib3.PoolManager(
            timeout=timeout,
            retries=False,
            assert_fingerprint=address.fingerprint,
            cert_reqs="CERT_NONE",
            ssl_context=_with_certificate(ssl.create_default_context(), address, checks=False),
        )
    context = None
    if address.url.startswith("https:"):
        try:
            context = ssl.create_default_context(cafile=address.ca_file)
            _with_certificate(context, address)
        except OSError as exc:
            fault = Fault("--ca-file", f"{address.ca_file}: {exc}", "a file of PEM certificates is needed")
            raise ConfigError([fault]) from exc
    return urllib3.PoolManager(timeout=timeout, retries=False, ssl_context=context)


def _with_certificate(context: ssl.SSLContext, address: ApiAddress, *, checks: bool = True) -> ssl.SSLContext:
    """With the client's own certificate, if there is one. Raises ConfigError."""
    if not checks:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if address.client_cert is not None:
        try:
            context.load_cert_chain(address.client_cert)
        except OSError as exc:
            hint = "a PEM file with certificate and key that belong together"
            raise ConfigError([Fault("--client-cert", f"{address.client_cert}: {exc}", hint)]) from exc
    return context


def _encoded(body: Mapping[str, object] | None) -> bytes | None:
    return None if body is None else json.dumps(body).encode()


def _parsed(data: bytes, model: type[Model]) -> Model:
    try:
        return model.model_validate_json(data)
    except ValidationError as exc:
        told = "the answer is not understood: is it another version, or another program?"
        raise ApiError(told, OUT_OF_REACH) from exc


def _refused(status: int, data: bytes) -> ApiError:
    """The problem that the daemon told (RFC 9457), on one line."""
    text = f"HTTP {status}"
    try:
        document = json.loads(data)
        text = str(document["detail"])
    except (ValueError, KeyError, TypeError):
        pass  # no problem of ours: a proxy's page
    if status in (401, 403):
        return ApiError(f"{text} (--token-file FILE or {TOKEN_VARIABLE} names the token)", BAD_USAGE)
    if status in (400, 413, 415, 422):
        return ApiError(text, BAD_USAGE)
    return ApiError(text, FOUND_WRONG if status < 500 and status != 429 else OUT_OF_REACH)


def _why(error: urllib3.exceptions.HTTPError) -> str:
    """In words for people; the library's own name objects and addresses in memory."""
    match error:
        case urllib3.exceptions.SSLError():
            return f"TLS: {error}"
        case urllib3.exceptions.NewConnectionError():  # a timeout as well, by its place in their tree
            return "nobody listens there; does the daemon run?"
        case urllib3.exceptions.TimeoutError():
            return "it does not answer in time"
        case urllib3.exceptions.ProtocolError():
            return "it hung up without an answer; does it speak HTTP, or HTTPS?"
    return str(error) or type(error).__name__
