"""Who may ask for what: decided before any handler runs, and denied where nothing says otherwise.

Without tokens the API is open on loopback only. A browser on this machine could then be made to ask in the
name of a foreign page, so the request must name this machine (DNS rebinding) and, to change anything, come
from no other site (CSRF).
"""

import ipaddress
import re

from aiohttp import web
from aiohttp.http import HttpVersion11

from cctv_storaged.access import Access, Scope, allows
from cctv_storaged.addresses import client_of, is_local
from cctv_storaged.api.parsing import path_id
from cctv_storaged.api.problems import BAD_REQUEST, FORBIDDEN, MISDIRECTED, UNAUTHORIZED, Refusal
from cctv_storaged.api.rates import Rate, too_many
from cctv_storaged.api.routing import Lane, Reach, Route
from cctv_storaged.api.services import Services
from cctv_storaged.api.sight import SIGHT, Sight
from cctv_storaged.clock import Clock
from cctv_storaged.config import Api as ApiSettings
from cctv_storaged.config import is_loopback
from cctv_storaged.journal.tokens import Token

REALM = 'Bearer realm="cctv-storaged"'
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
TOKEN = web.RequestKey("token", Token)
TOKEN_NAME = web.RequestKey("token_name", str)
"""The token that a request was let in by, and its name; not there where the door is open."""
MAY_ADMIN = web.RequestKey("may_admin", bool)
"""Whether the token has the scope admin; not set where no token is asked for."""
OWN_SITE = frozenset({"same-origin", "none"})
"""Values of Sec-Fetch-Site (W3C Fetch Metadata) for our own page and for what the user typed."""
_BEARER = re.compile(r"bearer +(?P<secret>[A-Za-z0-9._~+/=-]{1,512})", re.ASCII | re.IGNORECASE)
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?", re.ASCII)
_ORIGIN = re.compile(r"https?://(?P<host>[^/?#@]+)", re.ASCII | re.IGNORECASE)


class Guard:
    """The API's door."""

    def __init__(self, settings: ApiSettings, access: Access, clock: Clock) -> None:
        self._settings = settings
        self._access = access
        self._requests = Rate(settings.requests_per_minute, clock.monotonic)
        self._failures = Rate(settings.failed_logins_per_minute, clock.monotonic)
        self._guesses = Rate(settings.requests_per_minute, clock.monotonic)

    @property
    def open(self) -> bool:
        """Whether everybody who reaches the API may do everything."""
        return is_open(self._settings, self._access)

    async def admit(self, request: web.Request, route: Route) -> None:
        """Returns where the request may go on. Raises Refusal."""
        scope = self._needed(request, route)
        if scope is None or self.open:
            self._limit(request, route, client_of(request.remote))
            return
        token = await self._token_of(request)
        request[TOKEN] = token
        request[TOKEN_NAME] = token.name
        request[MAY_ADMIN] = allows(token, Scope.ADMIN)
        request[SIGHT] = Sight(token.cameras)
        self._limit(request, route, str(token.id))
        if not allows(token, scope):
            headers = {"WWW-Authenticate": f'{REALM}, error="insufficient_scope", scope="{scope}"'}
            raise Refusal(FORBIDDEN, f"the token lacks the scope {scope}", headers)
        require_in_sight(request, route)

    def lost(self, request: web.Request) -> None:
        """A request for what is not there counts as well. Raises Refusal."""
        self._requests.take(client_of(request.remote), "requests")

    def _limit(self, request: web.Request, route: Route, client: str) -> None:
        """Probes of this machine are never refused: a service manager would restart what is well."""
        if route.lane is not Lane.FREE or not is_local(request.remote):
            self._requests.take(client, "requests")

    def _needed(self, request: web.Request, route: Route) -> Scope | None:
        if route.scope is None and (self._settings.protect_metrics or self._names_others(request, route)):
            return Scope.READ
        return route.scope

    def _names_others(self, request: web.Request, route: Route) -> bool:
        """Probes that name cameras tell whoever is limited to some of the others, unless they are asked for
        a token, too. This machine's own scraper and service manager need none.
        """
        return self._access.any_limited and route.reaches is Reach.HOST and not is_local(request.remote)

    async def _token_of(self, request: web.Request) -> Token:
        given = request.headers.getall("Authorization", [])
        client = client_of(request.remote)
        if not given:
            self._requests.take(client, "requests")
            raise Refusal(
                UNAUTHORIZED, "send a token as Authorization: Bearer …", {"WWW-Authenticate": REALM}
            )
        found = _BEARER.fullmatch(given[0]) if len(given) == 1 else None
        wait_s = self._failures.wait_s(client)
        token = None if found is None else await self._found(found["secret"], request, wait_s)
        if token is not None:
            return token
        if wait_s:
            raise too_many("wrong tokens", self._settings.failed_logins_per_minute, wait_s)
        self._failures.count(client)
        headers = {"WWW-Authenticate": f'{REALM}, error="invalid_token"'}
        raise Refusal(UNAUTHORIZED, "the token is not valid", headers)

    async def _found(self, secret: str, request: web.Request, wait_s: int) -> Token | None:
        """A neighbour behind the same address who guesses locks nobody out: what is right is let in. Only so
        much that is not known yet is looked up for whoever guesses.
        """
        if wait_s and not self._access.remembers(secret):
            self._guesses.take(client_of(request.remote), "tokens that are not known")
        return await self._access.token_of(secret, request.remote)


def is_open(settings: ApiSettings, access: Access) -> bool:
    """Whether no token is asked for."""
    return settings.auth == "none" or (is_loopback(settings.host) and not access.any_defined)


def still_let_in(request: web.Request, services: Services) -> bool:
    """Whether a request that goes on for hours would be let in now: its token is not revoked and not past
    its end; without one, the door is still open.
    """
    token: Token | None = request.get(TOKEN)
    if token is None:
        return is_open(services.settings.api, services.access)
    return services.access.still_opens(token)


def require_in_sight(request: web.Request, route: Route) -> None:
    """A token that is limited to cameras opens nothing that tells of others. Raises Refusal, NotFound."""
    sight = request[SIGHT]
    if route.reaches is Reach.CAMERA:
        sight.require(path_id(request, "camera_id"))
    elif route.reaches is Reach.HOST and sight.limited:
        detail = "the token is limited to cameras, and this is about the whole host"
        raise Refusal(FORBIDDEN, detail)


def require_host(request: web.Request, *, loopback: bool) -> None:
    """One Host header that can be one (RFC 9112 3.2); with `loopback` it must name this machine."""
    given = request.headers.getall("Host", [])
    if not given and request.version < HttpVersion11:
        return
    found = _HOST.fullmatch(given[0]) if len(given) == 1 else None
    if found is None:
        raise Refusal(BAD_REQUEST, "the request needs one Host header with a host in it")
    if loopback and not _is_this_machine(found["name"]):
        detail = "without a token this API answers to localhost only; make a token to reach it by other names"
        raise Refusal(MISDIRECTED, detail)


def require_own_site(request: web.Request) -> None:
    """A change that a browser asks for must come from our own page. Other programs send neither header."""
    if request.method in SAFE_METHODS:
        return
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin")
    if site is not None:
        own = site.lower() in OWN_SITE
    elif origin is not None:
        found = _ORIGIN.fullmatch(origin)
        own = found is not None and found["host"].lower() == request.headers.get("Host", "").lower()
    else:
        own = True
    if not own:
        raise Refusal(FORBIDDEN, "changes are not taken from pages of other sites")


def _is_this_machine(name: str) -> bool:
    plain = name.strip("[]").rstrip(".").lower()
    if plain == "localhost" or plain.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(plain).is_loopback
    except ValueError:
        return False
