"""Recording sequences by SOAP from the recording server: the fall-back where REST has no GetSequences."""

from collections.abc import Sequence
from uuid import UUID

from cctv_storaged.backends.milestone.imageserver import Door
from cctv_storaged.backends.milestone.soap import SoapClient
from cctv_storaged.backends.milestone.tokens import TokenSource
from cctv_storaged.model import TimeSpan


class RecorderCommands:
    """RecorderCommandService.asmx of any recording server."""

    def __init__(self, soap: SoapClient, tokens: TokenSource) -> None:
        self._soap = soap
        self._tokens = tokens

    async def recorded(self, door: Door, camera: UUID, span: TimeSpan) -> Sequence[TimeSpan]:
        """What the recorder holds of the span: clipped, sorted, disjoint."""
        raise NotImplementedError
