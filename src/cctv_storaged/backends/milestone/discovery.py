"""What a management server tells before anyone logs in: its version, and where its parts are.

Tokens go only to the host of `milestone.url`: what an answer without log-in names may be anyone's, and a
Windows name that does not resolve from here as well. Its paths are believed where they are of that host.
"""

from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit

from cctv_storaged.backends.milestone.httpwire import Answer, Call, HttpWire
from cctv_storaged.backends.milestone.jsontree import Fields, parsed
from cctv_storaged.backends.milestone.refusals import failure, refusal_of
from cctv_storaged.errors import BackendUnavailable

_SMALL = 256 * 1024
_OAUTH_SINCE = 21  # major version of 2021 R1


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovered:
    """Addresses without a slash at the end."""

    version: str  # YY.R.build; empty where the server does not tell
    token_urls: tuple[str, ...]  # in the order to try them
    rest_url: str
    clock_skew: timedelta | None = None

    @property
    def release(self) -> tuple[int, int] | None:
        """(25, 2) for 2025 R2."""
        year, _, rest = self.version.partition(".")
        number = rest.partition(".")[0]
        return (int(year), int(number)) if year.isdecimal() and number.isdecimal() else None

    def before(self, year: int, number: int) -> bool:
        """Whether it is known to be older than the release."""
        return self.release is not None and self.release < (year, number)


async def discover(wire: HttpWire, url: str) -> Discovered:
    """`/api/.well-known/uris` (since 2022 R1), and the OIDC document where that is not there."""
    uris = await wire.exchange(
        Call(
            method="GET",
            url=f"{url}/api/.well-known/uris",
            doing="ask for XProtect's addresses",
            max_bytes=_SMALL,
        )
    )
    if uris.good:
        told = _told(uris)
        return _discovered(url, told.text("ProductVersion"), told, uris.clock_skew)
    if uris.status not in {404, 405}:
        raise failure("ask for XProtect's addresses", refusal_of(uris.status, None, uris.retry_after_s), "")
    return await _by_oidc(wire, url)


async def _by_oidc(wire: HttpWire, url: str) -> Discovered:
    call = Call(
        method="GET",
        url=f"{url}/idp/.well-known/openid-configuration",
        doing="ask for XProtect's identity provider",
        max_bytes=_SMALL,
    )
    answer = await wire.exchange(call)
    if not answer.good:
        raise BackendUnavailable(
            f"{url} is no XProtect management server with OAuth, which is in 2021 R1 and newer"
            f" (HTTP {answer.status}; see milestone.url)",
            reason="server",
        )
    told = _told(answer)
    found = _discovered(url, told.text("server_version"), Fields({}, ""), answer.clock_skew)
    if found.before(_OAUTH_SINCE, 0):
        raise BackendUnavailable(f"{url} is XProtect {found.version}: 2021 R1 is needed", reason="server")
    return found


def _told(answer: Answer) -> Fields:
    return Fields.of(parsed(answer.data, "ask for XProtect's addresses"), "the answer")


def _discovered(url: str, version: str, told: Fields, skew: timedelta | None) -> Discovered:
    gateway = next((each for each in told.values("ApiGateways") if _is_of(url, each)), "/api")
    path = urlsplit(str(gateway)).path.rstrip("/") if gateway != "/api" else "/api"
    return Discovered(
        version="".join(char for char in version[:40] if char.isalnum() or char in ".-"),
        token_urls=(f"{url}/API/IDP/connect/token", f"{url}/IDP/connect/token"),
        rest_url=f"{url}{path}/rest/v1",
        clock_skew=skew,
    )


def _is_of(url: str, named: object) -> bool:
    """Whether an address is below the one that is configured."""
    if not isinstance(named, str) or len(named) > 2048:
        return False
    try:
        ours, theirs = urlsplit(url), urlsplit(named)
        return (ours.scheme, ours.netloc.lower()) == (theirs.scheme, theirs.netloc.lower())
    except ValueError:
        return False
