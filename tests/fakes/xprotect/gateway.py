"""The management server's port: discovery, identity, REST and SOAP by path, and what spoils them all."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import format_datetime

from aiohttp import web

from tests.fakes.xprotect import envelope, identity, management
from tests.fakes.xprotect.envelope import ApiError
from tests.fakes.xprotect.rest import Rest, spelt
from tests.fakes.xprotect.site import Site

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

SPELLINGS = {
    "api": ("api", "API"),
    "idp": ("idp", "IDP"),
    "managementserver": ("ManagementServer",),
    "servercommandserviceoauth.svc": ("ServerCommandServiceOAuth.svc",),
    "servercommandservice.svc": ("ServerCommandService.svc",),
}
"""As the samples write them; anything else in lower case."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """Every request to the management server."""

    site: Site
    rest: Rest

    def application(self) -> web.Application:
        app = web.Application(client_max_size=1024 * 1024, middlewares=[self._manners])
        app.router.add_route("*", "/{path:.*}", self._route)
        app.on_response_prepare.append(self._date)
        return app

    @web.middleware
    async def _manners(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        faults = self.site.faults
        await asyncio.sleep(faults.slow_s)
        while faults.management == "silent":
            await asyncio.sleep(0.02)
        if faults.management == "refused":
            return _cut(request)
        if faults.management == "unavailable":
            return web.Response(status=503, text="Service Unavailable")
        if faults.take("bad_gateway_next"):
            text = "<html>Bad Gateway</html>"
            return web.Response(status=faults.bad_gateway_status, text=text, content_type="text/html")
        try:
            return await handler(request)
        except ApiError as exc:
            return envelope.error(self.site.assumptions, exc)

    async def _route(self, request: web.Request) -> web.StreamResponse:
        steps = self._steps(request.path)
        if steps[:3] == ["api", "rest", "v1"]:
            return await self._rest(request, steps[3:])
        if request.method == "GET":
            return self._document(request, steps)
        match (request.method, *steps):
            case ("POST", "idp", "connect", "token"):
                return await identity.give_token(self.site, request, by_gateway=False)
            case ("POST", "api", "idp", "connect", "token") if self.site.assumptions.gateway_gives_tokens:
                return await identity.give_token(self.site, request, by_gateway=True)
            case ("POST", "managementserver", service):
                return await management.serve(self.site, request, service)
        raise ApiError(404, "Not Found")

    def _document(self, request: web.Request, steps: list[str]) -> web.Response:
        """What is told without a log-in."""
        match steps:
            case ["api", ".well-known", "uris"]:
                return self._uris()
            case ["idp", ".well-known", "openid-configuration"]:
                return identity.oidc_document(self.site, request)
            case ["api", "idp", ".well-known", "openid-configuration"]:
                return identity.oidc_document(self.site, request)
        raise ApiError(404, "Not Found")

    async def _rest(self, request: web.Request, steps: list[str]) -> web.StreamResponse:
        faults = self.site.faults
        self.site.calls.count(f"rest:{request.method}:{spelt(steps[0]) if steps else ''}")
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        good = scheme.lower() == "bearer" and self.site.tokens.oauth_is_good(token.strip())
        if faults.take("unauthorized_next") or not good:
            raise ApiError(401, "Unauthorized")
        answer = await self.rest.serve(request, steps)
        if request.method == "POST" and faults.take("lose_answer_next"):
            return _cut(request)
        return answer

    def _steps(self, path: str) -> list[str]:
        """The path's parts; the words that IIS would find in any case are in lower case."""
        steps = path.strip("/").split("/")
        if not self.site.assumptions.paths_case_sensitive:
            return [step.lower() for step in steps]
        return [_known(step) for step in steps]

    def _uris(self) -> web.Response:
        self.site.calls.count("uris")
        url = self.site.url
        return web.json_response(
            {
                "ProductVersion": self.site.faults.version,
                "UnsecureManagementServer": url.replace("https:", "http:") + "/ManagementServer/",
                "SecureManagementServer": f"{url}/ManagementServer/" if self.site.tls else "",
                "IdentityProvider": f"{url}/IDP",
                "ApiGateways": [f"{url}/API/"],
            }
        )

    async def _date(self, request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Date"] = format_datetime(self.site.now(), usegmt=True)


def _cut(request: web.Request) -> web.Response:
    """The connection ends; nobody reads the answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=503)


def _known(step: str) -> str:
    for word, spellings in SPELLINGS.items():
        if step in spellings:
            return word
        if step.lower() == word:
            return f"no such spelling: {step}"
    return step
