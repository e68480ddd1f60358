"""The API as one application: its routes in one table, its middlewares in the order they are met."""

import asyncio
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from aiohttp import web
from aiohttp.typedefs import Handler as AiohttpHandler
from aiohttp.typedefs import Middleware

from cctv_storaged.access import Scope
from cctv_storaged.api import (
    asides,
    audit,
    cameras,
    capacity,
    clips,
    clock,
    content,
    events,
    exports,
    fleet,
    health,
    holds,
    keys,
    ledger,
    models,
    openapi,
    playback,
    problems,
    queue,
    queue_models,
    reconcile,
    report,
    retention,
    segment_models,
    segments,
    thumbnails,
    token_models,
    tokens,
)
from cctv_storaged.api import places as place_routes
from cctv_storaged.api.auth import Guard, require_host, require_own_site
from cctv_storaged.api.limits import places
from cctv_storaged.api.observing import Observer
from cctv_storaged.api.parsing import IDEMPOTENCY_HEADER, MOST_BODY_BYTES
from cctv_storaged.api.routing import PREFIX, Answer, Handler, Lane, Reach, Route
from cctv_storaged.api.services import Services
from cctv_storaged.api.sight import OutOfSight

CAMERA = f"{PREFIX}/cameras/{{camera_id}}"
SEGMENTS = f"{PREFIX}/segments/{{camera_id}}"
SEGMENT = f"{SEGMENTS}/{{segment_id}}"
TOKENS = f"{PREFIX}/tokens"
CONDITIONS = ("If-Match", "If-None-Match")
CONTENT_HEADERS = ("ETag", "Accept-Ranges", "Content-Disposition", content.ORIGIN, content.SPAN)
WHOLE_CONTENT = Answer(
    status=200, means="All of the bytes", media_type=content.MEDIA_TYPE, headers=CONTENT_HEADERS
)
SAME_CONTENT = Answer(status=304, means="As the client has it", media_type=None, headers=("ETag",))

_WRITTEN: Sequence[Route] = (
    Route(
        method="POST",
        path=f"{PREFIX}/segments",
        handler=segments.register,
        name="registerSegment",
        summary="Register a closed file as a segment; the same again is the same segment",
        scope=Scope.WRITE,
        reach=Reach.SIFTED,
        body=segment_models.NewSegmentBody,
        headers=(IDEMPOTENCY_HEADER,),
        answers=(
            Answer(status=201, means="Registered", model=segment_models.SegmentAnswer, headers=("Location",)),
            Answer(
                status=200,
                means="Registered before",
                model=segment_models.SegmentAnswer,
                headers=("Location",),
            ),
        ),
        problems=(problems.CONFLICT,),
    ),
    Route(
        method="GET",
        path=SEGMENTS,
        handler=segments.list_segments,
        name="listSegments",
        summary="Segments of a camera that overlap a span, oldest first",
        scope=Scope.READ,
        query=segment_models.SegmentsQuery,
        answers=(Answer(status=200, means="One page", model=segment_models.SegmentsAnswer),),
        problems=(problems.CATALOG_AWAY,),
    ),
    Route(
        method="GET",
        path=SEGMENT,
        handler=segments.show,
        name="showSegment",
        summary="One segment",
        scope=Scope.READ,
        answers=(Answer(status=200, means="The segment", model=segment_models.SegmentAnswer),),
    ),
    Route(
        method="DELETE",
        path=SEGMENT,
        handler=segments.delete,
        name="deleteSegment",
        summary="Delete a segment everywhere; what a backend cannot delete now follows by itself",
        scope=Scope.WRITE,
        answers=(
            Answer(status=204, means="Gone for everybody", media_type=None),
            Answer(
                status=200,
                means="Gone here, and what XProtect does with its own recordings of it",
                model=segment_models.DeletionAnswer,
            ),
        ),
        problems=(problems.CONFLICT,),
    ),
    Route(
        method="GET",
        path=f"{SEGMENT}/content",
        handler=content.content,
        name="segmentContent",
        summary="The segment's bytes, from the nearest good copy",
        scope=Scope.READ,
        lane=Lane.CONTENT,
        headers=(*CONDITIONS, "Range", "If-Range"),
        answers=(
            WHOLE_CONTENT,
            Answer(
                status=206,
                means="The range asked for",
                media_type=content.MEDIA_TYPE,
                headers=(*CONTENT_HEADERS, "Content-Range"),
            ),
            SAME_CONTENT,
        ),
        problems=(
            problems.PRECONDITION_FAILED,
            problems.RANGE_NOT_SATISFIABLE,
            problems.GONE,
            problems.BAD_COPY,
            problems.BACKEND_AWAY,
            problems.SOURCE_CHANGED,
            problems.NO_ROOM,
        ),
    ),
    Route(
        method="HEAD",
        path=f"{SEGMENT}/content",
        handler=content.content,
        name="segmentContentHeaders",
        summary="What GET would say of the bytes",
        scope=Scope.READ,
        headers=CONDITIONS,
        answers=(WHOLE_CONTENT, SAME_CONTENT),
        problems=(
            problems.PRECONDITION_FAILED,
            problems.GONE,
            problems.BAD_COPY,
            problems.BACKEND_AWAY,
            problems.NO_ROOM,
        ),
    ),
    *playback.ROUTES,
    *clips.ROUTES,
    *thumbnails.ROUTES,
    *exports.ROUTES,
    *holds.ROUTES,
    *keys.ROUTES,
    *place_routes.ROUTES,
    *clock.ROUTES,
    *ledger.ROUTES,
    *audit.ROUTES,
    *reconcile.ROUTES,
    *report.ROUTES,
    *capacity.ROUTES,
    *retention.ROUTES,
    *fleet.ROUTES,
    Route(
        method="GET",
        path=f"{PREFIX}/cameras",
        handler=cameras.list_cameras,
        name="listCameras",
        summary="Every camera, by name",
        scope=Scope.READ,
        reach=Reach.SIFTED,
        answers=(Answer(status=200, means="The cameras", model=models.CamerasAnswer),),
    ),
    Route(
        method="GET",
        path=CAMERA,
        handler=cameras.show,
        name="showCamera",
        summary="One camera",
        scope=Scope.READ,
        answers=(Answer(status=200, means="The camera", model=models.CameraAnswer),),
    ),
    Route(
        method="GET",
        path=f"{CAMERA}/coverage",
        handler=cameras.coverage,
        name="cameraCoverage",
        summary="Where a camera's footage exists, and where not and why",
        scope=Scope.READ,
        lane=Lane.HEAVY,
        query=models.SpanQuery,
        answers=(Answer(status=200, means="Spans and gaps", model=models.CoverageAnswer),),
    ),
    Route(
        method="GET",
        path=f"{PREFIX}/queue",
        handler=queue.show,
        name="showQueue",
        summary="What is undelivered where, and why",
        scope=Scope.READ,
        answers=(Answer(status=200, means="The queue", model=queue_models.QueueAnswer),),
    ),
    Route(
        method="POST",
        path=f"{PREFIX}/queue/retry",
        handler=queue.retry,
        name="retryQueue",
        summary="Try failed copies again, or a camera's footage before everything else",
        scope=Scope.WRITE,
        reach=Reach.SIFTED,
        body=queue_models.RetryBody,
        body_required=False,
        answers=(Answer(status=200, means="How many are due again", model=queue_models.RetryAnswer),),
        problems=(problems.NOT_FOUND,),
    ),
    Route(
        method="GET",
        path=f"{PREFIX}/set-aside",
        handler=asides.list_files,
        name="listSetAside",
        summary="Files that are no segments, with the reason, newest first",
        scope=Scope.READ,
        query=queue_models.SetAsideQuery,
        answers=(Answer(status=200, means="One page", model=queue_models.SetAsideAnswer),),
    ),
    Route(
        method="GET",
        path=f"{PREFIX}/events",
        handler=events.events,
        name="events",
        summary="Events as they happen, without an end (server-sent events of EventAnswer)",
        scope=Scope.READ,
        reach=Reach.SIFTED,
        lane=Lane.EVENTS,
        query=models.EventsQuery,
        answers=(Answer(status=200, means="The stream", media_type="text/event-stream"),),
        problems=(problems.NOT_FOUND,),
    ),
    Route(
        method="GET",
        path=TOKENS,
        handler=tokens.list_tokens,
        name="listTokens",
        summary="Every token, without its secret",
        scope=Scope.ADMIN,
        answers=(Answer(status=200, means="The tokens", model=token_models.TokensAnswer),),
    ),
    Route(
        method="POST",
        path=TOKENS,
        handler=tokens.create,
        name="createToken",
        summary="Make a token; its secret is told in this answer and never again",
        scope=Scope.ADMIN,
        body=token_models.NewTokenBody,
        headers=(IDEMPOTENCY_HEADER,),
        answers=(
            Answer(status=201, means="Made", model=token_models.NewTokenAnswer, headers=("Location",)),
            Answer(status=200, means="Made before", model=token_models.NewTokenAnswer, headers=("Location",)),
        ),
        problems=(problems.CONFLICT,),
    ),
    Route(
        method="DELETE",
        path=f"{TOKENS}/{{token_id}}",
        handler=tokens.revoke,
        name="revokeToken",
        summary="Revoke a token, at once",
        scope=Scope.ADMIN,
        answers=(Answer(status=204, means="It opens nothing any more", media_type=None),),
    ),
    Route(
        method="GET",
        path="/health",
        handler=health.health,
        name="health",
        summary="Whether the process lives",
        scope=None,
        reach=Reach.NEUTRAL,
        lane=Lane.FREE,
        answers=(Answer(status=200, means="It does", model=models.HealthAnswer),),
    ),
    Route(
        method="GET",
        path="/ready",
        handler=health.ready,
        name="ready",
        summary="Whether the daemon does its work, part by part; absent backends do not count",
        scope=None,
        lane=Lane.FREE,
        answers=(
            Answer(status=200, means="It does", model=models.ReadyAnswer),
            Answer(status=503, means="An essential part is in trouble", model=models.ReadyAnswer),
        ),
    ),
    Route(
        method="GET",
        path="/metrics",
        handler=health.metrics,
        name="metrics",
        summary="Metrics in Prometheus' text format",
        scope=None,
        lane=Lane.FREE,
        answers=(Answer(status=200, means="The metrics", media_type="text/plain"),),
    ),
    Route(
        method="GET",
        path="/openapi.json",
        handler=openapi.show,
        name="openapi",
        summary="This document",
        scope=None,
        reach=Reach.NEUTRAL,
        lane=Lane.FREE,
        answers=(Answer(status=200, means="OpenAPI 3.1"),),
    ),
)


def _named_as_files(routes: Sequence[Route]) -> Iterator[Route]:
    """A segment's bytes under a name that says what they are: ffmpeg's players fetch no others."""
    for route in routes:
        if route.path == f"{SEGMENT}/content":
            summary = f"{route.summary}; by the name that playlists give them"
            yield replace(route, path=f"{route.path}.ts", name=f"{route.name}AsTs", summary=summary)


def _heads(routes: Sequence[Route]) -> Iterator[Route]:
    """HEAD wherever there is GET (RFC 9110, 9.1): what answers a probe by one answers it by the other."""
    written = {route.path for route in routes if route.method == "HEAD"}
    for route in routes:
        if route.method == "GET" and route.lane is not Lane.EVENTS and route.path not in written:
            answers = tuple(replace(each, model=None, media_type=None) for each in route.answers)
            summary = "What GET would say, without the body"
            yield replace(route, method="HEAD", name=f"{route.name}Headers", summary=summary, answers=answers)


_ALL = (*_WRITTEN, *_named_as_files(_WRITTEN))
ROUTES: Sequence[Route] = (*_ALL, *_heads(_ALL))


def build_app(services: Services) -> web.Application:
    """The application over these services; it starts nothing and owns none of them."""
    guard = Guard(services.settings.api, services.access, services.clock)
    routes: dict[web.AbstractRoute, Route] = {}
    observer = Observer(routes, services.metrics, services.clock)
    app = web.Application(
        client_max_size=MOST_BODY_BYTES,
        middlewares=(observer.counting, observer.telling, _door(guard, services, routes), _places(routes)),
    )
    app.on_response_prepare.append(observer.prepare)
    app[events.STOPPING] = asyncio.Event()
    app[tokens.MAKING] = asyncio.Lock()
    app[openapi.DOCUMENT] = openapi.document(ROUTES)
    app.on_shutdown.append(_end_streams)
    for route in ROUTES:
        added = app.router.add_route(
            route.method, _with_patterns(route.path), _bound(route.handler, services)
        )
        routes[added] = route
    return app


def _door(guard: Guard, services: Services, routes: dict[web.AbstractRoute, Route]) -> Middleware:
    @web.middleware
    async def admitted(request: web.Request, handler: AiohttpHandler) -> web.StreamResponse:
        require_host(request, loopback=guard.open)
        if request.match_info.http_exception is not None:
            guard.lost(request)
            return await handler(request)  # no such path or method, which the handler says
        require_own_site(request)
        route = routes.get(request.match_info.route)
        if route is None:
            raise problems.Refusal(problems.FORBIDDEN, "this is open to nobody")
        try:
            await guard.admit(request, route)
        except (problems.Refusal, OutOfSight) as exc:
            await audit.tell_refused(request, services, route, exc)
            raise
        try:
            response = await handler(request)
        except OutOfSight as exc:
            await audit.tell_refused(request, services, route, exc)
            raise
        await audit.tell_changed(request, services, route, response)
        return response

    return admitted


def _places(routes: dict[web.AbstractRoute, Route]) -> Middleware:
    limits = places()

    @web.middleware
    async def placed(request: web.Request, handler: AiohttpHandler) -> web.StreamResponse:
        route = routes.get(request.match_info.route)
        limit = None if route is None else limits.get(route.lane)
        if limit is None:
            return await handler(request)
        with limit.taken_by(request.remote or ""):
            return await handler(request)

    return placed


def _bound(handler: Handler, services: Services) -> AiohttpHandler:
    async def handle(request: web.Request) -> web.StreamResponse:
        return await handler(request, services)

    return handle


def _with_patterns(path: str) -> str:
    """Ids in paths are UUIDs: what is none names another resource, or none."""
    return re.sub(r"{(\w+)}", rf"{{\1:{models.UUID_PATTERN}}}", path)


async def _end_streams(app: web.Application) -> None:
    app[events.STOPPING].set()
