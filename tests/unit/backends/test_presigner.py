"""URLs for others are those that the client libraries would sign, and hide nothing in the file's name."""

import re
from datetime import UTC, datetime
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials
from hypothesis import given
from hypothesis import strategies as st
from minio.credentials.credentials import Credentials as MinioCredentials
from minio.signer import presign_v4

from cctv_storaged.backends.minio import MinioClient, MinioTarget
from cctv_storaged.backends.presigner import EXPIRES_MAX_S, Presigner, attachment
from cctv_storaged.backends.s3 import S3Client, S3Target
from cctv_storaged.backends.sigv4 import Credentials, Signer

MOMENT = datetime(2026, 3, 5, 12, 0, 7, tzinfo=UTC)
STAMP = "20260305T120007Z"
KEY = "camera/2026/03/05/12/20260305T120000.000000Z_10000_0123456789ab.ts"

keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).map(
    lambda text: f"a{text}b"
)


def presigner(token: str | None = None) -> Presigner:
    return Presigner(
        bucket=urlsplit("http://store.example:9000/bucket/"),
        signer=Signer("eu-west-1", now=MOMENT.timestamp),
        credentials=Credentials(access_key="AK", secret_key="canary/+=", session_token=token),
    )


@given(key=keys, filename=st.none() | st.just('näme "1".mp4'), token=st.none() | st.just("to/ken+=="))
def test_botocore_signs_the_same_url(key: str, filename: str | None, token: str | None) -> None:
    ours = presigner(token).url(key, 300, filename)
    request = AWSRequest("GET", _unsigned(ours))
    request.context["timestamp"] = STAMP
    auth = S3SigV4QueryAuth(BotoCredentials("AK", "canary/+=", token), "s3", "eu-west-1", expires=300)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("botocore.auth.get_current_datetime", lambda: MOMENT.replace(tzinfo=None))
        auth.add_auth(request)
    assert _fields(ours) == _fields(request.url)


@given(key=keys)
def test_minio_signs_the_same_url(key: str) -> None:
    ours = presigner().url(key, 300, None)
    theirs = presign_v4(
        method="GET",
        url=urlsplit(_unsigned(ours)),
        region="eu-west-1",
        credentials=MinioCredentials("AK", "canary/+="),
        date=MOMENT,
        expires=300,
    )
    assert _fields(ours) == _fields(theirs.geturl())


turns = st.tuples(
    st.sampled_from(["AK", "other"]),
    st.sampled_from(["canary/+=", "changed"]),
    st.none() | st.just("to/ken+=="),
    st.sampled_from([60, 300]),
    st.none() | st.just("a.mp4"),
    st.sampled_from([0, 0.4, 1, 86_400]),
)


@given(st.lists(turns, max_size=8))
def test_what_is_kept_from_one_url_to_the_next_is_what_they_share(
    asked: list[tuple[str, str, str | None, int, str | None, float]],
) -> None:
    """Whatever changes between two of them: key, session, time, name, and how long they are good for."""
    clock = [MOMENT.timestamp()]
    kept = Signer("eu-west-1", now=lambda: clock[0])
    for access_key, secret_key, token, expires_s, filename, later_s in asked:
        own = Credentials(access_key=access_key, secret_key=secret_key, session_token=token)
        clock[0] = MOMENT.timestamp() + later_s
        afresh = Signer("eu-west-1", now=lambda: clock[0])
        urls = {
            Presigner(bucket=urlsplit("http://s/b/"), signer=signer, credentials=own).url(
                KEY, expires_s, filename
            )
            for signer in (kept, afresh)
        }
        assert len(urls) == 1


def test_what_is_kept_for_the_next_url_shows_no_key() -> None:
    own = presigner()
    own.url(KEY, 300, None)
    assert "key=" not in repr(own.signer._alike)


def _unsigned(url: str) -> str:
    """As it was before `X-Amz-` fields came to it."""
    parts = urlsplit(url)
    kept = [pair for pair in parts.query.split("&") if not pair.startswith("X-Amz-")]
    return parts._replace(query="&".join(kept)).geturl()


def _fields(url: str) -> tuple[str, dict[str, str]]:
    parts = urlsplit(url)
    return parts.path, dict(parse_qsl(parts.query))


def test_where_the_bucket_answers_is_learnt_from_each_library() -> None:
    minio = MinioClient(
        MinioTarget(endpoint="store:9000", access_key="a", secret_key="b", use_ssl=True, region="r-1"),
        "bucket",
        connections=1,
    )
    own = S3Client(
        S3Target(endpoint_url="http://store:9000", region="r-1", access_key="a", secret_key="b"),
        "bucket",
        connections=1,
    )
    amazon = S3Client(S3Target(region="eu-west-1", access_key="a", secret_key="b"), "bucket", connections=1)
    urls = [client.presigner().url(KEY, 60, None) for client in (minio, own, amazon)]
    assert [url.partition("?")[0] for url in urls] == [
        f"https://store:9000/bucket/{KEY}",
        f"http://store:9000/bucket/{KEY}",
        f"https://bucket.s3.amazonaws.com/{KEY}",
    ]
    regions = [parse_qs(urlsplit(url).query)["X-Amz-Credential"][0].split("/")[2] for url in urls]
    assert regions == ["r-1", "r-1", "eu-west-1"]


@pytest.mark.parametrize(("asked_s", "given_s"), [(0, 1), (-5, 1), (60, 60), (10**9, EXPIRES_MAX_S)])
def test_a_url_lives_no_longer_than_signatures_may(asked_s: int, given_s: int) -> None:
    assert f"X-Amz-Expires={given_s}&" in presigner().url(KEY, asked_s, None)


@given(st.text())
def test_a_file_name_cannot_leave_its_quotes(name: str) -> None:
    assert re.fullmatch(
        r"attachment; filename=\"[\w. ()+,-]*\"(; filename\*=UTF-8''[\w.%~-]*)?", attachment(name), re.ASCII
    )


def test_a_plain_file_name_stays_and_another_is_given_in_full_as_well() -> None:
    assert attachment("gate 1_2026.mp4") == 'attachment; filename="gate 1_2026.mp4"'
    assert attachment("tür.mp4") == "attachment; filename=\"t_r.mp4\"; filename*=UTF-8''t%C3%BCr.mp4"
