"""What SDP says of a camera's footage (RFC 4566; ONVIF Streaming, "RTSP describe")."""

from dataclasses import dataclass

from cctv_storaged.clock import MICROSECOND
from cctv_storaged.onvif.codecs import Codecs
from cctv_storaged.onvif.inventory import VIDEO_TRACK, Channel
from cctv_storaged.onvif.rtp import ParameterSets, format_of
from cctv_storaged.onvif.streaming import Footage

PAYLOAD_TYPES = {"h264": 96, "hevc": 97}
CONTROL = "video"


@dataclass(frozen=True, slots=True)
class Description:
    """The codecs that a camera's footage is in, the newest first."""

    sets: tuple[ParameterSets, ...]

    @property
    def payload_types(self) -> dict[str, int]:
        return {each.codec: PAYLOAD_TYPES[each.codec] for each in self.sets}

    def sdp(self, host: str) -> bytes:
        family = "IP6" if ":" in host else "IP4"
        types = [PAYLOAD_TYPES[each.codec] for each in self.sets]
        formats = [line for each in self.sets for line in format_of(PAYLOAD_TYPES[each.codec], each)]
        lines = (
            "v=0",
            f"o=- 0 0 IN {family} {host}",
            "s=recording",
            f"c=IN {family} {'::' if family == 'IP6' else '0.0.0.0'}",
            "t=0 0",
            "a=control:*",
            f"m=video 0 RTP/AVP {' '.join(map(str, types))}",
            *formats,
            f"a=control:{CONTROL}",
            f"a=x-onvif-track:{VIDEO_TRACK}",
        )
        return "".join(f"{line}\r\n" for line in lines).encode()


async def description_of(channel: Channel, footage: Footage, codecs: Codecs) -> Description | None:
    """None where there is no footage that is read here.

    A camera that changed its codec has footage of both, and any of it may be asked for: the newest is
    described first. What is not known to be there is left out: clients believe the last that is described.
    """
    if channel.ends is None:
        return None
    camera_id, span = channel.camera.id, channel.ends.span
    newest = await footage.facts(camera_id, span.end - MICROSECOND)
    found = [] if newest is None else [newest]
    known = {channel.ends.first_codec: span.start} | dict(await codecs.of(camera_id))
    for codec, start in known.items():
        if codec is None or codec not in PAYLOAD_TYPES or any(each.codec == codec for each in found):
            continue
        told = await footage.facts(camera_id, start)
        found.append(told if told is not None and told.codec == codec else ParameterSets(codec))
    return Description(tuple(found)) if found else None
