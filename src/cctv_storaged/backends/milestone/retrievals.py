"""Has XProtect fetch a span from its device ("edge storage"), and says why where it will not.

The REST task is in 2025 R2 and in the editions Corporate, Expert and Professional+; the camera must have
remote recording enabled. How a refusal looks is not published, nor what a known identifier is answered.
"""

from uuid import UUID

from cctv_storaged.backends.milestone.base import VmsCamera
from cctv_storaged.backends.milestone.jsontree import Fields, whole_ms
from cctv_storaged.backends.milestone.refusals import Forbidden, NotThere, Refused, blames_nothing
from cctv_storaged.backends.milestone.rest import Rest, path_of
from cctv_storaged.backends.milestone.tasks import Tasks
from cctv_storaged.errors import BackendError, ObjectRejected, Unsupported
from cctv_storaged.model import TimeSpan

TASK = "RetrieveEdgeStorage"


class Retrievals:
    """Of one site."""

    def __init__(self, rest: Rest, tasks: Tasks) -> None:
        self._rest = rest
        self._tasks = tasks

    async def start(self, camera: VmsCamera, span: TimeSpan, identifier: UUID) -> str:
        """The id of the task that fetches it; the one that was, where the identifier is known still."""
        try:
            return await self._start(camera.id, span, str(identifier))
        except Refused as exc:
            if any(name.lower() == "identifier" for name in exc.refusal.names):
                return await self._known(identifier) or await self._start(camera.id, span, "")
            raise await self._reason(camera, exc) from exc
        except (Forbidden, NotThere) as exc:
            raise await self._reason(camera, exc) from exc

    async def _start(self, camera: UUID, span: TimeSpan, identifier: str) -> str:
        begin, end = whole_ms(span)
        body = {
            "startTime": begin,
            "endTime": end,
            "identifier": identifier,
            "relatedTasks": "",
        }
        return await self._tasks.start(path_of("cameras", camera), TASK, body)

    async def _known(self, identifier: UUID) -> str:
        """The task that was asked for under this identifier before; empty where none tells so."""
        tasks = await self._rest.collection("tasks")
        return next((task.text("id") for task in tasks if _is_under(task, identifier)), "")

    async def _reason(self, camera: VmsCamera, exc: Refused | Forbidden | NotThere) -> BackendError:
        """A camera tells which tasks it has: that is how a missing one is told from a refused one."""
        offered = await self._tasks.offered(path_of("cameras", camera.id))
        if offered and TASK.lower() not in offered:
            return Unsupported(f"{exc} (retrieval by REST is in 2025 R2 and newer)")
        if not camera.edge_storage_enabled:
            return ObjectRejected(f"{exc} (remote recording is not enabled on camera {camera.name})")
        if blames_nothing(exc):
            return Unsupported(
                f"{exc} (retrieval needs Corporate, Expert or Professional+, and the right to)"
            )
        return ObjectRejected(str(exc))


def _is_under(task: Fields, identifier: UUID) -> bool:
    return task.text("identifier").strip("{}").lower() == str(identifier)
