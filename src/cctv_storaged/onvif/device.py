"""The device service: who we are, what we offer, what time it is (ONVIF Core Specification, 8)."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote
from xml.etree.ElementTree import Element

from cctv_storaged import __version__
from cctv_storaged.clock import Clock
from cctv_storaged.onvif import soap
from cctv_storaged.onvif.soap import Addresses, Operations, tag, text

PATHS = {
    "tds": "/onvif/device_service",
    "trt": "/onvif/media_service",
    "trc": "/onvif/recording_service",
    "tse": "/onvif/search_service",
    "trp": "/onvif/replay_service",
}
OPEN = frozenset({"GetSystemDateAndTime", "GetServices", "GetServiceCapabilities", "GetCapabilities"})
"""Operations that need no log-in (access class PRE_AUTH): a client sets its token's time by them."""
_VERSIONS = {"tds": (21, 12), "trt": (21, 12), "trc": (21, 12), "tse": (21, 12), "trp": (21, 12)}
MANUFACTURER, MODEL = "cctv-storaged", "Profile G recorder"


@dataclass(frozen=True, slots=True)
class Identity:
    """What stays the same for a host."""

    host_id: str

    @property
    def serial(self) -> str:
        return hashlib.sha256(self.host_id.encode()).hexdigest()[:16]

    @property
    def hardware_address(self) -> str:
        """A locally administered one (IEEE 802), as recording servers know hardware by it. Not the card's."""
        digits = hashlib.sha256(b"mac\0" + self.host_id.encode()).hexdigest()[:10]
        return "02:" + ":".join(digits[at : at + 2] for at in range(0, 10, 2))


class DeviceService:
    """Answers for the device."""

    def __init__(self, identity: Identity, clock: Clock) -> None:
        self._identity = identity
        self._clock = clock

    @property
    def operations(self) -> Operations:
        return {
            "GetSystemDateAndTime": self.time,
            "GetDeviceInformation": self.information,
            "GetServices": self.services,
            "GetServiceCapabilities": self.service_capabilities,
            "GetCapabilities": self.capabilities,
            "GetScopes": self.scopes,
            "GetHostname": self.hostname,
            "GetNetworkInterfaces": self.interfaces,
        }

    async def time(self, _body: Element, _at: Addresses) -> str:
        now = self._clock.now()
        clock = tag(
            "tt:Time", text("tt:Hour", now.hour), text("tt:Minute", now.minute), text("tt:Second", now.second)
        )
        date = tag("tt:Date", text("tt:Year", now.year), text("tt:Month", now.month), text("tt:Day", now.day))
        return tag(
            "tds:SystemDateAndTime",
            text("tt:DateTimeType", "NTP"),
            text("tt:DaylightSavings", False),
            tag("tt:TimeZone", text("tt:TZ", "UTC0")),
            tag("tt:UTCDateTime", clock, date),
            tag("tt:LocalDateTime", clock, date),
        )

    async def information(self, _body: Element, _at: Addresses) -> str:
        return (
            text("tds:Manufacturer", MANUFACTURER)
            + text("tds:Model", MODEL)
            + text("tds:FirmwareVersion", __version__)
            + text("tds:SerialNumber", self._identity.serial)
            + text("tds:HardwareId", self._identity.host_id)
        )

    async def services(self, body: Element, at: Addresses) -> str:
        with_capabilities = soap.value(body, "IncludeCapability").lower() in ("true", "1")
        return soap.each(_service(prefix, at, with_capabilities) for prefix in PATHS)

    async def service_capabilities(self, _body: Element, _at: Addresses) -> str:
        return CAPABILITIES["tds"]

    async def capabilities(self, body: Element, at: Addresses) -> str:
        asked = soap.values(body, "Category") or ("All",)
        known = {"All", "Device", "Media", "Analytics", "Events", "Imaging", "PTZ"}
        if not set(asked) <= known:
            raise soap.SoapFault("no such category", "ter:ActionNotSupported", "ter:NoSuchService")
        every = "All" in asked
        parts: list[str] = []
        if every or "Device" in asked:
            parts.append(tag("tt:Device", text("tt:XAddr", at.http + PATHS["tds"]), _SECURITY))
        if every or "Media" in asked:
            parts.append(tag("tt:Media", text("tt:XAddr", at.http + PATHS["trt"]), _STREAMING))
        if every:
            parts.append(tag("tt:Extension", *_extensions(at)))
        return tag("tds:Capabilities", *parts)

    async def scopes(self, _body: Element, _at: Addresses) -> str:
        items = (
            "type/video_encoder",
            "Profile/G",
            f"hardware/{quote(MODEL)}",
            f"name/{quote(self._identity.host_id)}",
        )
        return soap.each(
            tag(
                "tds:Scopes",
                text("tt:ScopeDef", "Fixed"),
                text("tt:ScopeItem", f"onvif://www.onvif.org/{item}"),
            )
            for item in items
        )

    async def hostname(self, _body: Element, _at: Addresses) -> str:
        return tag(
            "tds:HostnameInformation", text("tt:FromDHCP", False), text("tt:Name", self._identity.host_id)
        )

    async def interfaces(self, _body: Element, _at: Addresses) -> str:
        address = self._identity.hardware_address
        info = tag("tt:Info", text("tt:Name", "net0"), text("tt:HwAddress", address))
        return tag("tds:NetworkInterfaces", text("tt:Enabled", True), info, token="net0")


_SECURITY = tag(
    "tt:Security",
    *(
        text(f"tt:{name}", False)
        for name in (
            "TLS1.1",
            "TLS1.2",
            "OnboardKeyGeneration",
            "AccessPolicyConfig",
            "X.509Token",
            "SAMLToken",
            "KerberosToken",
            "RELToken",
        )
    ),
)
_STREAMING = tag(
    "tt:StreamingCapabilities",
    text("tt:RTPMulticast", False),
    text("tt:RTP_TCP", True),
    text("tt:RTP_RTSP_TCP", True),
)


def _extensions(at: Addresses) -> Iterator[str]:
    yield tag(
        "tt:Recording",
        text("tt:XAddr", at.http + PATHS["trc"]),
        text("tt:ReceiverSource", False),
        text("tt:MediaProfileSource", True),
        text("tt:DynamicRecordings", False),
        text("tt:DynamicTracks", False),
        text("tt:MaxStringLength", 256),
    )
    yield tag("tt:Search", text("tt:XAddr", at.http + PATHS["tse"]), text("tt:MetadataSearch", False))
    yield tag("tt:Replay", text("tt:XAddr", at.http + PATHS["trp"]))


CAPABILITIES = {
    "tds": tag(
        "tds:Capabilities",
        tag("tds:Network"),
        tag("tds:Security", UsernameToken="true", HttpDigest="true"),
        tag("tds:System"),
    ),
    "trt": tag(
        "trt:Capabilities",
        tag("trt:ProfileCapabilities", MaximumNumberOfProfiles="256"),
        tag("trt:StreamingCapabilities", RTPMulticast="false", RTP_TCP="true", RTP_RTSP_TCP="true"),
    ),
    "trc": tag(
        "trc:Capabilities",
        DynamicRecordings="false",
        DynamicTracks="false",
        Encoding="H264 H265",
        MaxRecordings="256",
        MaxRecordingJobs="256",
        Options="false",
    ),
    "tse": tag("tse:Capabilities", MetadataSearch="false", GeneralStartEvents="false"),
    "trp": tag("trp:Capabilities", ReversePlayback="false", SessionTimeoutRange="60 60", RTP_RTSP_TCP="true"),
}


def _service(prefix: str, at: Addresses, with_capabilities: bool) -> str:
    major, minor = _VERSIONS[prefix]
    capabilities = tag("tds:Capabilities", CAPABILITIES[prefix]) if with_capabilities else ""
    return tag(
        "tds:Service",
        text("tds:Namespace", soap.NAMESPACES[prefix]),
        text("tds:XAddr", at.http + PATHS[prefix]),
        capabilities,
        tag("tds:Version", text("tt:Major", major), text("tt:Minor", minor)),
    )
