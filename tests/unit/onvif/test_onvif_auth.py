"""Who is let in: the specifications' own examples, and what may be used only once."""

import base64
import re
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from cctv_storaged.config.milestone import MilestoneOnvif
from cctv_storaged.errors import ConfigError
from cctv_storaged.onvif import auth
from cctv_storaged.onvif.auth import (
    WINDOW,
    Account,
    Digest,
    Seen,
    UsernameToken,
    UsernameTokens,
    Verdict,
    account_of,
    answer_of,
    password_digest,
    response_of,
)
from tests.fakes.xprotect.digest import DigestAuth

ACCOUNT = Account("recorder", "canary")
NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


def header_of(text: str) -> str:
    return " ".join(text.split())


RFC_2617 = header_of(
    """Digest username="Mufasa", realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093",
    uri="/dir/index.html", qop=auth, nc=00000001, cnonce="0a4f113b",
    response="6629fae49393a05397450978507c4ef1", opaque="5ccc069c403ebaf9f0171e9517f40e41" """
)
RFC_7616 = header_of(
    """Digest username="Mufasa", realm="http-auth@example.org", uri="/dir/index.html", algorithm=%s,
    nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", nc=00000001,
    cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", qop=auth, response="%s" """
)


@pytest.mark.parametrize(
    ("header", "password"),
    [
        (RFC_2617, "Circle Of Life"),
        (RFC_7616 % ("MD5", "8ca523f5e9506fed4657c9700eebdbec"), "Circle of Life"),
        (
            RFC_7616 % ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
            "Circle of Life",
        ),
    ],
    ids=["RFC 2617, 3.5", "RFC 7616, 3.9.1, MD5", "RFC 7616, 3.9.1, SHA-256"],
)
def test_the_examples_of_digest(header: str, password: str) -> None:
    answer = answer_of(header)
    assert answer is not None
    assert response_of(answer, "GET", password) == answer.response
    assert response_of(answer, "POST", password) != answer.response


def test_the_example_of_a_username_token() -> None:
    """ONVIF Application Programmer's Guide, "Authentication"."""
    nonce = base64.b64decode("LKqI6G/AikKCQrN0zqZFlg==")
    assert password_digest(nonce, "2010-09-16T07:50:45Z", "userpassword") == "tuOSpGlFlIXsozq4HFNeeGeFLEI="


def token(
    *, created: datetime = NOW, nonce: bytes = b"once", password: str = "canary", user: str = "recorder"
) -> UsernameToken:
    text = created.isoformat().replace("+00:00", "Z")
    return UsernameToken(user, password_digest(nonce, text, password), base64.b64encode(nonce).decode(), text)


def test_a_username_token_is_good_once_and_within_its_window() -> None:
    tokens = UsernameTokens(ACCOUNT)
    assert tokens.is_good(token(), NOW, 0)
    assert not tokens.is_good(token(), NOW, 1)
    assert tokens.is_good(token(nonce=b"another"), NOW, 1)
    assert tokens.is_good(token(nonce=b"late", created=NOW - WINDOW), NOW, 1)
    early, late = NOW + WINDOW + timedelta(seconds=1), NOW - WINDOW - timedelta(seconds=1)
    assert not tokens.is_good(token(nonce=b"a", created=early), NOW, 1)
    assert not tokens.is_good(token(nonce=b"b", created=late), NOW, 1)


@pytest.mark.parametrize(
    "wrong",
    [
        token(password="guess"),
        token(password=""),
        token(user="Recorder"),
        UsernameToken("recorder", "", "", ""),
        UsernameToken("recorder", token().digest, "not base64", token().created),
        UsernameToken("recorder", token().digest, token().nonce, "yesterday"),
        UsernameToken("recorder", token().digest, token().nonce, "2026-11-26T12:00:00"),
    ],
)
def test_a_wrong_username_token_is_not_good(wrong: UsernameToken) -> None:
    assert not UsernameTokens(ACCOUNT).is_good(wrong, NOW, 0)


def answered(digest: Digest, *, now_s: float = 100, method: str = "POST", uri: str = "/onvif/a") -> str:
    client = DigestAuth(ACCOUNT.username, ACCOUNT.password)
    assert client.challenged([digest.challenge("SHA-256", now_s)])
    return client.header(method, uri)["Authorization"]


def test_a_count_of_http_digest_is_good_once() -> None:
    digest = Digest(ACCOUNT, life_s=60, once=True)
    client = DigestAuth(ACCOUNT.username, ACCOUNT.password)
    assert client.challenged([digest.challenge("MD5", 100)])
    first, second = (client.header("POST", "/onvif/a")["Authorization"] for _ in range(2))
    assert [digest.is_good(each, "POST", 101, "/onvif/a") for each in (second, first, first)] == [
        True,
        True,
        False,
    ]


def test_a_digest_is_for_its_method_path_listener_and_time() -> None:
    digest = Digest(ACCOUNT, life_s=60, once=False)
    header = answered(digest)
    assert digest.is_good(header, "POST", 160, "/onvif/a")
    assert digest.is_good(header, "POST", 160)
    assert not digest.is_good(header, "GET", 160)
    assert not digest.is_good(header, "POST", 160, "/onvif/b")
    assert not digest.is_good(header, "POST", 162)
    assert not Digest(ACCOUNT, life_s=60, once=False).is_good(header, "POST", 160)
    assert not Digest(Account("recorder", "other"), life_s=60, once=False).is_good(header, "POST", 160)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Digest",
        "Digest ",
        "Basic cmVjb3JkZXI6Y2FuYXJ5",
        'Digest username="a',
        'Digest username="a", username="b", realm="r", nonce="n", uri="u", response="x"',
        "Digest " + "a=b," * 2000,
        'Digest username="' + "a" * 2000 + '", realm="r", nonce="n", uri="u", response="x"',
        'Digest realm="r", nonce="n", uri="u", response="x"',
    ],
)
def test_what_is_no_digest_is_not_good(header: str) -> None:
    assert answer_of(header) is None
    assert not Digest(ACCOUNT, life_s=60, once=True).is_good(header, "POST", 0)


def test_only_what_tells_whether_a_password_is_right_is_a_guess() -> None:
    digest = Digest(ACCOUNT, life_s=60, once=True)
    header = answered(digest)
    wrong = answered(digest).replace('username="', 'username="x')
    assert digest.verdict(wrong, "POST", 100) is Verdict.WRONG
    assert digest.verdict(header, "POST", 200) is Verdict.UNUSABLE  # too old: nobody looked
    assert digest.verdict(header, "POST", 100) is Verdict.GOOD
    assert digest.verdict(header, "POST", 100) is Verdict.UNUSABLE  # once more


@pytest.mark.parametrize(
    ("field", "hostile"),
    [("uri", "http://["), ("username", "\udcff"), ("response", "\udcff"), ("cnonce", "\udcff")],
)
def test_a_digest_that_is_no_text_is_not_good(field: str, hostile: str) -> None:
    digest = Digest(ACCOUNT, life_s=60, once=True)
    header = re.sub(rf'\b{field}="[^"]*"', f'{field}="{hostile}"', answered(digest))
    assert hostile in header
    assert not digest.is_good(header, "POST", 100, "/onvif/a")


def test_a_digest_by_an_unknown_algorithm_or_quality_is_not_good() -> None:
    good = answered(digest := Digest(ACCOUNT, life_s=60, once=False))
    assert digest.is_good(good, "POST", 100)
    assert not digest.is_good(good.replace("SHA-256", "MD5-sess"), "POST", 100)
    assert not digest.is_good(good + ", qop=auth-int, nc=1, cnonce=a", "POST", 100)


def test_what_was_seen_is_remembered_for_its_life_and_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "MOST_NONCES", 2)
    seen = Seen(10)
    assert [seen.is_new(each, 0) for each in (b"a", b"b", b"a", b"c")] == [True, True, False, False]
    assert seen.is_new(b"c", 10)


@pytest.mark.parametrize(
    ("bind", "user", "password", "faulty"),
    [
        ("0.0.0.0", None, "", "milestone.onvif.password"),
        ("192.0.2.7", "recorder", "", "milestone.onvif.password"),
        ("127.0.0.1", None, "canary", "milestone.onvif.username"),
        ("127.0.0.1", None, "", None),
        ("0.0.0.0", "recorder", "canary", None),
    ],
)
def test_no_address_that_others_reach_is_without_a_password(
    bind: str, user: str | None, password: str, faulty: str | None
) -> None:
    settings = MilestoneOnvif(enabled=True, bind=bind, username=user, password=SecretStr(password))
    if faulty is None:
        assert account_of(settings).open == (password == "")
        return
    with pytest.raises(ConfigError) as caught:
        account_of(settings)
    assert [fault.where for fault in caught.value.faults] == [faulty]


def test_a_password_is_in_no_representation() -> None:
    assert "canary" not in repr(ACCOUNT)
