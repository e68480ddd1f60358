"""Every request has an id, a line in the log and a place in the metrics, however it ends."""

import logging
import re
import secrets
from collections.abc import Mapping

from aiohttp import web
from aiohttp.typedefs import Handler

from cctv_storaged.api.problems import INTERNAL, Problem, problem_of, response_to
from cctv_storaged.api.routing import Route
from cctv_storaged.clock import Clock
from cctv_storaged.errors import StoragedError
from cctv_storaged.logs import context
from cctv_storaged.metrics import Metrics

log = logging.getLogger(__name__)

ID_HEADER = "X-Request-Id"
REQUEST_ID = web.RequestKey("request_id", str)
BEGUN = web.RequestKey("begun", tuple[int, float])
"""The status of a streamed answer, and the monotonic time at which it went out."""
CLIENT_LEFT = 499
"""Counted where a client left before it was answered, as nginx does."""
UNMATCHED = "unmatched"
REFUSED_AT_THE_DOOR = frozenset({401, 403, 421, 429})
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


class Observer:
    """Two middlewares: the outermost counts, the next one turns exceptions into problems."""

    def __init__(self, routes: Mapping[web.AbstractRoute, Route], metrics: Metrics, clock: Clock) -> None:
        self._routes = routes
        self._metrics = metrics
        self._clock = clock

    @web.middleware
    async def counting(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get(ID_HEADER, "")
        request_id = given if _ID.fullmatch(given) else new_id()
        request[REQUEST_ID] = request_id
        named = context.REQUEST_ID.set(request_id)
        started, status = self._clock.monotonic(), CLIENT_LEFT
        try:
            response = await handler(request)
            status = response.status
            return response
        finally:
            status, ended = request.get(BEGUN, (status, self._clock.monotonic()))
            self._count(request, status, ended - started)
            context.REQUEST_ID.reset(named)

    @web.middleware
    async def telling(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except (
            Exception
        ) as exc:  # the item boundary of the API: one odd request must not end the connection's task
            if isinstance(exc, ConnectionError) and _has_left(request):
                raise
            if request.writer.output_size > 0:
                raise _broken_off(request, exc) from exc
            problem = problem_of(exc)
            _log_problem(request, problem, exc)
            return response_to(problem, request[REQUEST_ID])

    async def prepare(self, request: web.Request, response: web.StreamResponse) -> None:
        """Just before a status goes out, streamed or not."""
        request[BEGUN] = response.status, self._clock.monotonic()
        response.headers[ID_HEADER] = request.get(REQUEST_ID, "")
        brand(response)

    def _count(self, request: web.Request, status: int, elapsed_s: float) -> None:
        route = self._routes.get(request.match_info.route)
        template = UNMATCHED if route is None else route.path
        method = request.method if request.method in METHODS else "other"
        self._metrics.http_requests.labels(template, method, str(status)).observe(max(0.0, elapsed_s))
        quiet = method in ("GET", "HEAD") and status < 500 and status not in REFUSED_AT_THE_DOOR
        level = logging.DEBUG if quiet else logging.INFO
        if log.isEnabledFor(level):
            log.log(
                level,
                "%s %s → %d",
                method,
                request.path,
                status,
                extra={**_fields(request), "status": status, "seconds": round(elapsed_s, 6)},
            )


def new_id() -> str:
    """Where the client has none of its own."""
    return secrets.token_hex(8)


def brand(response: web.StreamResponse) -> None:
    """Headers that every answer has."""
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Server"] = "cctv-storaged"


def _has_left(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


def _broken_off(request: web.Request, error: Exception) -> ConnectionResetError:
    """A body that cannot be finished must not look finished: the connection goes."""
    known = isinstance(error, StoragedError | TimeoutError | OSError)
    log.log(
        logging.WARNING if known else logging.ERROR,
        "answer broken off: %s: %s",
        type(error).__name__,
        error,
        exc_info=None if known else error,
        extra=_fields(request),
    )
    if request.transport is not None:
        request.transport.abort()
    return ConnectionResetError("the answer was broken off")


def _log_problem(request: web.Request, problem: Problem, error: Exception) -> None:
    if problem.kind is INTERNAL:
        log.error("request failed: %s", type(error).__name__, exc_info=error, extra=_fields(request))
    elif problem.kind.status >= 500:
        log.warning("request refused: %s", error, extra=_fields(request))


def _fields(request: web.Request) -> dict[str, str | None]:
    return {
        "request_id": request.get(REQUEST_ID, ""),
        "method": request.method,
        "path": request.path,
        "remote": request.remote,
    }
