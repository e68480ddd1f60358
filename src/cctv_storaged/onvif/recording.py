"""The recording service: one recording and one job per camera, to be looked at only.

A job's source is the camera's media profile: that is how a recording server finds which channel a recording
is of (ONVIF Recording Control Specification; the ONVIF driver's requirements for edge storage).
"""

from xml.etree.ElementTree import Element

from cctv_storaged.onvif import soap
from cctv_storaged.onvif.device import CAPABILITIES
from cctv_storaged.onvif.inventory import VIDEO_TRACK, Channel, Inventory
from cctv_storaged.onvif.soap import Addresses, Operations, tag, text

_PROFILE_SOURCE = "http://www.onvif.org/ver10/schema/Profile"


class RecordingService:
    """Answers what recordings there are, and from which source each is."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory

    @property
    def operations(self) -> Operations:
        return {
            "GetServiceCapabilities": self.capabilities,
            "GetRecordings": self.recordings,
            "GetRecordingConfiguration": self.recording_configuration,
            "GetTrackConfiguration": self.track_configuration,
            "GetRecordingJobs": self.jobs,
            "GetRecordingJobConfiguration": self.job_configuration,
            "GetRecordingJobState": self.job_state,
        }

    async def capabilities(self, _body: Element, _at: Addresses) -> str:
        return CAPABILITIES["trc"]

    async def recordings(self, _body: Element, _at: Addresses) -> str:
        return soap.each(
            tag(
                "trc:RecordingItem",
                text("tt:RecordingToken", each.channel.recording),
                _configuration("tt:Configuration", each.channel),
                tag(
                    "tt:Tracks",
                    tag("tt:Track", text("tt:TrackToken", VIDEO_TRACK), _track("tt:Configuration")),
                ),
            )
            for each in await self._inventory.recorded()
        )

    async def recording_configuration(self, body: Element, _at: Addresses) -> str:
        found = await self._inventory.by_recording(soap.value(body, "RecordingToken"))
        return _configuration("trc:RecordingConfiguration", found.channel)

    async def track_configuration(self, body: Element, _at: Addresses) -> str:
        await self._inventory.by_recording(soap.value(body, "RecordingToken"))
        if soap.value(body, "TrackToken") != VIDEO_TRACK:
            raise soap.invalid("there is no such track", "ter:NoTrack")
        return _track("trc:TrackConfiguration")

    async def jobs(self, _body: Element, _at: Addresses) -> str:
        return soap.each(
            tag(
                "trc:JobItem",
                text("tt:JobToken", each.channel.job),
                _job("tt:JobConfiguration", each.channel),
            )
            for each in await self._inventory.recorded()
        )

    async def job_configuration(self, body: Element, _at: Addresses) -> str:
        channel = await self._inventory.by_job(soap.value(body, "JobToken"))
        return _job("trc:JobConfiguration", channel)

    async def job_state(self, body: Element, _at: Addresses) -> str:
        channel = await self._inventory.by_job(soap.value(body, "JobToken"))
        track = tag(
            "tt:Track",
            text("tt:SourceTag", VIDEO_TRACK),
            text("tt:Destination", VIDEO_TRACK),
            text("tt:State", "Active"),
        )
        source = tag("tt:Sources", _source(channel), text("tt:State", "Active"), tag("tt:Tracks", track))
        return tag(
            "trc:State", text("tt:RecordingToken", channel.recording), text("tt:State", "Active"), source
        )


def source_information(name: str, channel: Channel) -> str:
    """tt:RecordingSourceInformation: its id is the video source's token."""
    return tag(
        name,
        text("tt:SourceId", channel.source),
        text("tt:Name", channel.camera.name[:256]),
        text("tt:Location", ""),
        text("tt:Description", ""),
        text("tt:Address", ""),
    )


def _configuration(name: str, channel: Channel) -> str:
    return tag(
        name,
        source_information("tt:Source", channel),
        text("tt:Content", channel.camera.name[:256]),
        text("tt:MaximumRetentionTime", "PT0S"),
    )


def _track(name: str) -> str:
    return tag(name, text("tt:TrackType", "Video"), text("tt:Description", ""))


def _source(channel: Channel) -> str:
    return tag("tt:SourceToken", text("tt:Token", channel.profile), Type=_PROFILE_SOURCE)


def _job(name: str, channel: Channel) -> str:
    track = tag("tt:Tracks", text("tt:SourceTag", VIDEO_TRACK), text("tt:Destination", VIDEO_TRACK))
    return tag(
        name,
        text("tt:RecordingToken", channel.recording),
        text("tt:Mode", "Active"),
        text("tt:Priority", 1),
        tag("tt:Source", _source(channel), track),
    )
