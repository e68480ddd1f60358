"""What XProtect's ONVIF driver asks a device with edge storage, to find a channel's recording.

The calls are those that the driver's published requirements list (section 2.3 of the paper); their order is
an inference.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape

from tests.fakes.xprotect.onvifsoap import NAMES, DeviceRefused, OnvifDevice

_VIDEO = 'boolean(//Track[TrackType = "Video"])'
_STATE = "tns1:RecordingHistory/Track/State"
_CONCRETE = "http://www.onvif.org/ver10/tev/topicExpression/ConcreteSet"
_KEEP_ALIVE = "<tse:KeepAliveTime>PT10S</tse:KeepAliveTime>"
_PAGE = (
    "<tse:MinResults>1</tse:MinResults><tse:MaxResults>50</tse:MaxResults><tse:WaitTime>PT5S</tse:WaitTime>"
)
_MOST_POLLS = 1000


@dataclass(frozen=True, slots=True)
class Recording:
    """What a device says of one recording."""

    token: str
    source_id: str
    video_track: str


@dataclass(slots=True)
class Driver:
    """Asks about one channel: a video source's token, or a media profile's."""

    device: OnvifDevice
    channel: str
    _profile: str = ""

    async def replay_uri(self, start: datetime, end: datetime) -> str | None:
        """Where the channel's recording is replayed; None where it has nothing of the span."""
        await self._find_services()
        names = await self._names()
        await self.device.call("tse", "GetRecordingSummary")
        recording = await self._recording(await self._recordings(), names)
        await self._look_at(recording, start)
        if not await self._has_video(recording, start, end):
            return None
        asked = _setup("trp") + _token("trp", recording.token)
        return _text(await self.device.call("trp", "GetReplayUri", asked), "trp:Uri")

    async def live_uri(self) -> str:
        """Of the channel's media profile, known once its recording was looked for."""
        asked = f"{_setup('trt')}<trt:ProfileToken>{escape(self._profile)}</trt:ProfileToken>"
        return _text(await self.device.call("trt", "GetStreamUri", asked), "trt:MediaUri/tt:Uri")

    async def _find_services(self) -> None:
        asked = "<tds:IncludeCapability>false</tds:IncludeCapability>"
        answer = await self.device.call("tds", "GetServices", asked)
        prefixes = {uri: prefix for prefix, uri in NAMES.items()}
        for service in answer.findall("tds:Service", NAMES):
            prefix = prefixes.get(_text(service, "tds:Namespace"))
            if prefix:
                self.device.services[prefix] = _text(service, "tds:XAddr")
        told = await self.device.call("tds", "GetCapabilities", "<tds:Category>All</tds:Category>")
        for name in ("Recording", "Search", "Replay"):
            _text(told, f"tds:Capabilities/tt:Extension/tt:{name}/tt:XAddr")

    async def _names(self) -> frozenset[str]:
        """What the channel is called: its video source, and the profiles of that."""
        service = "trt" if "trt" in self.device.services else "tmd"
        sources = await self.device.call(service, "GetVideoSources")
        tokens = {source.get("token", "") for source in sources} | {
            (source.text or "").strip() for source in sources.findall("tmd:Token", NAMES)
        }
        await self.device.call("trt", "GetAudioSources")
        profiles = _profiles(await self.device.call("trt", "GetProfiles"))
        mine = {token for token, source in profiles.items() if self.channel in {token, source}}
        if not mine:
            raise DeviceRefused(f"no media profile of {self.channel!r}; those there are: {profiles}")
        unknown = {profiles[token] for token in mine} - tokens
        if unknown:
            raise DeviceRefused(f"profiles name video sources {unknown} that GetVideoSources does not")
        self._profile = min(mine)
        return frozenset(mine | {profiles[token] for token in mine})

    async def _recordings(self) -> Sequence[Recording]:
        """All that the device has: the driver filters by itself."""
        scope = f"<tt:RecordingInformationFilter>{escape(_VIDEO)}</tt:RecordingInformationFilter>"
        found = await self.device.call(
            "tse", "FindRecordings", f"<tse:Scope>{scope}</tse:Scope>{_KEEP_ALIVE}"
        )
        results = self._results("GetRecordingSearchResults", _text(found, "tse:SearchToken"))
        return [
            _read_recording(info)
            async for result in results
            for info in result.findall("tt:RecordingInformation", NAMES)
        ]

    async def _recording(self, recordings: Sequence[Recording], names: frozenset[str]) -> Recording:
        """By the recording jobs' sources; if that fails, by what the recording says of its own."""
        jobs = await self.device.call("trc", "GetRecordingJobs")
        fed = {
            _text(job, "tt:JobConfiguration/tt:RecordingToken")
            for job in jobs.findall("trc:JobItem", NAMES)
            for source in job.findall("tt:JobConfiguration/tt:Source/tt:SourceToken/tt:Token", NAMES)
            if (source.text or "").strip() in names
        }
        by_job = [one for one in recordings if one.token in fed]
        by_source = [one for one in recordings if one.source_id in names]
        for chosen in (by_job, by_source):
            if len(chosen) == 1:
                return chosen[0]
        raise DeviceRefused(f"{len(by_job)} and {len(by_source)} recordings are of {self.channel!r}, not one")

    async def _look_at(self, recording: Recording, start: datetime) -> None:
        token = _token("tse", recording.token)
        told = await self.device.call("tse", "GetRecordingInformation", token)
        information = told.find("tse:RecordingInformation", NAMES)
        if information is None or _read_recording(information) != recording:
            raise DeviceRefused("GetRecordingInformation tells of another recording than the search")
        asked = f"<tse:RecordingTokens>{escape(recording.token)}</tse:RecordingTokens>"
        asked += f"<tse:Time>{_time(start)}</tse:Time>"
        await self.device.call("tse", "GetMediaAttributes", asked)

    async def _has_video(self, recording: Recording, start: datetime, end: datetime) -> bool:
        """By the history of the video track's states, the first of which is the one at the start."""
        scope = f"<tt:IncludedRecordings>{escape(recording.token)}</tt:IncludedRecordings>"
        found = await self.device.call(
            "tse",
            "FindEvents",
            f"<tse:StartPoint>{_time(start)}</tse:StartPoint><tse:EndPoint>{_time(end)}</tse:EndPoint>"
            f"<tse:Scope>{scope}</tse:Scope><tse:SearchFilter>"
            f'<wsnt:TopicExpression Dialect="{_CONCRETE}">{_STATE}</wsnt:TopicExpression></tse:SearchFilter>'
            f"<tse:IncludeStartState>true</tse:IncludeStartState>{_KEEP_ALIVE}",
        )
        states: list[tuple[datetime, bool]] = []
        async for result in self._results("GetEventSearchResults", _text(found, "tse:SearchToken")):
            states += [
                _read_state(event)
                for event in result.findall("tt:Result", NAMES)
                if _text(event, "tt:TrackToken") == recording.video_track
            ]
        if states != sorted(states, key=lambda state: state[0]):
            raise DeviceRefused("events of a search forward are not in the order of their times")
        return any(present for _, present in states)

    async def _results(self, method: str, search: str) -> AsyncIterator[Element]:
        """Lists, until the search is completed."""
        asked = f"<tse:SearchToken>{escape(search)}</tse:SearchToken>{_PAGE}"
        for _ in range(_MOST_POLLS):
            answer = await self.device.call("tse", method, asked)
            found = answer.find("tse:ResultList", NAMES)
            if found is None:
                raise DeviceRefused(f"{method} has no ResultList")
            yield found
            if _text(found, "tt:SearchState") == "Completed":
                return
        raise DeviceRefused(f"{method} is never completed")


def _profiles(answer: Element) -> Mapping[str, str]:
    """The video source of each media profile."""
    return {
        profile.get("token", ""): _text(profile, "tt:VideoSourceConfiguration/tt:SourceToken")
        for profile in answer.findall("trt:Profiles", NAMES)
    }


def _read_recording(information: Element) -> Recording:
    tracks = [
        _text(track, "tt:TrackToken")
        for track in information.findall("tt:Track", NAMES)
        if _text(track, "tt:TrackType") == "Video"
    ]
    if len(tracks) != 1:
        raise DeviceRefused(f"a recording has {len(tracks)} video tracks")
    source = _text(information, "tt:Source/tt:SourceId")
    return Recording(_text(information, "tt:RecordingToken"), source, tracks[0])


def _read_state(event: Element) -> tuple[datetime, bool]:
    items = event.findall("tt:Event/wsnt:Message/tt:Message/tt:Data/tt:SimpleItem", NAMES)
    values = {item.get("Name"): item.get("Value") for item in items}
    if values.get("IsDataPresent") not in {"true", "false"}:
        raise DeviceRefused(f"a track's state says {values} and not whether data is present")
    time = datetime.fromisoformat(_text(event, "tt:Time"))
    if time.tzinfo is None:
        raise DeviceRefused("a track's state has a time without a zone")
    return time, values["IsDataPresent"] == "true"


def _text(element: Element, path: str) -> str:
    found = (element.findtext(path, "", NAMES) or "").strip()
    if not found:
        raise DeviceRefused(f"{element.tag.rpartition('}')[2]} has no {path}")
    return found


def _setup(prefix: str) -> str:
    transport = "<tt:Transport><tt:Protocol>RTSP</tt:Protocol></tt:Transport>"
    return f"<{prefix}:StreamSetup><tt:Stream>RTP-Unicast</tt:Stream>{transport}</{prefix}:StreamSetup>"


def _token(prefix: str, recording: str) -> str:
    return f"<{prefix}:RecordingToken>{escape(recording)}</{prefix}:RecordingToken>"


def _time(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"
