"""RecorderCommandService of a recorder: SOAP 1.1 for what the recorder holds (section 3.2b of the paper)."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape

from defusedxml import ElementTree

from tests.fakes.xprotect.media import Stretch
from tests.fakes.xprotect.pictures import moment, ms
from tests.fakes.xprotect.sequences import recorded
from tests.fakes.xprotect.site import Camera, Site

PATH = "/RecorderCommandService/RecorderCommandService.asmx"
NAMESPACE = "http://videoos.net/2/XProtectCSRecorderCommand"
_SOAP = "http://schemas.xmlsoap.org/soap/envelope/"
RECORDING = UUID("f9c62604-d0c5-4050-ae25-72de51639b14")
_TYPES = {
    RECORDING: "RecordingSequence",
    UUID("53cb5e33-2183-44bd-9491-8364d2457480"): "MotionSequence",
    UUID("0601d294-b7e5-4d93-9614-9658561ad5e4"): "RecordingWithTriggerSequence",
}
_BAD_TOKEN = 10_001  # the number itself was never published; the sub numbers were


@dataclass(frozen=True, slots=True)
class _Fault(Exception):
    text: str
    number: int
    sub_number: int = 0


@dataclass(slots=True)
class RecorderCommands:
    """Answers one request at a time, and knows nothing of HTTP but its status."""

    site: Site

    def answer(self, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, str]:
        """Status and document. `headers` by lower-case name."""
        if path.partition("?")[0].lower() != PATH.lower():
            return 404, ""
        try:
            method, values = _read(headers, body)
            self.site.calls.count(f"soap:{method}")
            self._admit(values)
            return 200, _envelope(self._result(method, values))
        except _Fault as fault:
            return 500, _envelope(_fault(fault))

    def _admit(self, values: Mapping[str, str]) -> None:
        token = values.get("token", "")
        if not token:
            raise _Fault("No token supplied", _BAD_TOKEN, 1)
        if not self.site.tokens.corporate_is_good(token):
            raise _Fault("Token invalid", _BAD_TOKEN, 2)

    def _result(self, method: str, values: Mapping[str, str]) -> str:
        methods: dict[str, Callable[[Mapping[str, str]], str]] = {
            "SequencesGetTypes": self._types,
            "SequencesGet": self._sequences,
        }
        if method not in methods:
            raise _Fault(f"Method '{method}' not supported", 40_000)
        inner = methods[method](values)
        result = f"<{method}Result>{inner}</{method}Result>" if inner else f"<{method}Result />"
        return f'<{method}Response xmlns="{NAMESPACE}">{result}</{method}Response>'

    def _types(self, values: Mapping[str, str]) -> str:
        self._camera(values)
        return "".join(
            f"<SequenceType><Id>{kind}</Id><Name>{name}</Name></SequenceType>"
            for kind, name in _TYPES.items()
        )

    def _sequences(self, values: Mapping[str, str]) -> str:
        """Onward from `minTime`, at most `maxCount`."""
        camera = self._camera(values)
        if self.site.faults.sequences_fault is not None:
            raise _Fault("Sequences cannot be read", self.site.faults.sequences_fault)
        kind = _guid(values, "sequenceType")
        if kind not in _TYPES:
            raise _Fault(f"Unknown sequence type {kind}", 40_001)
        start_ms, end_ms = _time(values, "minTime"), _time(values, "maxTime")
        if not values.get("maxCount", "").isdecimal():
            raise _Fault(f"maxCount is {values.get('maxCount')!r}, not a number", 40_004)
        found = recorded(self.site, camera, Stretch(start_ms, end_ms)) if kind == RECORDING else []
        count, limit = int(values["maxCount"]), self.site.assumptions.sequences_limit
        return "".join(map(_entry, sorted(found)[: count if limit is None else min(count, limit)]))

    def _camera(self, values: Mapping[str, str]) -> Camera:
        camera = self.site.camera(_guid(values, "deviceId"))
        if camera is None:
            raise _Fault(f"Unknown device {values['deviceId']}", 40_002)
        return camera


def _read(headers: Mapping[str, str], body: bytes) -> tuple[str, Mapping[str, str]]:
    """Method and its children. A prefix for the namespace is refused, as real recorders do."""
    try:
        root: Element = ElementTree.fromstring(body)
    except ElementTree.ParseError as exc:
        raise _Fault(f"not XML: {exc}", 40_003) from None
    call = root.find(f"{{{_SOAP}}}Body/*")
    if call is None or not call.tag.startswith(f"{{{NAMESPACE}}}"):
        raise _Fault("no method of this service in the body", 40_003)
    method = call.tag.rpartition("}")[2]
    if not re.search(rb"<" + method.encode() + rb"[\s/>]", body):
        raise _Fault("the namespace must be the default one", 40_003)
    if headers.get("soapaction", "").strip('"') != f"{NAMESPACE}/{method}":
        raise _Fault(f"SOAPAction is {headers.get('soapaction')!r}", 40_003)
    values = {child.tag.rpartition("}")[2]: (child.text or "").strip() for child in call}
    if any(not child.tag.startswith(f"{{{NAMESPACE}}}") for child in call):
        raise _Fault("a parameter is outside of the namespace", 40_003)
    return method, values


def _guid(values: Mapping[str, str], name: str) -> UUID:
    try:
        return UUID(values[name])
    except (KeyError, ValueError):
        raise _Fault(f"{name} is {values.get(name)!r}, not a GUID", 40_004) from None


def _time(values: Mapping[str, str], name: str) -> int:
    try:
        time = datetime.fromisoformat(values[name])
        return ms(time)
    except (KeyError, ValueError, TypeError):
        raise _Fault(f"{name} is {values.get(name)!r}, not a time in UTC", 40_004) from None


def _entry(one: Stretch) -> str:
    begin, end = (f"{moment(at):%Y-%m-%dT%H:%M:%S.%f}0Z" for at in one)
    return (
        f"<SequenceEntry><TimeBegin>{begin}</TimeBegin><TimeTrigged>{begin}</TimeTrigged>"
        f"<TimeEnd>{end}</TimeEnd></SequenceEntry>"
    )


def _fault(fault: _Fault) -> str:
    return (
        f"<soap:Fault><faultcode>soap:Server</faultcode><faultstring>{escape(fault.text)}</faultstring><detail>"
        f"<ErrorNumber>{fault.number}</ErrorNumber><SubErrorNumber>{fault.sub_number}</SubErrorNumber>"
        "</detail></soap:Fault>"
    )


def _envelope(inner: str) -> str:
    return (
        f'<?xml version="1.0" encoding="utf-8"?><soap:Envelope xmlns:soap="{_SOAP}"><soap:Body>'
        f"{inner}</soap:Body></soap:Envelope>"
    )
