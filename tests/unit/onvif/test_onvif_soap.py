"""SOAP requests from hostile bytes, and filters as clients write them."""

from datetime import UTC, datetime, timedelta
from xml.etree.ElementTree import Element

import pytest
from defusedxml.ElementTree import fromstring

from cctv_storaged.onvif import soap
from cctv_storaged.onvif.search import has_track, is_wanted
from cctv_storaged.onvif.soap import Request, SoapFault

S12 = "http://www.w3.org/2003/05/soap-envelope"
S11 = "http://schemas.xmlsoap.org/soap/envelope/"


def envelope(body: str, namespace: str = S12, before: str = "") -> bytes:
    return f'{before}<s:Envelope xmlns:s="{namespace}"><s:Body>{body}</s:Body></s:Envelope>'.encode()


CALL = '<GetServices xmlns="http://www.onvif.org/ver10/device/wsdl"/>'
BOMB = '<!DOCTYPE a [<!ENTITY b "bbbbbbbb"><!ENTITY c "&b;&b;&b;&b;">]>'
FILE = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]>'


@pytest.mark.parametrize(("namespace", "version"), [(S12, "1.2"), (S11, "1.1")])
def test_both_versions_are_read_and_answered_in_kind(namespace: str, version: str) -> None:
    request = soap.read_request(envelope(CALL, namespace))
    assert (request.version, request.service, request.operation) == (version, "tds", "GetServices")
    answer = fromstring(soap.response(request, soap.text("tds:A", "<&")))
    body = answer.find(f"{{{namespace}}}Body")
    assert body is not None and [each.tag.rpartition("}")[2] for each in body] == ["GetServicesResponse"]
    fault = fromstring(soap.fault(version, soap.invalid("no <such> thing", "ter:NoProfile")))
    told = [each.text for each in fault.iter() if each.text]
    assert "no <such> thing" in told and "ter:NoProfile" in told


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GET / HTTP/1.1",
        b"\x16\x03\x01\x02",
        b"<a>",
        b"<a/>",
        envelope(""),
        envelope(CALL, "urn:other"),
        envelope(CALL, before=BOMB),
        envelope("<a>&c;</a>", before=BOMB),
        envelope("<a>&b;</a>", before=FILE),
        envelope("<a>" * 3000 + "</a>" * 3000),
        envelope(f"<a>{'x' * 70_000}</a>"),
        b'<?xml version="1.0" encoding="utf-7"?><a/>',
        envelope(CALL).replace(b"GetServices", b"Get\xff"),
    ],
)
def test_what_is_no_request_is_a_fault_and_no_harm(data: bytes) -> None:
    with pytest.raises(SoapFault):
        soap.read_request(data)


def test_a_token_is_read_only_with_a_digest() -> None:
    security = (
        '<s:Header><w:Security xmlns:w="http://docs.oasis-open.org/wss/2004/01/'
        'oasis-200401-wss-wssecurity-secext-1.0.xsd"><w:UsernameToken><w:Username> a </w:Username>'
        '<w:Password Type="#{}">secret</w:Password><w:Nonce>n</w:Nonce>'
        "</w:UsernameToken></w:Security></s:Header>"
    )

    def read(kind: str) -> Request:
        data = envelope(CALL).replace(b"<s:Body>", security.format(kind).encode() + b"<s:Body>")
        return soap.read_request(data)

    digest, plain = read("PasswordDigest").token, read("PasswordText").token
    assert digest is not None and (digest.username, digest.digest, digest.nonce) == ("a", "secret", "n")
    assert plain is not None and plain.digest == ""
    assert soap.read_request(envelope(CALL)).token is None


def element(inner: str) -> Element:
    read: Element = fromstring(f"<a>{inner}</a>")
    return read


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("PT10S", timedelta(seconds=10)),
        ("PT1M0.5S", timedelta(seconds=60)),  # taken down to the longest
        ("P1D", timedelta(seconds=60)),
        ("", timedelta(seconds=7)),
    ],
)
def test_durations(text: str, length: timedelta) -> None:
    body = element(f"<T>{text}</T>")
    assert soap.duration(body, "T", timedelta(seconds=7), timedelta(seconds=60)) == length


@pytest.mark.parametrize("text", ["10", "P", "PT", "P1Y", "-PT1S", "PT99999999999999S", "PTS"])
def test_what_is_no_duration_is_a_fault(text: str) -> None:
    with pytest.raises(SoapFault):
        soap.duration(element(f"<T>{text}</T>"), "T", timedelta(0), timedelta(1))


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-22T09:00:00.000Z", datetime(2026, 11, 22, 9, tzinfo=UTC)),
        ("2026-11-22T09:00:00.1234567Z", datetime(2026, 11, 22, 9, 0, 0, 123456, tzinfo=UTC)),
        ("2026-11-22T11:00:00+02:00", datetime(2026, 11, 22, 9, tzinfo=UTC)),
        ("2026-11-22T09:00:00", datetime(2026, 11, 22, 9, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", datetime(1970, 1, 1, tzinfo=UTC)),
        ("9999-12-31T23:59:59Z", datetime(9000, 1, 1, tzinfo=UTC)),
    ],
)
def test_moments(text: str, moment: datetime) -> None:
    assert soap.moment(element(f"<T>{text}</T>"), "T") == moment


@pytest.mark.parametrize("text", ["now", "2026-13-01T00:00:00Z", "0001-01-01T00:00:00+23:00"])
def test_what_is_no_moment_is_a_fault(text: str) -> None:
    with pytest.raises(SoapFault):
        soap.moment(element(f"<T>{text}</T>"), "T")


def test_numbers_are_taken_down_to_what_is_possible() -> None:
    body = element("<A>7</A><B>99999999999</B><C>-3</C><D>many</D>")
    read = [soap.number(body, name, 5, 100) for name in ("A", "B", "C", "missing")]
    assert read == [7, 100, 0, 5]
    with pytest.raises(SoapFault):
        soap.number(body, "D", 5, 100)


def test_names_that_xml_cannot_hold_are_written_all_the_same() -> None:
    written = soap.text("tt:Name", "a\0b\udce4\x1bc & <d>", kind='"quoted"')
    request = soap.read_request(envelope(CALL))
    read = fromstring(soap.response(request, written))
    assert "a?b??c & <d>" in [each.text for each in read.iter()]


@pytest.mark.parametrize(
    ("wanted", "passes"),
    [
        ("", True),
        ('boolean(//Track[TrackType = "Video"])', True),
        ("boolean( //Track[TrackType='Video'] )", True),
        ('boolean(//Track[TrackType = "Audio"])', False),
        ("boolean(//Track[TrackType = “Metadata”])", False),
        ("boolean(//Source[Name = 'x'])", True),
    ],
)
def test_the_filter_of_recordings(wanted: str, passes: bool) -> None:
    assert has_track(wanted) is passes


@pytest.mark.parametrize(
    ("expression", "passes"),
    [
        ("", True),
        ("tns1:RecordingHistory/Track/State", True),
        ("tns1:RecordingHistory/Recording/State|tns1:RecordingHistory/Track/State", True),
        ("tns1:RecordingHistory//.", True),
        ("tns1:RecordingHistory/Track//.", True),
        ("tns1:RecordingHistory/Recording/State", False),
        ("tns1:RecordingHistory/Rec//.", False),
        ("tns1:RuleEngine//.", False),
        ("RecordingHistory/Track", False),
    ],
)
def test_the_filter_of_events(expression: str, passes: bool) -> None:
    assert is_wanted(expression) is passes
