"""OAuth at XProtect's identity provider: password grant for a basic user, renewed before it ends.

The same credentials are posted again: `GrantValidatorClient` gives no refresh token (MIP VMS Config API,
"Authentication"). Through the gateway first, and directly where that has no such path or is away.
"""

from collections.abc import Awaitable, Callable
from urllib.parse import urlencode

from cctv_storaged.backends.milestone.answers import Unreadable
from cctv_storaged.backends.milestone.discovery import Discovered
from cctv_storaged.backends.milestone.flight import SingleFlight
from cctv_storaged.backends.milestone.httpwire import Answer, Call, HttpWire
from cctv_storaged.backends.milestone.jsontree import Fields, parsed
from cctv_storaged.backends.milestone.target import MilestoneTarget
from cctv_storaged.backends.milestone.tokens import Token
from cctv_storaged.clock import Clock
from cctv_storaged.errors import BackendThrottled, BackendUnavailable

MARGIN_S = 60.0
"""Renewed so long before it ends (vendor sample); a token that lives less than twice that, at half time."""
REFUSED_S = 10.0
REFUSED_MOST_S = 900.0
"""How long a refused password is not tried again, whoever asks: accounts get locked by it. Twice as long each
time, up to the most."""
_LIFETIME_S = 300.0  # where the server does not say (RFC 6749 5.1 leaves it open)
_TOKEN_MAX = 16 * 1024
_SMALL = 64 * 1024
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class Identity:
    """The access token of one user; itself a TokenSource."""

    def __init__(
        self,
        wire: HttpWire,
        target: MilestoneTarget,
        clock: Clock,
        discovered: Callable[[], Awaitable[Discovered]],
    ) -> None:
        self._wire = wire
        self._target = target
        self._clock = clock
        self._discovered = discovered
        self._token: Token | None = None
        self._log_in = SingleFlight(self._renew)
        self._refusal: tuple[float, str] | None = None  # until when it is believed, and its words
        self._refused_s = 0.0  # how long the last one was
        self._preferred = ""  # the path that worked last

    async def __call__(self, refused: str | None = None) -> Token:
        """A token that is good now. BackendUnavailable(auth) where user or password are not accepted."""
        token = self._token
        if token is None or token.value == refused or self._clock.monotonic() >= token.good_until:
            self._raise_while_refused()
            token = await self._log_in()
        return token

    def _raise_while_refused(self) -> None:
        if self._refusal is not None and self._clock.monotonic() < self._refusal[0]:
            raise BackendUnavailable(self._refusal[1], reason="auth")

    async def close(self) -> None:
        """Ends a log-in that is under way."""
        await self._log_in.cancel()

    async def _renew(self) -> Token:
        """By the first path that is there; a wrong password is not tried by the other."""
        trouble: BackendUnavailable | None = None
        for url in await self._paths():
            asked_at = self._clock.monotonic()
            try:
                answer = await self._post(url)
            except BackendUnavailable as exc:
                trouble = trouble or exc
                continue
            if answer.good:
                self._preferred, self._refused_s = url, 0.0
                self._token = self._token_in(answer, asked_at)
                return self._token
            refusal = self._refused(answer)
            if refusal.reason == "auth":
                self._refused_s = min(max(REFUSED_S, 2 * self._refused_s), REFUSED_MOST_S)
                self._refusal = self._clock.monotonic() + self._refused_s, str(refusal)
            if refusal.reason in {"auth", "throttled"}:
                raise refusal
            trouble = trouble or refusal
        raise trouble or Unreadable("log in to XProtect: there is no identity provider")

    async def _paths(self) -> list[str]:
        urls = (await self._discovered()).token_urls
        return sorted(urls, key=lambda url: url != self._preferred)  # stable: the order stays otherwise

    async def _post(self, url: str) -> Answer:
        form = {
            "grant_type": "password",
            "username": self._target.username,
            "password": self._target.password,
            "client_id": self._target.client_id,
        }
        body = urlencode(form).encode()
        call = Call(
            method="POST", url=url, doing="log in to XProtect", headers=_FORM, body=body, max_bytes=_SMALL
        )
        return await self._wire.exchange(call)

    def _token_in(self, answer: Answer, asked_at: float) -> Token:
        told = Fields.of(parsed(answer.data, "log in to XProtect"), "the token")
        value = told.text("access_token")
        if (
            not value
            or len(value) > _TOKEN_MAX
            or not (value.isascii() and value.isprintable())
            or " " in value
        ):
            raise Unreadable("log in to XProtect: the answer has no access_token to use")
        self._wire.hide("access_token", value)
        lifetime_s = told.number("expires_in")
        if lifetime_s is None or lifetime_s <= 0:
            lifetime_s = _LIFETIME_S
        return Token(value, asked_at + max(lifetime_s - MARGIN_S, lifetime_s / 2))

    def _refused(self, answer: Answer) -> BackendUnavailable:
        """An OAuth error (RFC 6749 5.2), or whatever stands in its way."""
        error, description = self._oauth_error(answer)
        said = self._wire.words(": ".join(filter(None, (error, description)))) or "no reason is given"
        text = f"log in to XProtect: HTTP {answer.status}, {said}"
        if answer.status == 429:
            return BackendThrottled(text, retry_after_s=answer.retry_after_s)
        if error in {"invalid_client", "unauthorized_client"}:
            hint = f"client id {self._target.client_id} is not accepted: see milestone.client_id"
        elif error or answer.status in {401, 403}:
            hint = f"user {self._target.username} is not accepted: is it a basic user, is the password right?"
        else:
            return BackendUnavailable(text, reason="server")
        return BackendUnavailable(f"{text} ({hint})", reason="auth")

    def _oauth_error(self, answer: Answer) -> tuple[str, str]:
        try:
            told = Fields.of(parsed(answer.data, ""), "the refusal")
            return told.text("error"), told.text("error_description")
        except Unreadable:
            return "", ""
