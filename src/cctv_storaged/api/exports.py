"""Exports: ask for one, watch it, fetch it, cancel or delete it."""

import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial

from aiohttp import web

from cctv_storaged.access import Scope
from cctv_storaged.api import problems
from cctv_storaged.api.auth import TOKEN, TOKEN_NAME
from cctv_storaged.api.export_models import (
    ExportAnswer,
    ExportManifestAnswer,
    ExportsAnswer,
    ExportsQuery,
    NewExportBody,
)
from cctv_storaged.api.exportjson import export_json
from cctv_storaged.api.observing import REQUEST_ID
from cctv_storaged.api.parsing import (
    IDEMPOTENCY_HEADER,
    body_bytes,
    idempotency_key,
    parsed,
    path_id,
    query_of,
)
from cctv_storaged.api.problems import Refusal
from cctv_storaged.api.rendering import Json, answer
from cctv_storaged.api.routing import PREFIX, Answer, Lane, Reach, Route
from cctv_storaged.api.sending import Part, asked_range, matches, named, requested_part, send
from cctv_storaged.api.services import Services
from cctv_storaged.api.sifting import page_of
from cctv_storaged.api.sight import hiding_holds, sight_of
from cctv_storaged.auditing.fetches import Fetched, Fetcher
from cctv_storaged.backends.base import Presigning
from cctv_storaged.errors import BackendError, Conflict, JournalFull, NotFound, ObjectMismatch, ObjectMissing
from cctv_storaged.exporting.request import Wish
from cctv_storaged.journal.exportrows import Export, ExportResult, ExportStatus
from cctv_storaged.journal.idempotency import RepeatKey
from cctv_storaged.journal.tokens import Token

log = logging.getLogger(__name__)

CREATE = "POST /exports"
EXPORTS = f"{PREFIX}/exports"
EXPORT = f"{EXPORTS}/{{export_id}}"
PRESIGNED_FOR = timedelta(minutes=15)


# Ask


async def create(request: web.Request, services: Services) -> web.StreamResponse:
    key = idempotency_key(request)
    raw = await body_bytes(request)
    sight = sight_of(request)
    if sight.limited:
        sight.require_named(parsed(raw, NewExportBody).camera_ids)
    repeat = None if key is None else RepeatKey(route=CREATE, key=key, request=hashlib.sha256(raw).digest())
    if repeat is not None and (earlier := await services.journal.exports.made_by(repeat)) is not None:
        return await _made(earlier, request, services, status=200)
    made = await services.exporting.create(_wish(parsed(raw, NewExportBody), request), repeat)
    return await _made(made, request, services, status=202)


def _wish(body: NewExportBody, request: web.Request) -> Wish:
    return Wish(
        camera_ids=tuple(body.camera_ids),
        start=body.start_time,
        end=body.end_time,
        format=body.format,
        reason=body.reason,
        case_id=body.case_id,
        created_by=body.created_by or request.get(TOKEN_NAME),
        precise=body.precise,
        package=body.package,
    )


async def _made(
    export: Export, request: web.Request, services: Services, *, status: int
) -> web.StreamResponse:
    headers = {"Location": f"{EXPORTS}/{export.id}"}
    return answer(await _json(export, request, services), status=status, headers=headers)


# Watch


async def list_exports(request: web.Request, services: Services) -> web.StreamResponse:
    query = query_of(request, ExportsQuery)
    sight = sight_of(request)

    async def fetch(limit: int, after: int | None) -> tuple[Sequence[Export], int | None]:
        page = await services.journal.exports.page(limit, after, query.status)
        return page.exports, page.next

    def sees(export: Export) -> bool:
        return sight.sees_all(export.request.camera_ids)

    found, following = await page_of(fetch, sees, sight, query.limit, query.cursor)
    exports = [await _json(export, request, services) for export in found]
    return answer({"exports": exports, "next_cursor": following})


async def show(request: web.Request, services: Services) -> web.StreamResponse:
    return answer(await _json(await _export_of(request, services), request, services))


async def _export_of(request: web.Request, services: Services) -> Export:
    """The export that the path names. Raises NotFound."""
    export_id = path_id(request, "export_id")
    export = await services.journal.exports.by_id(export_id)
    if export is None or not sight_of(request).sees_all(export.request.camera_ids):
        raise NotFound(f"no export {export_id} on this host")
    return export


async def _json(export: Export, request: web.Request, services: Services) -> dict[str, Json]:
    now = services.clock.now()
    return export_json(export, now, await _download_url(export, now, request, services))


async def _download_url(
    export: Export, now: datetime, request: web.Request, services: Services
) -> str | None:
    """Where its file is to be had now; made afresh each time, as it opens the file to whoever has it.

    The ledger tells of a store's address that goes out: what is fetched by it we do not see.
    """
    if export.result is None or export.expires_at is None or export.expired(now):
        return None
    store = services.exports_store
    if services.settings.exports.download == "presigned" and isinstance(store, Presigning):
        life = min(PRESIGNED_FOR, export.expires_at - now)
        try:
            url = await store.presign(
                export.result.path, max(1, int(life.total_seconds())), export.result.file_name
            )
            if request.method != "HEAD":
                fetches = services.upkeep.auditing.fetches
                await fetches.tell(export, Fetched.URL, _fetcher(request), request=request.get(REQUEST_ID))
            return url
        except (BackendError, JournalFull) as exc:
            log.warning("no URLs are given out, clients are sent to this API: %s", exc)
    return f"{EXPORTS}/{export.id}/download"


# Fetch


async def download(request: web.Request, services: Services) -> web.StreamResponse:
    export = await _export_of(request, services)
    result = _fetchable(export, services.clock.now())
    headers = {
        "ETag": f'"{result.sha256}"',
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Content-Disposition": named("attachment", result.file_name),
    }
    if request.if_match is not None and not matches(request.if_match, result.sha256, weak=False):
        raise Refusal(problems.PRECONDITION_FAILED, "the file's ETag is none of those in If-Match")
    if request.if_none_match is not None and matches(request.if_none_match, result.sha256, weak=True):
        return web.Response(status=304, headers=headers)
    part = requested_part(asked_range(request, result.sha256), result.size_bytes)
    if part is not None:
        headers["Content-Range"] = f"bytes {part.start}-{part.start + part.length - 1}/{result.size_bytes}"
    response = web.StreamResponse(status=200 if part is None else 206, headers=headers)
    response.content_type = result.media_type
    wanted = part or Part(0, result.size_bytes)
    response.content_length = wanted.length
    if request.method == "HEAD":
        return response
    tell = partial(services.upkeep.auditing.fetches.tell, whole=part is None, request=request.get(REQUEST_ID))
    async with _opened(result, result.path, services, wanted.start, wanted.length) as blocks:
        wrong = ObjectMismatch(f"the store gave other than {wanted.length} bytes of export {export.id}")
        told = _once_told(blocks, partial(tell, export, Fetched.FILE, _fetcher(request)))
        return await send(request, response, told, wanted.length, wrong)


async def manifest(request: web.Request, services: Services) -> web.StreamResponse:
    export = await _export_of(request, services)
    result = _fetchable(export, services.clock.now())
    response = web.StreamResponse(headers={"Cache-Control": "private, no-cache"})
    response.content_type = "application/json"
    if request.method == "HEAD":
        return response
    tell = partial(services.upkeep.auditing.fetches.tell, whole=True, request=request.get(REQUEST_ID))
    async with _opened(result, result.manifest_path, services) as blocks:
        told = _once_told(blocks, partial(tell, export, Fetched.MANIFEST, _fetcher(request)))
        return await send(request, response, told)


def _fetcher(request: web.Request) -> Fetcher:
    token: Token | None = request.get(TOKEN)
    token_id = None if token is None else token.id
    return Fetcher(token=request.get(TOKEN_NAME), address=request.remote, token_id=token_id)


async def _once_told(
    blocks: AsyncIterator[bytes], tell: Callable[[], Awaitable[None]]
) -> AsyncIterator[bytes]:
    """The blocks; the ledger knows before the first one goes, and not where there is none to be had."""
    is_told = False
    async for block in blocks:
        if not is_told:
            await tell()
            is_told = True
        yield block


@asynccontextmanager
async def _opened(
    result: ExportResult, path: str, services: Services, start: int = 0, length: int | None = None
) -> AsyncIterator[AsyncIterator[bytes]]:
    """What lies under the path. Raises Conflict where the settings name another store since, BackendError."""
    store = services.exports_store
    try:
        async with store.open(path, start, length) as blocks:
            yield blocks
    except ObjectMissing as exc:
        if result.place in (None, store.place):
            raise
        told = f"the file was put into {result.place}, and exports are kept in {store.place} now"
        raise Conflict(f"{told}: name the former store again, or move the file along") from exc


def _fetchable(export: Export, now: datetime) -> ExportResult:
    """What is to be fetched. Raises Conflict where there is nothing yet, or never will be, and Refusal."""
    if export.expired(now):
        raise Refusal(problems.GONE, f"export {export.id} has expired: ask for another one")
    if export.result is None or export.status is not ExportStatus.COMPLETED:
        why = f" ({export.error})" if export.error else ""
        raise Conflict(f"export {export.id} is {export.status}{why}: there is a file once it is COMPLETED")
    return export.result


# Cancel, delete


async def delete(request: web.Request, services: Services) -> web.StreamResponse:
    if sight_of(request).limited:
        await _export_of(request, services)
    with hiding_holds(sight_of(request)):
        await services.exporting.delete(path_id(request, "export_id"))
    return web.Response(status=204)


_FILE_HEADERS = ("ETag", "Accept-Ranges", "Content-Disposition")
_FILE_PROBLEMS = (problems.CONFLICT, problems.GONE, problems.BAD_COPY, problems.BACKEND_AWAY)
_CONDITIONS = ("If-Match", "If-None-Match")
ANY_TYPE = "*/*"
"""That of the format, or a ZIP's."""
_SAME = Answer(status=304, means="As the client has it", media_type=None, headers=("ETag",))

ROUTES: Sequence[Route] = (
    Route(
        method="POST",
        path=EXPORTS,
        handler=create,
        name="createExport",
        summary="Ask for an export; it is made when its turn comes",
        scope=Scope.EXPORT,
        reach=Reach.SIFTED,
        body=NewExportBody,
        headers=(IDEMPOTENCY_HEADER,),
        answers=(
            Answer(status=202, means="It waits for its turn", model=ExportAnswer, headers=("Location",)),
            Answer(status=200, means="Asked for before", model=ExportAnswer, headers=("Location",)),
        ),
        problems=(problems.CONFLICT, problems.NO_ROOM),
    ),
    Route(
        method="GET",
        path=EXPORTS,
        handler=list_exports,
        name="listExports",
        summary="Exports, newest first",
        scope=Scope.EXPORT,
        reach=Reach.SIFTED,
        query=ExportsQuery,
        answers=(Answer(status=200, means="One page", model=ExportsAnswer),),
    ),
    Route(
        method="GET",
        path=EXPORT,
        handler=show,
        name="showExport",
        summary="One export and how far it is",
        scope=Scope.EXPORT,
        reach=Reach.SIFTED,
        answers=(Answer(status=200, means="The export", model=ExportAnswer),),
    ),
    Route(
        method="GET",
        path=f"{EXPORT}/download",
        handler=download,
        name="downloadExport",
        summary="The export's file, once it is COMPLETED",
        scope=Scope.EXPORT,
        reach=Reach.SIFTED,
        lane=Lane.CONTENT,
        headers=(*_CONDITIONS, "Range", "If-Range"),
        answers=(
            Answer(status=200, means="All of the file", media_type=ANY_TYPE, headers=_FILE_HEADERS),
            Answer(
                status=206,
                means="The range asked for",
                media_type=ANY_TYPE,
                headers=(*_FILE_HEADERS, "Content-Range"),
            ),
            _SAME,
        ),
        problems=(*_FILE_PROBLEMS, problems.PRECONDITION_FAILED, problems.RANGE_NOT_SATISFIABLE),
    ),
    Route(
        method="HEAD",
        path=f"{EXPORT}/download",
        handler=download,
        name="downloadExportHeaders",
        summary="What GET would say of the file",
        scope=Scope.EXPORT,
        reach=Reach.SIFTED,
        headers=_CONDITIONS,
        answers=(
            Answer(status=200, means="All of the file", media_type=ANY_TYPE, headers=_FILE_HEADERS),
            _SAME,
        ),
        problems=(problems.CONFLICT, problems.GONE, problems.PRECONDITION_FAILED),
    ),
    Route(
        method="GET",
        path=f"{EXPORT}/manifest",
        handler=manifest,
        name="exportManifest",
        summary="Everything that is known of an export, once it is COMPLETED",
        scope=Scope.EXPORT,
        reach=Reach.SIFTED,
        lane=Lane.CONTENT,
        answers=(Answer(status=200, means="The manifest", model=ExportManifestAnswer),),
        problems=_FILE_PROBLEMS,
    ),
    Route(
        method="DELETE",
        path=EXPORT,
        handler=delete,
        name="deleteExport",
        summary="Cancel an export that is not over, or delete one that is, with its file",
        scope=Scope.EXPORT,
        reach=Reach.SIFTED,
        answers=(Answer(status=204, means="Cancelled or gone", media_type=None),),
        problems=(problems.CONFLICT,),
    ),
)
