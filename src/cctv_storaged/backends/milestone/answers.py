"""What all parts say when an XProtect server cannot be reached, or answers what cannot be read."""

import re
import socket
import ssl
from collections.abc import Iterator

from cctv_storaged.errors import BackendUnavailable

LONGEST_WORDS = 300
_AIOHTTPS_TLS = re.compile(r" ssl:(?:<[^>]*>|\S+)")  # it stands in messages about plain HTTP too


class Unreadable(BackendUnavailable):
    """The answer is not what the protocol says: another program, a fault on its side, or a limit of ours."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="server")


class TokenRefused(BackendUnavailable):
    """The token that was shown is not accepted (any more): a fresh one may be."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="auth")


def unreachable(doing: str, exc: BaseException) -> BackendUnavailable:
    """Our error for a connection that failed while `doing` ("connect to HOST")."""
    reason = "network" if _refused_certificate(exc) is None else "tls"
    return BackendUnavailable(f"{doing}: {trouble(exc)}", reason=reason)


def plain(text: str, *secrets: str) -> str:
    """A server's words on one line, not too long, and without the tokens that it may repeat."""
    for secret in filter(None, secrets):
        text = text.replace(secret, "***")
    return "".join(char if char.isprintable() else " " for char in text[:LONGEST_WORDS]).strip()


def trouble(exc: BaseException) -> str:
    """What went wrong with a connection, and what mends it."""
    refused = _refused_certificate(exc)
    if refused is not None:
        return (
            f"its certificate is refused: {plain(refused.verify_message)} (give the CA by ca_file or "
            "recorder_ca_file, and for recording servers the certificate's name by recorder_server_name)"
        )
    if any(isinstance(each, socket.gaierror | UnicodeError) for each in _causes(exc)):
        return "its name does not resolve (for a recording server see recorder_host_override)"
    if isinstance(exc, TimeoutError):
        return "no answer in time"
    if isinstance(exc, ssl.SSLError):
        return f"no TLS: {plain(getattr(exc, 'reason', None) or str(exc))}"  # aiohttp's own has no reason
    return plain(_AIOHTTPS_TLS.sub("", str(exc))) or type(exc).__name__


def _refused_certificate(exc: BaseException) -> ssl.SSLCertVerificationError | None:
    for each in _causes(exc):
        if isinstance(each, ssl.SSLCertVerificationError) and hasattr(each, "verify_message"):
            return each
    return None


def _causes(exc: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = exc
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
