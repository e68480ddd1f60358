"""The management server's SOAP: log-in for the recorder's token (3.1 of the paper)."""

import base64
import binascii
from collections.abc import Mapping
from uuid import UUID
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape

import defusedxml.ElementTree
from aiohttp import web

from tests.fakes.xprotect.envelope import time_text
from tests.fakes.xprotect.site import Site

NAMESPACE = "http://videoos.net/2/XProtectCSServerCommand"
ACTION = f"{NAMESPACE}/IServerCommandService/"
ENVELOPE = "http://schemas.xmlsoap.org/soap/envelope/"
_SERVICES = {"servercommandserviceoauth.svc": "bearer", "servercommandservice.svc": "basic"}


class SoapFault(Exception):
    """Refused; HTTP 500."""


async def serve(site: Site, request: web.Request, service: str) -> web.Response:
    """`ServerCommandServiceOAuth.svc` with a bearer token, `ServerCommandService.svc` with HTTP Basic."""
    scheme = _SERVICES.get(service)
    if scheme is None:
        return web.Response(status=404)
    who = _authenticated(site, request, scheme)
    if site.faults.take("unauthorized_next") or who is None:
        return web.Response(status=401, headers={"WWW-Authenticate": scheme.capitalize()})
    try:
        return _soap(_call(site, request, await request.text(), who))
    except SoapFault as exc:
        fault = (
            f"<s:Fault><faultcode>s:Client</faultcode><faultstring>{escape(str(exc))}</faultstring></s:Fault>"
        )
        return _soap(fault, status=500)


def _authenticated(site: Site, request: web.Request, scheme: str) -> str | None:
    """The OAuth token, the user's name, or None."""
    given, _, value = request.headers.get("Authorization", "").partition(" ")
    if given.lower() != scheme:
        return None
    if scheme == "bearer":
        return value.strip() if site.tokens.oauth_is_good(value.strip()) else None
    try:
        user, _, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return user if (user, password) == (site.user, site.password) else None


def _call(site: Site, request: web.Request, text: str, who: str) -> str:
    if not request.headers.get("Content-Type", "").startswith("text/xml"):
        raise SoapFault("SOAP 1.1 comes as text/xml")
    name, arguments = _read(text)
    action = request.headers.get("SOAPAction", "").strip('"')
    if action != ACTION + name:
        raise SoapFault(f"The action {action} cannot be processed: the body asks for {name}")
    site.calls.count(f"soap:{name}")
    match name:
        case "Login":
            return _login(site, arguments, who)
        case "Logout":
            site.tokens.forget(arguments.get("currentToken", ""))
            return _answer(site, "Logout", "")
        case "GetConfiguration":
            return _configuration(site, arguments)
    raise SoapFault(f"Unknown operation {name}")


def _read(text: str) -> tuple[str, Mapping[str, str]]:
    """The operation and its arguments. Names stand in the default name space (3.2)."""
    try:
        root: Element = defusedxml.ElementTree.fromstring(text)
    except (defusedxml.ElementTree.ParseError, defusedxml.DefusedXmlException) as exc:
        raise SoapFault("The body is no XML") from exc
    operation = next(iter(root.find(f"{{{ENVELOPE}}}Body") or ()), None)
    space = f"{{{NAMESPACE}}}"
    if operation is None or not operation.tag.startswith(space):
        raise SoapFault("The body has no operation of this service")
    if f"<{operation.tag.removeprefix(space)}" not in text:
        raise SoapFault("The name space must be the default one, not a prefix")
    arguments = {child.tag.removeprefix(space): (child.text or "").strip() for child in operation}
    return operation.tag.removeprefix(space), arguments


def _login(site: Site, arguments: Mapping[str, str], who: str) -> str:
    instance, current = arguments.get("instanceId", ""), arguments.get("currentToken", "")
    try:
        UUID(instance)
    except ValueError:
        raise SoapFault("instanceId is no GUID") from None
    if current and not site.tokens.renewable(current, instance):
        raise SoapFault("The current token is unknown, or of another instance")
    token, lifetime_s = site.tokens.give_corporate(who, instance, site.host)
    microseconds = round(lifetime_s * 1_000_000)
    return _answer(
        site,
        "Login",
        f"<RegistrationTime>{time_text(site.assumptions, site.now())}</RegistrationTime>"
        f"<TimeToLive><MicroSeconds>{microseconds}</MicroSeconds></TimeToLive>"
        "<TimeToLiveLimited>false</TimeToLiveLimited>"
        f"<Token>{escape(token)}</Token>",
    )


def _configuration(site: Site, arguments: Mapping[str, str]) -> str:
    """Recorders and their cameras, of much more."""
    if not site.tokens.corporate_is_good(arguments.get("token", "")):
        raise SoapFault("Token invalid")
    cameras = "".join(
        f"<CameraInfo><DeviceId>{camera.id}</DeviceId><Name>{escape(camera.name)}</Name></CameraInfo>"
        for camera in site.known()
        if site.is_enabled(camera)
    )
    return _answer(
        site,
        "GetConfiguration",
        f"<Recorders><RecorderInfo><RecorderId>{site.recorder_id}</RecorderId>"
        f"<HostName>{escape(site.host)}</HostName><WebServerUri>{escape(site.web_server_uri)}</WebServerUri>"
        f"<Cameras>{cameras}</Cameras></RecorderInfo></Recorders>",
    )


def _answer(site: Site, operation: str, result: str) -> str:
    """In the default name space, or with a prefix at every name."""
    space = f'xmlns="{NAMESPACE}"'
    if site.assumptions.soap_prefixed:
        result = result.replace("</", "\0").replace("<", "<a:").replace("\0", "</a:")
        result = f'<{operation}Result xmlns:a="{NAMESPACE}" xmlns="{NAMESPACE}">{result}</{operation}Result>'
    else:
        result = f"<{operation}Result>{result}</{operation}Result>"
    return f"<{operation}Response {space}>{result}</{operation}Response>"


def _soap(body: str, status: int = 200) -> web.Response:
    text = f'<s:Envelope xmlns:s="{ENVELOPE}"><s:Body>{body}</s:Body></s:Envelope>'
    return web.Response(text=text, status=status, content_type="text/xml", charset="utf-8")
