"""The media service: one video source and one profile per camera (ONVIF Media Service Specification).

There is no live stream here: the recorder that writes the files is another program. GetStreamUri names a
stream that can be opened and never sends a picture, as whatever it sent would be recorded by the VMS under
the time of its arrival.
"""

from xml.etree.ElementTree import Element

from cctv_storaged.onvif import soap
from cctv_storaged.onvif.device import CAPABILITIES
from cctv_storaged.onvif.inventory import Channel, Inventory
from cctv_storaged.onvif.soap import Addresses, Operations, tag, text

LIVE_PATH = "/live/"
SIZE, RATE = (1920, 1080), 25
"""Told of every camera: the tables want a size, and the footage itself says the true one."""


class MediaService:
    """Answers what a client asks before it looks for recordings."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory

    @property
    def operations(self) -> Operations:
        return {
            "GetServiceCapabilities": self.capabilities,
            "GetProfiles": self.profiles,
            "GetProfile": self.profile,
            "GetVideoSources": self.video_sources,
            "GetAudioSources": self.audio_sources,
            "GetVideoSourceConfigurations": self.source_configurations,
            "GetVideoEncoderConfigurations": self.encoder_configurations,
            "GetAudioSourceConfigurations": self.audio_sources,
            "GetAudioEncoderConfigurations": self.audio_sources,
            "GetStreamUri": self.stream_uri,
        }

    async def capabilities(self, _body: Element, _at: Addresses) -> str:
        return CAPABILITIES["trt"]

    async def profiles(self, _body: Element, _at: Addresses) -> str:
        return soap.each(_profile("trt:Profiles", each) for each in await self._inventory.channels())

    async def profile(self, body: Element, _at: Addresses) -> str:
        channel = await self._inventory.by_profile(soap.value(body, "ProfileToken"))
        return _profile("trt:Profile", channel)

    async def video_sources(self, _body: Element, _at: Addresses) -> str:
        return soap.each(
            tag("trt:VideoSources", text("tt:Framerate", RATE), _size("tt:Resolution"), token=each.source)
            for each in await self._inventory.channels()
        )

    async def audio_sources(self, _body: Element, _at: Addresses) -> str:
        """None: only pictures are handed over."""
        return ""

    async def source_configurations(self, _body: Element, _at: Addresses) -> str:
        return soap.each(_source("trt:Configurations", each) for each in await self._inventory.channels())

    async def encoder_configurations(self, _body: Element, _at: Addresses) -> str:
        return soap.each(
            _encoder("trt:Configurations", each)
            for each in await self._inventory.channels()
            if each.encoding == "H264"
        )

    async def stream_uri(self, body: Element, at: Addresses) -> str:
        channel = await self._inventory.by_profile(soap.value(body, "ProfileToken"))
        check_setup(body)
        return tag(
            "trt:MediaUri",
            text("tt:Uri", f"{at.rtsp}{LIVE_PATH}{channel.source}"),
            text("tt:InvalidAfterConnect", False),
            text("tt:InvalidAfterReboot", False),
            text("tt:Timeout", "PT0S"),
        )


def check_setup(body: Element) -> None:
    """Raises SoapFault for a way of sending that there is not.

    UDP passes: that the transport is TCP is settled by SETUP, and a client may well ask with its default.
    """
    stream = soap.value(body, "StreamSetup", "Stream")
    protocol = soap.value(body, "StreamSetup", "Transport", "Protocol")
    if stream not in ("", "RTP-Unicast") or protocol not in ("", "TCP", "RTSP", "UDP"):
        message = f"{stream} over {protocol} is not offered: RTP-Unicast over RTSP is"
        raise soap.invalid(message, "ter:InvalidStreamSetup")


def _profile(name: str, channel: Channel) -> str:
    """H.265 has no name in this version of the service; the encoder is left out then."""
    encoder = _encoder("tt:VideoEncoderConfiguration", channel) if channel.encoding == "H264" else ""
    return tag(
        name,
        text("tt:Name", channel.camera.name),
        _source("tt:VideoSourceConfiguration", channel),
        encoder,
        token=channel.profile,
        fixed="true",
    )


def _source(name: str, channel: Channel) -> str:
    width, height = SIZE
    bounds = tag("tt:Bounds", x="0", y="0", width=str(width), height=str(height))
    return tag(
        name,
        text("tt:Name", channel.camera.name),
        text("tt:UseCount", 1),
        text("tt:SourceToken", channel.source),
        bounds,
        token=f"source-{channel.camera.id}",
    )


def _encoder(name: str, channel: Channel) -> str:
    nowhere = tag("tt:Address", text("tt:Type", "IPv4"), text("tt:IPv4Address", "0.0.0.0"))
    multicast = tag(
        "tt:Multicast", nowhere, text("tt:Port", 0), text("tt:TTL", 0), text("tt:AutoStart", False)
    )
    limits = tag(
        "tt:RateControl",
        text("tt:FrameRateLimit", RATE),
        text("tt:EncodingInterval", 1),
        text("tt:BitrateLimit", 8192),
    )
    return tag(
        name,
        text("tt:Name", channel.camera.name),
        text("tt:UseCount", 1),
        text("tt:Encoding", channel.encoding),
        _size("tt:Resolution"),
        text("tt:Quality", 1),
        limits,
        tag("tt:H264", text("tt:GovLength", RATE), text("tt:H264Profile", "Main")),
        multicast,
        text("tt:SessionTimeout", "PT60S"),
        token=f"encoder-{channel.camera.id}",
    )


def _size(name: str) -> str:
    return tag(name, text("tt:Width", SIZE[0]), text("tt:Height", SIZE[1]))
