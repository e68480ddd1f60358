"""The ledger: its lines in pages, its end, and all of it as a file that others can prove."""

import asyncio
from collections.abc import Sequence

from aiohttp import web

from cctv_storaged.access import Scope
from cctv_storaged.api import problems
from cctv_storaged.api.ledger_models import (
    LedgerAnswer,
    LedgerExportQuery,
    LedgerHeadAnswer,
    LedgerQuery,
)
from cctv_storaged.api.parsing import query_of
from cctv_storaged.api.rendering import Json, answer
from cctv_storaged.api.routing import PREFIX, Answer, Lane, Route
from cctv_storaged.api.sending import STALL_S
from cctv_storaged.api.services import Services
from cctv_storaged.auditing.lines import written
from cctv_storaged.clock import from_us, rfc3339, rfc3339_us
from cctv_storaged.errors import NotFound
from cctv_storaged.journal.chain import BoundLine
from cctv_storaged.journal.ledgerlines import LedgerEnd, Sift

LEDGER = f"{PREFIX}/ledger"
NDJSON = "application/x-ndjson"


async def show(request: web.Request, services: Services) -> web.StreamResponse:
    query = query_of(request, LedgerQuery)
    sift = Sift(camera_id=query.camera_id, kind=query.kind)
    page = await services.upkeep.auditing.reader.page(query.after, query.limit, sift)
    return answer({"lines": [_line_json(bound) for bound in page.lines], "next_after": page.next})


async def head(request: web.Request, services: Services) -> web.StreamResponse:
    end = await _end(services)
    known = await services.upkeep.auditing.heads.remembered()
    return answer(
        {
            "no": end.no,
            "hash": end.hash.hex(),
            "at": rfc3339(services.clock.now()),
            "host": services.journal.host_id,
            "chain": end.chain,
            "archived": end.archived,
            "signed": None if known is None else known.document,
            "signed_path": None if known is None else known.path,
            "signed_is_stored": known is not None and known.stored,
        }
    )


async def export(request: web.Request, services: Services) -> web.StreamResponse:
    """Up to the line that was the last when it was asked for; a connection that breaks off shows that."""
    query = query_of(request, LedgerExportQuery)
    end = await _end(services)
    response = web.StreamResponse(
        headers={"Cache-Control": "no-store", "Content-Disposition": _disposition(services, end)}
    )
    response.content_type = NDJSON
    if request.method == "HEAD":
        return response
    async for batch in services.upkeep.auditing.reader.all(query.after, end.no):
        text = await asyncio.to_thread(_text, batch)
        if not response.prepared:  # not before there is something: else it is told as a problem
            await response.prepare(request)
        async with asyncio.timeout(STALL_S):
            await response.write(text)
    if not response.prepared:
        await response.prepare(request)
    await response.write_eof()
    return response


async def _end(services: Services) -> LedgerEnd:
    end = await services.journal.ledger_lines.end()
    if end is None:
        raise NotFound("the ledger has no line yet")
    return end


def _text(batch: Sequence[BoundLine]) -> bytes:
    return b"".join(map(written, batch))


def _disposition(services: Services, end: LedgerEnd) -> str:
    return f'attachment; filename="ledger_{services.journal.host_id}_{end.no}.ndjson"'


def _line_json(bound: BoundLine) -> dict[str, Json]:
    line = bound.line
    return {
        "no": line.no,
        "at": rfc3339_us(line.at_us),
        "kind": line.kind,
        "id": _uuid(line.segment_id),
        "camera_id": _uuid(line.camera_id),
        "start": rfc3339_us(line.start_us),
        "end": _moment(line.end_us),
        "cause": line.cause,
        "detail": line.detail,
        "hash": None if bound.hash is None else bound.hash.hex(),
    }


def _uuid(value: bytes) -> str:
    digits = value.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


_LATEST = "9999-12-31T23:59:59.999999Z"


def _moment(microseconds: int) -> str:
    """The end of a hold without one lies beyond the calendar."""
    try:
        return rfc3339(from_us(microseconds))
    except OverflowError:
        return _LATEST


ROUTES: Sequence[Route] = (
    Route(
        method="GET",
        path=LEDGER,
        handler=show,
        name="listLedger",
        summary="Lines of the ledger in the order in which they were written",
        scope=Scope.ADMIN,
        query=LedgerQuery,
        answers=(Answer(status=200, means="One page", model=LedgerAnswer),),
        problems=(problems.BAD_COPY,),
    ),
    Route(
        method="GET",
        path=f"{LEDGER}/head",
        handler=head,
        name="ledgerHead",
        summary="The ledger's last line, and the newest head that was signed",
        scope=Scope.ADMIN,
        answers=(Answer(status=200, means="The end of it", model=LedgerHeadAnswer),),
        problems=(problems.NOT_FOUND,),
    ),
    Route(
        method="GET",
        path=f"{LEDGER}/export",
        handler=export,
        name="exportLedger",
        summary="All lines as NDJSON, for cctv-storaged verify --ledger and other programs that prove them",
        scope=Scope.ADMIN,
        lane=Lane.CONTENT,
        query=LedgerExportQuery,
        answers=(Answer(status=200, means="The lines", media_type=NDJSON, headers=("Content-Disposition",)),),
        problems=(problems.NOT_FOUND, problems.BAD_COPY),
    ),
)
