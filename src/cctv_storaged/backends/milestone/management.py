"""The corporate token that recording servers want: log-in at the management server's SOAP service.

Sources: MIP sample `OauthLoginFlow`: Login, renewal with the old token and the same instance, effective life
min(OAuth, corporate) - 30 s. `TimeToLive` is read: 4 h on 2025 R1, 1 h by an older comment.
"""

import base64
import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from cctv_storaged.backends.milestone.answers import TokenRefused, Unreadable, plain
from cctv_storaged.backends.milestone.flight import SingleFlight
from cctv_storaged.backends.milestone.soap import NoSuchService, SoapCall, SoapClient, SoapFault
from cctv_storaged.backends.milestone.tokens import Token, TokenSource
from cctv_storaged.backends.milestone.vmstime import parse_time, skew_of
from cctv_storaged.backends.milestone.xmltree import Node
from cctv_storaged.clock import Clock, SystemClock
from cctv_storaged.errors import BackendError, BackendUnavailable

NAMESPACE = "http://videoos.net/2/XProtectCSServerCommand"
_ACTION = f"{NAMESPACE}/IServerCommandService/"
_OAUTH_PATH = "/ManagementServer/ServerCommandServiceOAuth.svc"
_BASIC_PATH = "/ManagementServer/ServerCommandService.svc"
_MISSING_S, _MISSING_TIMES = 600.0, 3
"""So long and so often the OAuth variant of the service must not be there, before the password is shown by
HTTP Basic: a server that starts, or a gateway in front of it, answers 404 as well for a while."""
_MARGIN_S = 30.0
_LONGEST_S = 24 * 3600.0  # whatever the server says
_MOST_TOKEN = 4096

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class BasicUser:
    """For HTTP Basic, where the OAuth variant of the service is not there (before 2021 R1)."""

    username: str
    password: str = field(repr=False)

    @property
    def authorization(self) -> str:
        """RFC 7617."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class _LogIn:
    token: Token
    registered: str  # RegistrationTime, as it was told
    clock_skew: timedelta | None


class Management:
    """One log-in for the whole process; itself a TokenSource of corporate tokens."""

    def __init__(
        self,
        soap: SoapClient,
        server: str,
        oauth: TokenSource,
        *,
        basic: BasicUser | None = None,
        instance_id: UUID | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._soap = soap
        self._server = server.rstrip("/")  # https://mgmt.example
        self._oauth = oauth
        self._basic = basic
        self._instance_id = instance_id or uuid4()
        self._clock = clock or SystemClock()
        self._held: _LogIn | None = None
        self._log_in = SingleFlight(self._renewed)
        self._by_oauth = True
        self._missing: list[float] = []  # when the OAuth variant was not there, since it was last
        self._given = ""  # the last token of all: refused or not, it is told nowhere

    @property
    def clock_skew(self) -> timedelta | None:
        """The server's clock minus ours, at the last log-in; None before the first."""
        return self._held.clock_skew if self._held is not None else None

    async def __call__(self, refused: str | None = None) -> Token:
        """A corporate token that is good now. BackendUnavailable(auth) where none is given."""
        held = self._held
        if held is not None and held.token.value == refused:
            held = self._held = None  # not to be renewed either
        if held is not None and self._clock.monotonic() < held.token.good_until:
            return held.token
        return await self._log_in()

    async def log_out(self) -> None:
        """Ends the session, if there is one; a server that is away or refuses is no fault of a stop."""
        await self._log_in.cancel()
        held, self._held = self._held, None
        if held is None:
            return
        try:
            await self._ask("Logout", held.token.value)
        except BackendError as exc:
            log.debug("the log-out from XProtect failed", extra={"error": str(exc)})

    async def _renewed(self) -> Token:
        """With the token that is held, where one is; one that is too old for that is left out."""
        if (held := self._held) is not None:
            try:
                self._held = await self._logged_in(held.token.value)
                return self._held.token
            except (SoapFault, TokenRefused) as exc:
                log.debug("XProtect does not renew its token: logging in anew", extra={"error": str(exc)})
        try:
            self._held = await self._logged_in("")
        except (SoapFault, TokenRefused) as exc:  # not the recorder's token, which another one mends
            raise BackendUnavailable(str(exc), reason="auth") from exc
        return self._held.token

    async def _logged_in(self, current: str) -> _LogIn:
        asked, asked_at = self._clock.monotonic(), self._clock.now()
        response, oauth_until = await self._ask("Login", current)
        answered_at = asked_at + timedelta(seconds=self._clock.monotonic() - asked)
        result = response.child("LoginResult")
        if result is None or not result.value("Token"):
            raise Unreadable("XProtect's answer to Login has no token")
        if len(result.value("Token")) > _MOST_TOKEN:
            raise Unreadable("XProtect's answer to Login has a token that is too long to be one")
        life_s = _life_s(result)  # counted from before the question: it never lives longer than that
        until = min(oauth_until, asked + life_s - min(_MARGIN_S, life_s / 2))
        registered = result.value("RegistrationTime")
        if self._held is not None and self._held.registered == registered:
            skew = self._held.clock_skew  # a renewal may repeat when the log-in was
        else:
            skew = _skew(registered, asked_at, answered_at)
        self._given = result.value("Token")
        return _LogIn(token=Token(self._given, until), registered=registered, clock_skew=skew)

    async def _ask(self, method: str, current: str) -> tuple[Node, float]:
        """The response, and until when the log-in that it was asked with is good."""
        call = SoapCall(
            namespace=NAMESPACE,
            method=method,
            action=_ACTION + method,
            fields=(("instanceId", str(self._instance_id)), ("currentToken", current)),
            secrets=(current, self._given),
        )
        try:
            if self._by_oauth:
                try:
                    return await self._ask_by_oauth(call)
                except NoSuchService:
                    if self._basic is None or not self._stays_missing():
                        raise
            return await self._ask_by_basic(call)
        except NoSuchService as exc:
            text = f"{self._server} has no log-in for recording servers that is known here: {exc}"
            raise BackendUnavailable(text, reason="server") from exc

    def _stays_missing(self) -> bool:
        now = self._clock.monotonic()
        self._missing = [*self._missing[:_MISSING_TIMES], now]
        return len(self._missing) >= _MISSING_TIMES and now - self._missing[0] >= _MISSING_S

    async def _ask_by_oauth(self, call: SoapCall) -> tuple[Node, float]:
        url = self._server + _OAUTH_PATH
        oauth = await self._oauth()
        try:
            response = await self._soap.call(url, call, authorization=f"Bearer {oauth.value}")
        except TokenRefused:
            # Which of both tokens is meant is not said with certainty: the OAuth one can be had anew at once.
            oauth = await self._oauth(oauth.value)
            response = await self._soap.call(url, call, authorization=f"Bearer {oauth.value}")
        self._missing.clear()
        return response, oauth.good_until

    async def _ask_by_basic(self, call: SoapCall) -> tuple[Node, float]:
        authorization = self._basic.authorization if self._basic is not None else None
        response = await self._soap.call(self._server + _BASIC_PATH, call, authorization=authorization)
        self._by_oauth = False  # only now: a 404 while the server starts must not last
        return response, float("inf")


def _life_s(result: Node) -> float:
    text = result.value("TimeToLive", "MicroSeconds")
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise Unreadable(f"XProtect's answer to Login tells {plain(text)[:40]!r} for the token's life")
    return min(int(text) / 1_000_000, _LONGEST_S)


def _skew(text: str, asked_at: datetime, answered_at: datetime) -> timedelta | None:
    """A time that cannot be read tells of no clock."""
    moment = parse_time(text)
    return None if moment is None else skew_of(moment, asked_at, answered_at)
