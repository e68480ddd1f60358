"""Our signatures are those of botocore and minio: both libraries are asked to sign the same requests."""

from datetime import UTC, datetime
from urllib.parse import SplitResult, quote, urlencode

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from hypothesis import given
from hypothesis import strategies as st
from minio.credentials.credentials import Credentials as MinioCredentials
from minio.signer import sign_v4_s3

from cctv_storaged.backends.sigv4 import EMPTY_SHA256, Credentials, Signer, ToSign

MOMENT = datetime(2026, 3, 5, 12, 0, 7, tzinfo=UTC)
KEYS = Credentials(access_key="AKEXAMPLE", secret_key="canary-secret/+=")

visible = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=20)
values = st.lists(visible, min_size=1, max_size=3).map("  ".join)
names = st.from_regex(r"x-amz-meta-[a-z0-9-]{1,12}", fullmatch=True)


def signed(request: ToSign, *, credentials: Credentials = KEYS, region: str = "eu-west-1") -> dict[str, str]:
    return Signer(region, now=MOMENT.timestamp).sign(request, credentials)


def request_of(path: str, query: str, headers: dict[str, str], payload: str) -> ToSign:
    return ToSign(
        method="PUT",
        path=path,
        query=query,
        headers={"host": "store.example:9000", **headers},
        payload_sha256=payload,
    )


@given(
    path=st.text(min_size=1, max_size=30).map(lambda text: "/" + quote(text, safe="/~")),
    pairs=st.dictionaries(visible, st.text(max_size=10), max_size=4),
    headers=st.dictionaries(names, values, max_size=4),
    payload=st.binary(min_size=32, max_size=32).map(bytes.hex),
)
def test_botocore_and_minio_sign_the_same(
    path: str, pairs: dict[str, str], headers: dict[str, str], payload: str
) -> None:
    query = urlencode(pairs, quote_via=quote)
    ours = signed(request_of(path, query, headers, payload))
    assert ours["authorization"] == _as_botocore(path, query, headers, payload)
    if all(key == quote(key, safe="~") and "=" not in value for key, value in pairs.items()):
        assert ours["authorization"] == _as_minio(path, query, headers, payload)


def _as_botocore(path: str, query: str, headers: dict[str, str], payload: str) -> str:
    request = AWSRequest(
        "PUT", f"http://store.example:9000{path}{f'?{query}' if query else ''}", headers=headers
    )
    request.headers["X-Amz-Content-SHA256"] = payload
    request.headers["X-Amz-Date"] = "20260305T120007Z"
    request.context["timestamp"] = "20260305T120007Z"
    auth = botocore.auth.S3SigV4Auth(
        type("Keys", (), {"access_key": KEYS.access_key, "secret_key": KEYS.secret_key, "token": None})(),
        "s3",
        "eu-west-1",
    )
    text = auth.string_to_sign(request, auth.canonical_request(request))
    auth._inject_signature_to_request(request, auth.signature(text, request))
    authorization: str = request.headers["Authorization"]
    return authorization


def _as_minio(path: str, query: str, headers: dict[str, str], payload: str) -> str:
    sent = {
        "Host": "store.example:9000",
        "x-amz-content-sha256": payload,
        "x-amz-date": "20260305T120007Z",
        **headers,
    }
    result = sign_v4_s3(
        method="PUT",
        url=SplitResult("http", "store.example:9000", path, query, ""),
        region="eu-west-1",
        headers=dict(sent),
        credentials=MinioCredentials(KEYS.access_key, KEYS.secret_key),
        content_sha256=payload,
        date=MOMENT,
    )
    return str(result["Authorization"])


def test_the_days_key_is_derived_anew_when_day_or_secret_change() -> None:
    moments = iter([MOMENT.timestamp(), MOMENT.timestamp() + 86400, MOMENT.timestamp()])
    signer = Signer("eu-west-1", now=lambda: next(moments))
    request = request_of("/b/k", "", {}, EMPTY_SHA256)
    other = Credentials(access_key=KEYS.access_key, secret_key="another")
    first, next_day = signer.sign(request, KEYS), signer.sign(request, KEYS)
    again = signer.sign(request, other)
    assert first["authorization"] == signed(request)["authorization"]
    assert len({first["authorization"], next_day["authorization"], again["authorization"]}) == 3
    assert again["authorization"] == signed(request, credentials=other)["authorization"]


def test_a_session_token_is_sent_and_signed() -> None:
    keys = Credentials(access_key="AK", secret_key="SK", session_token="T")
    headers = signed(request_of("/b/k", "", {}, EMPTY_SHA256), credentials=keys)
    assert headers["x-amz-security-token"] == "T"
    assert "x-amz-security-token" in headers["authorization"]


@pytest.mark.parametrize("shown", [repr(KEYS), str(KEYS), f"{KEYS!r}"])
def test_credentials_do_not_show(shown: str) -> None:
    assert "canary" not in shown
