"""The search service: which recordings there are, and when they have data (ONVIF Recording Search)."""

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta
from xml.etree.ElementTree import Element

from cctv_storaged.clock import Clock
from cctv_storaged.journal.replayable import Replayable
from cctv_storaged.model import TimeSpan
from cctv_storaged.onvif import soap
from cctv_storaged.onvif.device import CAPABILITIES
from cctv_storaged.onvif.history import Asked, Change, changes
from cctv_storaged.onvif.inventory import VIDEO_TRACK, Inventory, Recorded, told
from cctv_storaged.onvif.mediaservice import RATE, SIZE
from cctv_storaged.onvif.recording import source_information
from cctv_storaged.onvif.searching import LONGEST_LIFE, LONGEST_WAIT, MOST_AT_ONCE, SHORTEST_LIFE, Searches
from cctv_storaged.onvif.soap import Addresses, Operations, tag, text

TOPIC = "RecordingHistory/Track/State"
FRESH = timedelta(minutes=10)
"""A recording whose newest footage is younger is being recorded."""
_CONCRETE = "http://www.onvif.org/ver10/tev/topicExpression/ConcreteSet"
_MOST = 2**31 - 1
_TRACKS = re.compile(r"""\s*boolean\(\s*//Track\[\s*TrackType\s*=\s*["'“”](\w{1,16})["'“”]\s*\]\s*\)\s*""")
_RECORDINGS, _EVENTS = "recordings", "events"


class SearchService:
    """Answers what there is, in one go or by searches."""

    def __init__(
        self, inventory: Inventory, replayable: Replayable, searches: Searches, clock: Clock
    ) -> None:
        self._inventory = inventory
        self._replayable = replayable
        self._searches = searches
        self._clock = clock

    @property
    def operations(self) -> Operations:
        return {
            "GetServiceCapabilities": self.capabilities,
            "GetRecordingSummary": self.summary,
            "GetRecordingInformation": self.information,
            "GetMediaAttributes": self.attributes,
            "FindRecordings": self.find_recordings,
            "GetRecordingSearchResults": self.recording_results,
            "FindEvents": self.find_events,
            "GetEventSearchResults": self.event_results,
            "EndSearch": self.end_search,
        }

    async def capabilities(self, _body: Element, _at: Addresses) -> str:
        return CAPABILITIES["tse"]

    async def summary(self, _body: Element, _at: Addresses) -> str:
        recordings = await self._inventory.recorded()
        now = self._clock.now()
        first = min((each.ends.span.start for each in recordings), default=now)
        last = max((each.ends.span.end for each in recordings), default=now)
        return tag(
            "tse:Summary",
            text("tt:DataFrom", told(first)),
            text("tt:DataUntil", told(last)),
            text("tt:NumberRecordings", len(recordings)),
        )

    async def information(self, body: Element, _at: Addresses) -> str:
        token = soap.value(body, "RecordingToken")
        found = await self._inventory.by_recording(token, "ter:InvalidToken")
        return self._information("tse:RecordingInformation", found)

    async def attributes(self, body: Element, _at: Addresses) -> str:
        at = soap.moment(body, "Time") or self._clock.now()
        tokens = soap.values(body, "RecordingTokens")
        if tokens:
            asked = [await self._inventory.by_recording(token, "ter:InvalidToken") for token in tokens[:256]]
        else:
            asked = await self._inventory.recorded()
        return soap.each([_attributes(each, at) for each in asked if await self._has(each, at)])

    async def find_recordings(self, body: Element, _at: Addresses) -> str:
        recordings = await self._scope(body)
        results = self._listed(recordings)
        return await self._begun(_RECORDINGS, results, body)

    async def recording_results(self, body: Element, _at: Addresses) -> str:
        return await self._part(_RECORDINGS, body)

    async def find_events(self, body: Element, _at: Addresses) -> str:
        start = soap.moment(body, "StartPoint")
        if start is None:
            raise soap.invalid("StartPoint is needed")
        end = soap.moment(body, "EndPoint") or max(self._clock.now(), start)
        wanted = is_wanted(soap.value(body, "SearchFilter", "TopicExpression"))
        recordings = await self._scope(body) if wanted else []
        start_state = soap.value(body, "IncludeStartState").lower() in ("true", "1")
        asked = Asked(start, end, start_state)
        return await self._begun(_EVENTS, self._events(recordings, asked), body)

    async def event_results(self, body: Element, _at: Addresses) -> str:
        return await self._part(_EVENTS, body)

    async def end_search(self, body: Element, _at: Addresses) -> str:
        await self._searches.end(soap.value(body, "SearchToken"))
        return text("tse:Endpoint", told(self._clock.now()))

    # Searches

    async def _begun(self, kind: str, results: AsyncGenerator[str], body: Element) -> str:
        most = soap.number(body, "MaxMatches", _MOST, _MOST)
        life = soap.duration(body, "KeepAliveTime", SHORTEST_LIFE, LONGEST_LIFE)
        token = await self._searches.begin(kind, results, most=most or None, life=life)
        return text("tse:SearchToken", token)

    async def _part(self, kind: str, body: Element) -> str:
        most = soap.number(body, "MaxResults", MOST_AT_ONCE, MOST_AT_ONCE) or MOST_AT_ONCE
        wait = soap.duration(body, "WaitTime", LONGEST_WAIT, LONGEST_WAIT)
        part = await self._searches.part(soap.value(body, "SearchToken"), kind, most, wait)
        state = "Completed" if part.completed else "Searching"
        return tag("tse:ResultList", text("tt:SearchState", state), *part.results)

    async def _listed(self, recordings: Sequence[Recorded]) -> AsyncGenerator[str]:
        for each in recordings:
            yield self._information("tt:RecordingInformation", each)

    async def _events(self, recordings: Sequence[Recorded], asked: Asked) -> AsyncGenerator[str]:
        async with aclosing(changes(self._replayable, recordings, asked)) as found:
            async for change in found:
                yield _event(change)

    async def _scope(self, body: Element) -> list[Recorded]:
        """Of a search: sources and recordings named, or all; those that the filter leaves."""
        scope = soap.child(body, "Scope")
        named = {soap.value(each, "Token") for each in soap.children(scope, "IncludedSources")}
        tokens = {*soap.values(scope, "IncludedRecordings")}
        every = await self._inventory.recorded()
        unknown = tokens - {each.channel.recording for each in every}
        if unknown:
            raise soap.invalid(f"there is no recording {min(unknown)[:64]!r}", "ter:InvalidToken")
        if named or tokens:
            every = [each for each in every if each.channel.recording in tokens or named & _names(each)]
        wanted = "" if scope is None else soap.value(scope, "RecordingInformationFilter")
        return every if has_track(wanted) else []

    def _information(self, name: str, recorded: Recorded) -> str:
        channel, span = recorded.channel, recorded.ends.span
        is_fresh = span.end > self._clock.now() - FRESH
        return tag(
            name,
            text("tt:RecordingToken", channel.recording),
            source_information("tt:Source", channel),
            text("tt:EarliestRecording", told(span.start)),
            text("tt:LatestRecording", told(span.end)),
            text("tt:Content", channel.camera.name[:256]),
            _track("tt:Track", span),
            text("tt:RecordingStatus", "Recording" if is_fresh else "Stopped"),
        )

    async def _has(self, recorded: Recorded, at: datetime) -> bool:
        instant = TimeSpan(at, at + timedelta(microseconds=1))
        return bool((await self._replayable.rows(recorded.channel.camera.id, instant, MOST_AT_ONCE)).rows)


def has_track(wanted: str) -> bool:
    """Whether our recordings, each of one video track, pass a filter over recording information.

    Of ONVIF's XPath dialect only the question for a type of track is understood. Any other filter lets
    everything pass: who asks looks at the recordings as well, and would miss what was left out.
    """
    found = _TRACKS.fullmatch(wanted)
    return found is None or found[1] == "Video"


def is_wanted(expression: str) -> bool:
    """Whether a topic expression (ONVIF Core, "Topic filter") holds the state of tracks; none holds all."""
    if not expression.strip():
        return True
    for each in expression.split("|"):
        path = re.sub(r"\b\w+:", "", each.strip())
        below = path.removesuffix("//.").removesuffix("//*")
        if path == TOPIC or (below != path and (TOPIC + "/").startswith(below + "/")):
            return True
    return False


def _names(recorded: Recorded) -> set[str]:
    return {recorded.channel.source, recorded.channel.profile}


def _track(name: str, span: TimeSpan) -> str:
    return tag(
        name,
        text("tt:TrackToken", VIDEO_TRACK),
        text("tt:TrackType", "Video"),
        text("tt:Description", ""),
        text("tt:DataFrom", told(span.start)),
        text("tt:DataTo", told(span.end)),
    )


def _attributes(recorded: Recorded, at: datetime) -> str:
    video = tag(
        "tt:VideoAttributes",
        text("tt:Width", SIZE[0]),
        text("tt:Height", SIZE[1]),
        text("tt:Encoding", recorded.channel.encoding),
        text("tt:Framerate", RATE),
    )
    return tag(
        "tse:MediaAttributes",
        text("tt:RecordingToken", recorded.channel.recording),
        tag("tt:TrackAttributes", _track("tt:TrackInformation", recorded.ends.span), video),
        text("tt:From", told(at)),
        text("tt:Until", told(at)),
    )


def _event(change: Change) -> str:
    """tt:FindEventResult with a property's notification (ONVIF Core, "Properties")."""
    recording = change.recorded.channel.recording
    items = (("RecordingToken", recording), ("Track", VIDEO_TRACK))
    source = tag("tt:Source", *(tag("tt:SimpleItem", Name=name, Value=value) for name, value in items))
    data = tag("tt:Data", tag("tt:SimpleItem", Name="IsDataPresent", Value=str(change.present).lower()))
    operation = "Initialized" if change.start_state else "Changed"
    message = tag("tt:Message", source, data, UtcTime=told(change.time), PropertyOperation=operation)
    return tag(
        "tt:Result",
        text("tt:RecordingToken", recording),
        text("tt:TrackToken", VIDEO_TRACK),
        text("tt:Time", told(change.time)),
        tag(
            "tt:Event",
            text("wsnt:Topic", f"tns1:{TOPIC}", Dialect=_CONCRETE),
            tag("wsnt:Message", message),
        ),
        text("tt:StartStateEvent", change.start_state),
    )
