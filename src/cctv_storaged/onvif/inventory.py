"""What there is to retrieve: one channel per camera that ever had footage, and the names ONVIF knows it by.

The order never changes, as recording servers may number channels by it. A camera without footage that can be
fetched stays a channel, and is no recording.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from cctv_storaged.journal.replayable import Ends, Replayable
from cctv_storaged.model import Camera
from cctv_storaged.onvif.soap import invalid

MOST_CAMERAS = 256
VIDEO_TRACK = "VIDEO001"
ENCODINGS = {"h264": "H264", "hevc": "H265"}
_PROFILE, _RECORDING, _JOB = "profile-", "recording-", "job-"


@dataclass(frozen=True, slots=True)
class Channel:
    """One camera."""

    camera: Camera
    ends: Ends | None  # None: nothing of it can be fetched

    @property
    def source(self) -> str:
        """The video source's token."""
        return str(self.camera.id)

    @property
    def profile(self) -> str:
        return f"{_PROFILE}{self.camera.id}"

    @property
    def recording(self) -> str:
        return f"{_RECORDING}{self.camera.id}"

    @property
    def job(self) -> str:
        return f"{_JOB}{self.camera.id}"

    @property
    def encoding(self) -> str:
        """Of its newest footage."""
        codec = None if self.ends is None else self.ends.last_codec
        return ENCODINGS.get(codec or "", "H264")


@dataclass(frozen=True, slots=True)
class Recorded:
    """A channel with footage."""

    channel: Channel
    ends: Ends


class Inventory:
    """Channels by their tokens."""

    def __init__(self, replayable: Replayable) -> None:
        self._replayable = replayable

    async def channels(self) -> list[Channel]:
        """All of them, in their order."""
        cameras = await self._replayable.cameras(MOST_CAMERAS)
        return [Channel(camera, await self._replayable.ends(camera.id)) for camera in cameras]

    async def recorded(self) -> list[Recorded]:
        """Those that have footage."""
        return [Recorded(each, each.ends) for each in await self.channels() if each.ends is not None]

    async def by_camera(self, camera_id: UUID) -> Channel | None:
        """None where there is none of that id."""
        for camera in await self._replayable.cameras(MOST_CAMERAS):
            if camera.id == camera_id:
                return Channel(camera, await self._replayable.ends(camera.id))
        return None

    async def by_profile(self, token: str) -> Channel:
        """Raises SoapFault."""
        return await self._channel(token, _PROFILE, "ter:NoProfile", "media profile")

    async def by_job(self, token: str) -> Channel:
        """Raises SoapFault."""
        return await self._channel(token, _JOB, "ter:NoRecordingJob", "recording job")

    async def by_recording(self, token: str, subcode: str = "ter:NoRecording") -> Recorded:
        """Raises SoapFault."""
        channel = await self._channel(token, _RECORDING, subcode, "recording")
        if channel.ends is None:
            raise invalid(f"recording {token} has no footage", subcode)
        return Recorded(channel, channel.ends)

    async def _channel(self, token: str, prefix: str, subcode: str, what: str) -> Channel:
        camera_id = camera_of(token, prefix)
        channel = None if camera_id is None else await self.by_camera(camera_id)
        if channel is not None:
            return channel
        raise invalid(f"there is no {what} {token[:64]!r}", subcode)


def camera_of(token: str, prefix: str = "") -> UUID | None:
    """The camera that a token is of; None for what is none of our tokens."""
    text = token.removeprefix(prefix)
    if len(text) != 36 or (prefix and text == token):
        return None
    try:
        camera_id = UUID(text)
    except ValueError:
        return None
    return camera_id if str(camera_id) == text else None


def told(moment: datetime) -> str:
    """xs:dateTime in UTC, with milliseconds, and microseconds where there are any."""
    return moment.isoformat(timespec="microseconds" if moment.microsecond % 1000 else "milliseconds").replace(
        "+00:00", "Z"
    )
