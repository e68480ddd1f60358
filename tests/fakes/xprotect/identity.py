"""The identity provider: OAuth tokens for basic users, and its OIDC document (1.1 and 1.2 of the paper)."""

from aiohttp import web

from tests.fakes.xprotect.site import Site

CLIENTS = ("GrantValidatorClient", "VmsClient")


async def give_token(site: Site, request: web.Request, *, by_gateway: bool) -> web.Response:
    """`POST …/connect/token`, form-encoded."""
    site.calls.count("token")
    form = {name: str(value) for name, value in (await request.post()).items()}
    if form.get("client_id") not in (*CLIENTS, site.client_id):
        return _refused("invalid_client", "unknown client_id", 400)
    match form.get("grant_type"):
        case "password":
            return _by_password(site, form)
        case "windows_credentials" if by_gateway:
            return _refused("invalid_grant", "the gateway does not pass Windows credentials on", 400)
        case "windows_credentials":
            negotiate = {"WWW-Authenticate": "Negotiate"}
            return web.Response(status=401, headers=negotiate)
        case _:
            return _refused("unsupported_grant_type", "", 400)


def _by_password(site: Site, form: dict[str, str]) -> web.Response:
    if (form.get("username"), form.get("password")) != (site.user, site.password):
        status = site.assumptions.bad_password_status
        return _refused("invalid_grant", "invalid_username_or_password", status)
    token, lifetime_s = site.tokens.give_oauth(site.user)
    return web.json_response(
        {
            "access_token": token,
            "expires_in": int(lifetime_s),
            "token_type": "Bearer",
            "scope": "managementserver",
        }
    )


def _refused(error: str, description: str, status: int) -> web.Response:
    return web.json_response({"error": error, "error_description": description}, status=status)


def oidc_document(site: Site, request: web.Request) -> web.Response:
    """Needs no log-in; `server_version` is Milestone's own."""
    site.calls.count("oidc")
    issuer = f"{site.url}/IDP"
    return web.json_response(
        {
            "issuer": issuer,
            "token_endpoint": f"{issuer}/connect/token",
            "grant_types_supported": ["password", "windows_credentials", "authorization_code"],
            "server_version": site.faults.version,
        }
    )
