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
from cctv_storaged.api.problems import BAD_REQUEST, FORBIDDEN, MISDIRECTED, UNAUTHORIZED, Refusal
from cctv_storaged.api.routing import Route
from cctv_storaged.config import Api as ApiSettings
from cctv_storaged.config import is_loopback
from cctv_storaged.journal.tokens import Token

REALM = 'Bearer realm="cctv-storaged"'
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
TOKEN_NAME = web.RequestKey("token_name", str)
MAY_ADMIN = web.RequestKey("may_admin", bool)
"""Whether the token has the scope admin; not set where no token is asked for."""
"""Name of the token that a request was let in by; not there where the door is open."""
OWN_SITE = frozenset({"same-origin", "none"})
"""Values of Sec-Fetch-Site (W3C Fetch Metadata) for our own page and for what the user typed."""
_BEARER = re.compile(r"bearer +(?P<secret>[A-Za-z0-9._~+/=-]{1,512})", re.ASCII | re.IGNORECASE)
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?", re.ASCII)
_ORIGIN = re.compile(r"https?://(?P<host>[^/?#@]+)", re.ASCII | re.IGNORECASE)


class Guard:
    """The API's door."""

    def __init__(self, settings: ApiSettings, access: Access) -> None:
        self._settings = settings
        self._access = access
        self._on_loopback = is_loopback(settings.host)

    @property
    def open(self) -> bool:
        """Whether everybody who reaches the API may do everything."""
        if self._settings.auth == "none":
            return True
        return self._on_loopback and not self._access.any_defined

    async def admit(self, request: web.Request, route: Route) -> None:
        """Returns where the request may go on. Raises Refusal."""
        scope = self._needed(route)
        if scope is None or self.open:
            return
        token = await self._token_of(request)
        request[TOKEN_NAME] = token.name
        request[MAY_ADMIN] = allows(token, Scope.ADMIN)
        if not allows(token, scope):
            headers = {"WWW-Authenticate": f'{REALM}, error="insufficient_scope", scope="{scope}"'}
            raise Refusal(FORBIDDEN, f"the token lacks the scope {scope}", headers)

    def _needed(self, route: Route) -> Scope | None:
        if route.scope is None and self._settings.protect_metrics:
            return Scope.READ
        return route.scope

    async def _token_of(self, request: web.Request) -> Token:
        given = request.headers.getall("Authorization", [])
        if not given:
            raise Refusal(
                UNAUTHORIZED, "send a token as Authorization: Bearer …", {"WWW-Authenticate": REALM}
            )
        found = _BEARER.fullmatch(given[0]) if len(given) == 1 else None
        token = None if found is None else await self._access.token_of(found["secret"])
        if token is None:
            headers = {"WWW-Authenticate": f'{REALM}, error="invalid_token"'}
            raise Refusal(UNAUTHORIZED, "the token is not valid", headers)
        return token


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
