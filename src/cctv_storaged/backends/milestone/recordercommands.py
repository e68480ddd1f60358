"""Recording sequences by SOAP from the recording server: the fall-back where REST has no GetSequences.

Messages as recorded on 2025 R1: answered are the sequences from `minTime` onward, sorted by their begin, and
no more than `maxCount`. Whether they are clipped, and what else limits their number, is not known.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from cctv_storaged.backends.milestone.answers import TokenRefused, Unreadable
from cctv_storaged.backends.milestone.imageserver import Door
from cctv_storaged.backends.milestone.soap import SoapCall, SoapClient
from cctv_storaged.backends.milestone.tokens import TokenSource
from cctv_storaged.backends.milestone.vmstime import parse_time, render_time
from cctv_storaged.backends.milestone.xmltree import Node
from cctv_storaged.model import TimeSpan

NAMESPACE = "http://videoos.net/2/XProtectCSRecorderCommand"
_PATH = "RecorderCommandService/RecorderCommandService.asmx"
_RECORDING_SEQUENCE = "f9c62604-d0c5-4050-ae25-72de51639b14"
PAGE = 500
MOST_PAGES = 200
_STEP = timedelta(milliseconds=1)  # the ImageServer's own grain: less is no footage


class RecorderCommands:
    """RecorderCommandService.asmx of any recording server."""

    def __init__(self, soap: SoapClient, tokens: TokenSource) -> None:
        self._soap = soap
        self._tokens = tokens

    async def recorded(self, door: Door, camera: UUID, span: TimeSpan) -> Sequence[TimeSpan]:
        """What the recorder holds of the span: clipped, sorted, disjoint."""
        found: list[TimeSpan] = []
        onward = span.start
        for _ in range(MOST_PAGES):
            page = await self._page(door, camera, TimeSpan(onward, span.end))
            found += page
            # A page that is not full may still not be all: each is asked on from until one tells nothing new.
            reached = max((one.end for one in page), default=onward)
            if reached <= onward or reached + _STEP >= span.end:
                return union(found, span)
            onward = reached + _STEP
        raise Unreadable(f"the recorder tells more than {MOST_PAGES} pages of sequences for {span}")

    async def _page(self, door: Door, camera: UUID, span: TimeSpan) -> Sequence[TimeSpan]:
        token = await self._tokens()
        try:
            return await self._sequences(door, camera, span, token.value)
        except TokenRefused:
            token = await self._tokens(token.value)
            return await self._sequences(door, camera, span, token.value)

    async def _sequences(self, door: Door, camera: UUID, span: TimeSpan, token: str) -> Sequence[TimeSpan]:
        call = SoapCall(
            namespace=NAMESPACE,
            method="SequencesGet",
            action=f"{NAMESPACE}/SequencesGet",
            fields=(
                ("token", token),
                ("deviceId", str(camera)),
                ("sequenceType", _RECORDING_SEQUENCE),
                ("minTime", render_time(span.start)),
                ("maxTime", render_time(span.end)),
                ("maxCount", str(PAGE)),
            ),
            secrets=(token,),
        )
        response = await self._soap.call(door.url + _PATH, call)
        return list(_told(response))


def union(found: Iterable[TimeSpan], within: TimeSpan) -> Sequence[TimeSpan]:
    """Clipped to `within`, sorted, disjoint; those that touch are one."""
    joined: list[TimeSpan] = []
    for one in sorted(clipped for each in found if (clipped := each.clipped_to(within)) is not None):
        if joined and one.start <= joined[-1].end:
            joined[-1] = TimeSpan(joined[-1].start, max(joined[-1].end, one.end))
        else:
            joined.append(one)
    return joined


def _told(response: Node) -> Iterable[TimeSpan]:
    """One without an end (still being written, perhaps) or without length shows nothing to be held."""
    result = response.child("SequencesGetResult")
    for entry in result.every("SequenceEntry") if result is not None else ():
        begin, end = _moment(entry, "TimeBegin"), _moment(entry, "TimeEnd")
        if begin is not None and end is not None and begin < end:
            yield TimeSpan(begin, end)


def _moment(entry: Node, name: str) -> datetime | None:
    text = entry.value(name)
    moment = parse_time(text)
    if moment is None and not text.startswith("0001"):
        raise Unreadable(f"the recorder tells a sequence without a {name} that can be read")
    return moment
