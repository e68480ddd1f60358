"""Files set aside: what lies under the recorder roots and is no segment, with the reason."""

import base64
import struct

from aiohttp import web

from cctv_storaged.api.parsing import query_of
from cctv_storaged.api.problems import plain
from cctv_storaged.api.queue_models import SetAsideQuery
from cctv_storaged.api.rendering import Json, answer
from cctv_storaged.api.services import Services
from cctv_storaged.clock import rfc3339
from cctv_storaged.errors import Fault, Unprocessable
from cctv_storaged.journal.asides import AsideFile, Position

_CURSOR = struct.Struct(">qq")


async def list_files(request: web.Request, services: Services) -> web.StreamResponse:
    query = query_of(request, SetAsideQuery)
    after = None if query.cursor is None else _position_of(query.cursor)
    page = await services.journal.segments.set_aside_page(query.limit, after)
    following = None if page.next is None else _cursor_of(page.next)
    return answer({"files": [_file_json(file) for file in page.files], "next_cursor": following})


def _file_json(file: AsideFile) -> dict[str, Json]:
    return {
        "path": plain(file.path),
        "root": plain(file.root),
        "reason": file.reason,
        "detail": plain(file.detail),
        "size_bytes": file.size_bytes,
        "seen_at": rfc3339(file.seen_at),
    }


def _cursor_of(position: Position) -> str:
    seen_us, folder_no, name = position
    return base64.urlsafe_b64encode(_CURSOR.pack(seen_us, folder_no) + name).decode().rstrip("=")


def _position_of(cursor: str) -> Position:
    """The inverse of `_cursor_of`. Raises Unprocessable for what that never gave."""
    try:
        packed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        seen_us, folder_no = _CURSOR.unpack_from(packed)
    except (ValueError, struct.error) as exc:
        raise Unprocessable([Fault("cursor", "is none that an answer gave")]) from exc
    return seen_us, folder_no, packed[_CURSOR.size :]
