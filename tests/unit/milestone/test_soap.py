"""SOAP 1.1: what is sent is well formed whatever is in it; what comes back is not trusted."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cctv_storaged.backends.milestone.answers import TokenRefused, Unreadable
from cctv_storaged.backends.milestone.soap import (
    ENVELOPE,
    Answer,
    NoSuchService,
    SoapCall,
    SoapFault,
    envelope,
    response_of,
)
from cctv_storaged.backends.milestone.xmltree import DEEPEST, MOST_BYTES, MOST_NODES, parse_xml
from cctv_storaged.errors import (
    BackendError,
    BackendThrottled,
    BackendUnavailable,
    ObjectRejected,
    Unsupported,
)

SPACE = "http://videoos.net/2/XProtectCSRecorderCommand"
SECRET = "TOKEN#canary#host//ServerConnector#"


def call(*fields: tuple[str, str]) -> SoapCall:
    return SoapCall(
        namespace=SPACE,
        method="SequencesGet",
        action=f"{SPACE}/SequencesGet",
        fields=fields,
        secrets=(SECRET,),
    )


def answer(body: str, status: int = 200, space: str = ENVELOPE) -> Answer:
    inner = f'<soap:Envelope xmlns:soap="{space}"><soap:Body>{body}</soap:Body></soap:Envelope>'
    return Answer(status=status, data=f'<?xml version="1.0"?>{inner}'.encode())


def numbers(number: int, sub_number: int, *, wrapped: bool = False) -> str:
    inner = f"<ErrorNumber>{number}</ErrorNumber><SubErrorNumber>{sub_number}</SubErrorNumber>"
    return f"<detail>{f'<e>{inner}</e>' if wrapped else inner}</detail>"


def fault(detail: str = "", text: str = "It will not", status: int = 500) -> Answer:
    code = "<faultcode>soap:Server</faultcode>"
    return answer(f"<soap:Fault>{code}<faultstring>{text}</faultstring>{detail}</soap:Fault>", status)


RESULT = '<SequencesGetResult><A x="1">b</A></SequencesGetResult>'
GOOD = f'<SequencesGetResponse xmlns="{SPACE}">{RESULT}</SequencesGetResponse>'


def test_the_method_stands_in_the_default_namespace_and_its_children_in_order() -> None:
    assert envelope(call(("token", "t"), ("maxCount", "5"))).decode() == (
        '<?xml version="1.0" encoding="utf-8"?>'
        f'<s:Envelope xmlns:s="{ENVELOPE}"><s:Body><SequencesGet xmlns="{SPACE}">'
        "<token>t</token><maxCount>5</maxCount></SequencesGet></s:Body></s:Envelope>"
    )


XML_CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\ufffe\uffff", min_codepoint=32)
XML_TEXT = st.text(XML_CHARACTERS)


@given(XML_TEXT)
@example("]]></token><evil/>&amp;&lt;\t\n\r\"'")
def test_any_text_arrives_as_it_was(text: str) -> None:
    root = parse_xml(envelope(call(("token", text))), "it")
    found = root.child("Body", "SequencesGet", "token")
    assert found is not None
    assert (found.text, found.children) == (text, [])


@pytest.mark.parametrize("char", ["\0", "\x1b", "\x0b", "\ufffe", "\uffff"])
def test_what_xml_cannot_carry_is_not_sent(char: str) -> None:
    with pytest.raises(ObjectRejected, match="character"):
        envelope(call(("token", f"a{char}")))


def test_the_response_is_handed_over() -> None:
    response = response_of(answer(GOOD), call())
    assert response.value("SequencesGetResult", "A") == "b"
    assert [node.attributes for node in response.every("A")] == [{"x": "1"}]


FAULTS: dict[str, tuple[Answer, type[BackendError]]] = {
    "no token": (
        fault(numbers(1, 1)),
        TokenRefused,
    ),
    "bad token": (
        fault(numbers(1, 2, wrapped=True)),
        TokenRefused,
    ),
    "not supported": (
        fault(numbers(40000, 2)),
        Unsupported,
    ),
    "numbers": (
        fault(numbers(7, 0)),
        SoapFault,
    ),
    "no numbers": (fault(), SoapFault),
    "numbers that are none": (fault("<detail><ErrorNumber>x</ErrorNumber></detail>"), SoapFault),
    "with 200": (fault(status=200), SoapFault),
    "with 400": (fault(status=400), SoapFault),
    "401": (Answer(status=401, data=b""), TokenRefused),
    "403": (Answer(status=403, data=b""), BackendUnavailable),
    "404": (Answer(status=404, data=b"<html>"), NoSuchService),
    "429": (Answer(status=429, data=b""), BackendThrottled),
    "503 with a time": (Answer(status=503, data=b"", retry_after_s=7), BackendThrottled),
    "503": (Answer(status=503, data=b"<html>"), BackendUnavailable),
    "a redirect": (Answer(status=302, data=b""), BackendUnavailable),
    "a web server's own 500": (Answer(status=500, data=b"<html><body>oops"), BackendUnavailable),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_refusal_is_told_by_what_can_be_done(case: str) -> None:
    given_answer, error = FAULTS[case]
    with pytest.raises(error) as told:
        response_of(given_answer, call())
    assert type(told.value) is error
    assert "SequencesGet" in str(told.value)


def test_a_fault_keeps_its_numbers_and_not_our_token() -> None:
    detail = "<detail><ErrorNumber>7</ErrorNumber><SubErrorNumber>9</SubErrorNumber></detail>"
    with pytest.raises(SoapFault) as told:
        response_of(fault(detail, f"no\n{SECRET} here"), call())
    assert (told.value.number, told.value.sub_number) == (7, 9)
    assert str(told.value) == "SequencesGet is refused (error 7, 9): no *** here"


BOMB = (
    '<!DOCTYPE x [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">'
    '<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;"><!ENTITY d "&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;">]><x>&d;</x>'
)
HOSTILE = {
    "billion laughs": BOMB,
    "an external entity": '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><x>&a;</x>',
    "an external document type": '<!DOCTYPE x SYSTEM "http://127.0.0.1:1/x.dtd"><x/>',
    "a parameter entity": '<!DOCTYPE x [<!ENTITY % a SYSTEM "file:///etc/passwd"> %a;]><x/>',
    "a document type alone": "<!DOCTYPE x><x/>",
    "an unknown entity": "<x>&nbsp;</x>",
    "an encoding nobody knows": '<?xml version="1.0" encoding="x-evil"?><x/>',
    "UTF-7": '<?xml version="1.0" encoding="utf-7"?><x>+ADw-</x>',
    "too deep": "<x>" * (DEEPEST + 1) + "</x>" * (DEEPEST + 1),
    "too many": "<x>" + "<y/>" * MOST_NODES + "</x>",
    "too long": "<x>" + " " * MOST_BYTES + "</x>",
    "cut": "<x><y>",
    "nothing": "",
    "two roots": "<x/><x/>",
    "a prefix of nobody": "<a:x/>",
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_xml_is_refused(case: str) -> None:
    with pytest.raises(Unreadable) as told:
        parse_xml(HOSTILE[case].encode(), "the answer to Login")
    assert "the answer to Login" in str(told.value)
    assert "passwd" not in str(told.value)
    with pytest.raises(Unreadable):
        response_of(Answer(status=200, data=HOSTILE[case].encode()), call())


def test_as_much_xml_as_is_allowed_is_read() -> None:
    deep = "<x>" * DEEPEST + "</x>" * DEEPEST
    many = "<x>" + "<y/>" * (MOST_NODES - 1) + "</x>"
    assert len(list(parse_xml(deep.encode(), "it").every("x"))) == DEEPEST - 1
    assert len(parse_xml(many.encode(), "it").children) == MOST_NODES - 1


def test_text_between_elements_is_their_parents() -> None:
    root = parse_xml(b"<x>a<y>b</y>c<z/>d&#65;<![CDATA[<e>]]></x>", "it")
    assert (root.text, [child.text for child in root.children]) == ("acdA<e>", ["b", ""])


WRONG = {
    "SOAP 1.2": answer(GOOD, space="http://www.w3.org/2003/05/soap-envelope"),
    "no envelope": Answer(status=200, data=GOOD.encode()),
    "an empty body": answer(""),
    "another service's response": answer(GOOD.replace(SPACE, "http://videoos.net/2/Other")),
    "a response without a namespace": answer(GOOD.replace(f' xmlns="{SPACE}"', "")),
    "another method's response": answer(GOOD.replace("SequencesGetResponse", "LoginResponse")),
    "a fault of no namespace": answer("<Fault><faultstring>x</faultstring></Fault>"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_stands_in_another_namespace_is_something_else(case: str) -> None:
    with pytest.raises(Unreadable):
        response_of(WRONG[case], call())


@given(st.binary(max_size=200))
def test_garbage_ends_in_one_of_our_errors(data: bytes) -> None:
    with pytest.raises(BackendError):
        response_of(Answer(status=200, data=data), call())
