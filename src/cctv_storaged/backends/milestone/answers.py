"""What all parts say when an XProtect server cannot be reached, or answers what cannot be read."""

import socket
import ssl

from cctv_storaged.errors import BackendUnavailable

LONGEST_WORDS = 300


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
    return BackendUnavailable(f"{doing}: {trouble(exc)}", reason="network")


def plain(text: str, *secrets: str) -> str:
    """A server's words on one line, not too long, and without the tokens that it may repeat."""
    for secret in filter(None, secrets):
        text = text.replace(secret, "***")
    return "".join(char if char.isprintable() else " " for char in text[:LONGEST_WORDS]).strip()


def trouble(exc: BaseException) -> str:
    """What went wrong with a connection, and what mends it."""
    cause: BaseException | None = exc
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError) and hasattr(cause, "verify_message"):
            return (
                f"its certificate is refused: {plain(cause.verify_message)} (give the CA by ca_file or "
                "recorder_ca_file, and for recording servers the certificate's name by recorder_server_name)"
            )
        if isinstance(cause, socket.gaierror | UnicodeError):
            return "its name does not resolve (for a recording server see recorder_host_override)"
        cause = cause.__cause__ or cause.__context__
    if isinstance(exc, TimeoutError):
        return "no answer in time"
    if isinstance(exc, ssl.SSLError):
        return f"no TLS: {plain(getattr(exc, 'reason', None) or str(exc))}"  # aiohttp's own has no reason
    return plain(str(exc)) or type(exc).__name__
