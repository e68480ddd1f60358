"""What is left in XProtect for people and for custody: bookmarks, evidence locks, events, alarms.

Bookmarks and evidence locks have REST since 2024 R2; locks only in the edition Corporate (MIP component
sample EvidenceLock). Neither can be listed. How an edition refuses a lock is not published.
"""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import UUID

from cctv_storaged.backends.milestone.answers import Unreadable
from cctv_storaged.backends.milestone.base import Mark
from cctv_storaged.backends.milestone.discovery import Discovered
from cctv_storaged.backends.milestone.jsontree import Fields, whole_ms
from cctv_storaged.backends.milestone.refusals import Forbidden, NotThere, Refused, blames_nothing
from cctv_storaged.backends.milestone.rest import Body, Rest, path_of
from cctv_storaged.errors import ObjectMissing, ObjectRejected, Unsupported

MARKS_SINCE = (24, 2)
_FOR_EVER = "9999-12-31T22:59:59.9999999Z"
_ROUNDING = timedelta(seconds=1)


class Marks:
    """Of one site."""

    def __init__(self, rest: Rest, discovered: Callable[[], Awaitable[Discovered]]) -> None:
        self._rest = rest
        self._discovered = discovered

    async def bookmark(self, mark: Mark) -> UUID:
        """Unsupported before 2024 R2."""
        await self._require_release("bookmarks")
        begin, end = whole_ms(mark.span)
        body: Body = {
            "header": mark.header,
            "description": mark.description,
            "timeBegin": begin,
            "timeTriggered": begin,
            "timeEnd": end,
            "reference": mark.reference,
            "devicePath": {"type": "cameras", "id": str(mark.camera_id)},
        }
        try:
            return _made(await self._rest.post("bookmarks", body), "bookmark")
        except Forbidden as exc:
            raise ObjectRejected(str(exc)) from exc
        except NotThere as exc:
            raise Unsupported(f"bookmarks: {exc}") from exc

    async def remove_bookmark(self, bookmark_id: UUID) -> None:
        """One that is not there is success."""
        await self._remove(path_of("bookmarks", bookmark_id))

    async def lock(self, mark: Mark) -> UUID:
        """Shown to cover the camera; one that does not is taken away again (ObjectRejected)."""
        await self._require_release("evidence locks")
        begin, end = whole_ms(mark.span)
        body: Body = {
            "header": mark.header,
            "description": mark.description,
            "reference": mark.reference,
            "startTime": begin,
            "tagTime": begin,
            "endTime": end,
            "retentionExpire": _FOR_EVER,
            "retentionOption": {"retentionUnits": -1, "retentionType": "Indefinite"},
            "devicePaths": [{"type": "cameras", "id": str(mark.camera_id)}],
        }
        told = await self._placed(body)
        lock_id = _made(told, "evidence lock")
        if not told.each("devicePaths"):
            told = await self._rest.one(path_of("evidenceLocks", lock_id))
        if not _covers(told, mark):
            await self.unlock(lock_id)
            raise ObjectRejected(f"evidence lock {lock_id} did not take camera {mark.camera_id} or its span")
        return lock_id

    async def unlock(self, lock_id: UUID) -> None:
        """One that is not there is success."""
        await self._remove(path_of("evidenceLocks", lock_id))

    async def send_event(self, event_id: UUID) -> None:
        """Of a user-defined event. Only its type is sent: other fields are not published."""
        try:
            await self._rest.post("events", {"type": str(event_id)})
        except (Refused, NotThere) as exc:
            known = {each.guid("id") for each in await self._rest.collection("userDefinedEvents")}
            if event_id in known:
                raise
            raise ObjectMissing(
                f"XProtect has no user-defined event {event_id} (see milestone.retrieval_event_id)"
            ) from exc
        except Forbidden as exc:
            raise ObjectRejected(str(exc)) from exc

    async def raise_alarm(self, camera: UUID, name: str, message: str) -> None:
        try:
            await self._rest.post("alarms", {"name": name, "message": message, "source": str(camera)})
        except Forbidden as exc:
            raise ObjectRejected(str(exc)) from exc
        except NotThere as exc:
            raise Unsupported(f"alarms: {exc}") from exc

    async def _require_release(self, what: str) -> None:
        discovered = await self._discovered()
        if discovered.before(*MARKS_SINCE):
            raise Unsupported(f"{what} need XProtect 2024 R2, this is {discovered.version}")

    async def _placed(self, body: Body) -> Fields:
        """A refusal that blames no field of ours is the edition's, or a right's that the user lacks."""
        try:
            return await self._rest.post("evidenceLocks", body)
        except (Refused, Forbidden, NotThere) as exc:
            if not blames_nothing(exc):
                raise ObjectRejected(str(exc)) from exc
            raise Unsupported(
                f"{exc} (evidence locks need the edition Corporate, and the right to place them)"
            ) from exc

    async def _remove(self, path: str) -> None:
        try:
            await self._rest.delete(path)
        except NotThere:
            return
        except Forbidden as exc:
            raise ObjectRejected(str(exc)) from exc


def _made(told: Fields, what: str) -> UUID:
    """The id of what was created, which stands in the object or in its relation to itself."""
    found = told.guid("id")
    if found is None and (relations := told.inner("relations")) and (own := relations.inner("self")):
        found = own.guid("id")
    if found is None:
        raise Unreadable(f"{what}: the answer has no id")
    return found


def _covers(told: Fields, mark: Mark) -> bool:
    """Whether the camera is among the lock's devices, and its times, where told, are around the span."""
    devices = {device.guid("id") for device in told.each("devicePaths") or ()}
    start, end = told.moment("startTime"), told.moment("endTime")
    return (
        mark.camera_id in devices
        and (start is None or start <= mark.span.start + _ROUNDING)
        and (end is None or end >= mark.span.end - _ROUNDING)
    )
