"""SOAP over HTTP: one request, one answer, log-in first (ONVIF Core Specification, "Security")."""

import asyncio
import logging
from collections.abc import Mapping
from http import HTTPStatus

from aiohttp import web

from cctv_storaged.clock import Clock
from cctv_storaged.errors import StoragedError
from cctv_storaged.onvif import soap
from cctv_storaged.onvif.auth import Account, Digest, UsernameTokens, Verdict
from cctv_storaged.onvif.device import OPEN
from cctv_storaged.onvif.guesses import Guesses
from cctv_storaged.onvif.soap import Addresses, Operations, Request, SoapFault

log = logging.getLogger(__name__)

MOST_AT_ONCE = 16
"""Operations under way: of whoever is let in, and not before its request is here."""
BODY_S = 5.0
"""A request's bytes are here by then: it is small."""
ANSWER_S = 30.0
NONCE_S = 300.0


class Door(web.RequestHandler):
    """A connection that can tell whether somebody logged in over it."""

    known = False


class SoapSide:
    """Reads, checks, dispatches by the body's element, and writes."""

    def __init__(
        self,
        services: Mapping[str, Operations],
        account: Account,
        guesses: Guesses,
        rtsp_port: int,
        host: str | None,
        clock: Clock,
    ) -> None:
        """`services` by the prefixes of their namespaces; `host`: by which we are reached, if it is known."""
        self._services = services
        self._account = account
        self._guesses = guesses
        self._tokens = UsernameTokens(account)
        self._digest = Digest(account, life_s=NONCE_S, once=True)
        self.rtsp_port = rtsp_port
        self._host = host
        self._clock = clock
        self._under_way = 0

    def app(self) -> web.Application:
        """To be served."""
        app = web.Application(client_max_size=soap.MOST_BYTES)
        app.router.add_post("/onvif/{service}", self.serve)
        return app

    async def serve(self, http: web.Request) -> web.Response:
        version = "1.2"
        try:
            request = soap.read_request(await _body(http))
            version = request.version
            self._check(http, request)
            return await self._performed(http, request)
        except SoapFault as exc:
            return self._fault(version, exc)
        except (StoragedError, TimeoutError) as exc:
            log.warning("an ONVIF request cannot be answered: %s", exc or type(exc).__name__)
            error = SoapFault("it cannot be answered now", "ter:Action", receiver=True)
            return self._fault(version, error)

    async def _performed(self, http: web.Request, request: Request) -> web.Response:
        if self._under_way >= MOST_AT_ONCE:
            return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE, headers={"Retry-After": "1"})
        self._under_way += 1
        try:
            async with asyncio.timeout(ANSWER_S):
                content = await self._operation(request)(request.body, self._addresses(http))
        finally:
            self._under_way -= 1
        return _answer(HTTPStatus.OK, request.version, soap.response(request, content))

    def _operation(self, request: Request) -> soap.Call:
        operations = self._services.get(request.service)
        if operations is None:
            raise SoapFault("this service is not offered", "ter:ActionNotSupported", "ter:NoSuchService")
        operation = operations.get(request.operation)
        if operation is None:
            raise SoapFault(
                f"{request.operation[:64]} is not offered", "ter:ActionNotSupported", receiver=True
            )
        return operation

    def _check(self, http: web.Request, request: Request) -> None:
        """Raises _NotLoggedIn for a stranger who asks what is not open to all."""
        if self._account.open or (request.service in ("tds", "") and request.operation in OPEN):
            return
        if request.operation == "GetServiceCapabilities":
            return
        header = http.headers.get("Authorization", "")
        if request.token is None and not header:
            raise _NotLoggedIn(challenged=True)
        address = http.remote or ""
        wait_s = self._guesses.wait_s(address)
        if wait_s:
            raise _TooManyGuesses(wait_s)
        verdict = self._verdict(http, request, header)
        if verdict is Verdict.WRONG:
            self._guesses.wrong(address, "http")
        if verdict is not Verdict.GOOD:
            raise _NotLoggedIn(challenged=request.token is None)
        self._guesses.right(address)
        if isinstance(http.protocol, Door):
            http.protocol.known = True

    def _verdict(self, http: web.Request, request: Request, header: str) -> Verdict:
        now_s = self._clock.monotonic()
        if request.token is not None:
            return self._tokens.verdict(request.token, self._clock.now(), now_s)
        return self._digest.verdict(header, "POST", now_s, http.path)

    def _addresses(self, http: web.Request) -> Addresses:
        """Where the caller reached us, unless the settings say it; not what it calls us."""
        host, port = "127.0.0.1", 0
        if http.transport is not None:
            host, port = http.transport.get_extra_info("sockname")[:2]
        host = self._host or str(host)
        host = f"[{host}]" if ":" in host else host
        return Addresses(http=f"http://{host}:{port}", rtsp=f"rtsp://{host}:{self.rtsp_port}")

    def _fault(self, version: str, error: SoapFault) -> web.Response:
        status = HTTPStatus.INTERNAL_SERVER_ERROR
        if version == "1.2" and not error.receiver:
            status = HTTPStatus.BAD_REQUEST
        answer = _answer(status, version, soap.fault(version, error))
        if isinstance(error, _TooManyGuesses):
            answer.set_status(HTTPStatus.TOO_MANY_REQUESTS)
            answer.headers["Retry-After"] = str(error.wait_s)
        if isinstance(error, _NotLoggedIn) and error.challenged:
            answer.set_status(HTTPStatus.UNAUTHORIZED)
            now_s = self._clock.monotonic()
            for algorithm in ("MD5", "SHA-256"):  # the first is what every client knows
                answer.headers.add("WWW-Authenticate", self._digest.challenge(algorithm, now_s))
        return answer


async def _body(http: web.Request) -> bytes:
    try:
        async with asyncio.timeout(BODY_S):
            return await http.read()
    except TimeoutError as exc:
        raise SoapFault(f"the request was not whole within {BODY_S:g} s", "ter:WellFormed") from exc


class _NotLoggedIn(SoapFault):
    """`challenged`: a Digest is asked for, as no token was there."""

    def __init__(self, *, challenged: bool) -> None:
        super().__init__("name or password is wrong, or the time is", "ter:NotAuthorized")
        self.challenged = challenged


class _TooManyGuesses(SoapFault):
    """Whoever asks has to wait; so has who guesses right."""

    def __init__(self, wait_s: int) -> None:
        super().__init__(f"too many wrong log-ins came from there: wait {wait_s} s", "ter:NotAuthorized")
        self.wait_s = wait_s


def _answer(status: HTTPStatus, version: str, body: bytes) -> web.Response:
    return web.Response(status=status, body=body, content_type=soap.content_type(version), charset="utf-8")
