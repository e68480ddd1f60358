"""The replay service: where a recording is played from (ONVIF Replay Control Specification)."""

from xml.etree.ElementTree import Element

from cctv_storaged.onvif import soap
from cctv_storaged.onvif.device import CAPABILITIES
from cctv_storaged.onvif.inventory import Inventory
from cctv_storaged.onvif.mediaservice import check_setup
from cctv_storaged.onvif.soap import Addresses, Operations, tag, text

REPLAY_PATH = "/replay/"
SESSION_TIMEOUT_S = 60


class ReplayService:
    """Names addresses."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory

    @property
    def operations(self) -> Operations:
        return {
            "GetServiceCapabilities": self.capabilities,
            "GetReplayUri": self.uri,
            "GetReplayConfiguration": self.configuration,
        }

    async def capabilities(self, _body: Element, _at: Addresses) -> str:
        return CAPABILITIES["trp"]

    async def uri(self, body: Element, at: Addresses) -> str:
        found = await self._inventory.by_recording(soap.value(body, "RecordingToken"))
        check_setup(body)
        return text("trp:Uri", f"{at.rtsp}{REPLAY_PATH}{found.channel.source}")

    async def configuration(self, _body: Element, _at: Addresses) -> str:
        return tag("trp:Configuration", text("tt:SessionTimeout", f"PT{SESSION_TIMEOUT_S}S"))
