"""Which interface is asked for recording sequences: REST, or the recorder's SOAP where REST has no such task.

The first version with the REST task is not published; what its absence answers is not either (400 or 404).
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

from cctv_storaged.backends.milestone.imageserver import Door
from cctv_storaged.backends.milestone.recordercommands import RecorderCommands
from cctv_storaged.backends.milestone.refusals import NotThere, Refused
from cctv_storaged.backends.milestone.sequences import RestSequences
from cctv_storaged.backends.milestone.target import SequencesApi
from cctv_storaged.clock import Clock
from cctv_storaged.model import TimeSpan

log = logging.getLogger(__name__)

REMEMBERED_S = 3600.0
"""How long REST is not asked again once SOAP had to answer: the site may be upgraded."""
_NO_SUCH_TASK = frozenset({400, 404, 405, 501})


class Sequences:
    """Of one site."""

    def __init__(
        self, by_rest: RestSequences, by_soap: RecorderCommands, api: SequencesApi, clock: Clock
    ) -> None:
        self._by_rest = by_rest
        self._by_soap = by_soap
        self._api = api
        self._clock = clock
        self._soap_until = 0.0

    async def recorded(
        self, camera: UUID, span: TimeSpan, door: Callable[[], Awaitable[Door]]
    ) -> Sequence[TimeSpan]:
        """Clipped to the span, sorted, disjoint. `door` finds the camera's recorder, where SOAP is asked."""
        if self._asks_soap():
            return await self._by_soap.recorded(await door(), camera, span)
        try:
            return await self._by_rest.recorded(camera, span)
        except (Refused, NotThere) as exc:
            if self._api is SequencesApi.REST or exc.refusal.status not in _NO_SUCH_TASK:
                raise
            held = await self._by_soap.recorded(await door(), camera, span)
            self._remember(exc.refusal.status)
            return held

    def _asks_soap(self) -> bool:
        if self._api is SequencesApi.AUTO:
            return self._clock.monotonic() < self._soap_until
        return self._api is SequencesApi.SOAP

    def _remember(self, status: int) -> None:
        if not self._soap_until:
            log.info(
                "XProtect's REST has no recording sequences: its recorders are asked",
                extra={"status": status},
            )
        self._soap_until = self._clock.monotonic() + REMEMBERED_S
