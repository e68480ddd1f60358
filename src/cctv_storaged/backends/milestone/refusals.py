"""What a refusal of XProtect's REST means for us. Pure; `failure` is the one table.

Its body comes in two shapes, both published: `{"error": {"httpCode": …, "details": […]}, "params": {…}}`, and
the same object without the wrapper; `httpCode` is a number or a string (MIP VMS Config API).
"""

from dataclasses import dataclass

from cctv_storaged.backends.milestone.jsontree import Fields
from cctv_storaged.errors import (
    BackendError,
    BackendThrottled,
    BackendUnavailable,
    ObjectMissing,
    ObjectRejected,
)

_DETAILS_MAX = 5
_AWAY = {  # status: reason, hint
    401: ("auth", "the log-in is not accepted"),
    404: ("server", "there is no API Gateway: see milestone.url"),  # where the API did not say it itself
    408: ("network", ""),
    500: ("server", ""),
    502: ("server", "while the gateway is recycled, about once a day, it answers so for a moment"),
    503: ("server", ""),
    504: ("server", ""),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A server's no."""

    status: int
    told: bool = False  # by the API itself: its error object, and not somebody's page
    texts: tuple[str, ...] = ()
    names: tuple[str, ...] = ()  # fields or parameters that are to blame
    retry_after_s: float | None = None


class Refused(ObjectRejected):
    """The request was understood and is not carried out (400, 405, 409, 422, …)."""

    def __init__(self, message: str, refusal: Refusal) -> None:
        self.refusal = refusal
        super().__init__(message)


class NotThere(ObjectMissing):
    """The API knows nothing under this path, or not this path (404)."""

    def __init__(self, message: str, refusal: Refusal) -> None:
        self.refusal = refusal
        super().__init__(message)


class Forbidden(BackendUnavailable):
    """The user may not (403)."""

    def __init__(self, message: str, refusal: Refusal) -> None:
        self.refusal = refusal
        super().__init__(message, reason="auth")


def blames_nothing(exc: Refused | NotThere | Forbidden) -> bool:
    """Whether it names no field that could be put right: then it is the edition, the version or a role."""
    said = " ".join(exc.refusal.texts).lower()
    return not exc.refusal.names or any(word in said for word in ("licen", "edition", "not supported"))


def refusal_of(status: int, body: Fields | None, retry_after_s: float | None = None) -> Refusal:
    """From the status and the body, where that is a JSON object."""
    if body is None:
        return Refusal(status=status, retry_after_s=retry_after_s)
    error = body.inner("error") or body
    details = (error.each("details") or ())[:_DETAILS_MAX]
    params = body.inner("params")
    return Refusal(
        status=status,
        told=error.has("httpCode") or bool(details),
        texts=tuple(filter(None, (detail.text("errorText") for detail in details))),
        names=tuple(filter(None, (detail.text("property") for detail in details)))
        + (params.names()[:_DETAILS_MAX] if params else ()),
        retry_after_s=retry_after_s,
    )


def told_status(body: Fields) -> int | None:
    """The status of an error object that came with a good one."""
    error = body.inner("error")
    code = error.number("httpCode") if error is not None else None
    return int(code) if code is not None and 400 <= code < 600 else None


def failure(doing: str, refusal: Refusal, words: str) -> BackendError:
    """Our error for it; `words` is what the server said, fit to be repeated."""
    text = f"{doing}: HTTP {refusal.status}{f': {words}' if words else ''}"
    match refusal.status:
        case 403:
            return Forbidden(f"{text} (the user's role lacks a right)", refusal)
        case 404 if refusal.told:
            return NotThere(text, refusal)
        case 429:
            return BackendThrottled(text, retry_after_s=refusal.retry_after_s)
        case status if 300 <= status < 400 or status in _AWAY:
            reason, hint = _AWAY.get(status, ("server", "it sends elsewhere, where no token is taken to"))
            return BackendUnavailable(f"{text}{f' ({hint})' if hint else ''}", reason=reason)
        case _:
            return Refused(text, refusal)
