"""S3: a bucket of Amazon S3 or a store like it, through `boto3`.

What flows through: single requests, as `StoreClient` names them. For the operations that are paid per
object (put, part, head, list) a handler of boto3's event `before-call` signs and sends what boto3 has built
and hands boto3 the answer: botocore would hash the body again to sign it, and spends ten times the CPU.
Requests are formed, endpoints resolved and credentials found by boto3 throughout.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.session
import urllib3
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError

from cctv_storaged.backends.body import BLOCK_BYTES, Body
from cctv_storaged.backends.listpage import parse_page
from cctv_storaged.backends.objectstore import ObjectStore, StoreSettings
from cctv_storaged.backends.presigner import SAMPLE_KEY, Presigner
from cctv_storaged.backends.proof import ObjectHead, base64_of
from cctv_storaged.backends.s3errors import (
    Refusal,
    clock_skew_s,
    failure,
    parse_error,
    retry_after_s,
)
from cctv_storaged.backends.s3request import Requester, S3Request, ca_bundle, tls_context
from cctv_storaged.backends.sigv4 import Credentials
from cctv_storaged.backends.storeclient import (
    BucketFacts,
    Completion,
    Doomed,
    Page,
    PageRequest,
    PartRequest,
    PutRequest,
    Removal,
    Upload,
    content_type,
)
from cctv_storaged.backends.wire import Answer, Timeouts
from cctv_storaged.clock import Clock, SystemClock
from cctv_storaged.errors import BackendError, BackendUnavailable, ObjectMissing, ObjectRejected

_HOT = ("PutObject", "UploadPart", "HeadObject", "ListObjectsV2")
_BODY = "Body"  # where a hot answer's own bytes are found, which boto3 would make a slow tree of
_META = "x-amz-meta-"


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Target:
    """Where the bucket is and how it is reached.

    Without `endpoint_url` it is Amazon's; without keys boto3 looks where it always looks (environment,
    profile, the machine's role).
    """

    endpoint_url: str | None = None
    region: str = "us-east-1"
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    ca_file: str | None = None  # instead of the host's CAs
    verify_tls: bool = True
    timeouts: Timeouts = field(default_factory=Timeouts)


class S3Backend(ObjectStore):
    """`Backend` named S3."""

    def __init__(self, target: S3Target, settings: StoreSettings, clock: Clock | None = None) -> None:
        client = S3Client(target, settings.bucket, connections=settings.threads, clock=clock)
        super().__init__("S3", client, settings, clock)


class S3Client:
    """`StoreClient` over `boto3`."""

    def __init__(
        self, target: S3Target, bucket: str, *, connections: int, clock: Clock | None = None
    ) -> None:
        self._bucket = bucket
        self._region = target.region
        self._clock = clock or SystemClock()
        core = botocore.session.get_session()
        core.register_component("data_loader", _loader())
        session = boto3.session.Session(
            botocore_session=core,
            aws_access_key_id=target.access_key,
            aws_secret_access_key=target.secret_key,
            aws_session_token=target.session_token,
            region_name=target.region,
        )
        try:
            self._boto = session.client(
                "s3",
                endpoint_url=target.endpoint_url,
                verify=ca_bundle(target.ca_file) if target.verify_tls else False,
                config=_config(target, connections),
            )
        except (BotoCoreError, ValueError) as exc:
            raise BackendUnavailable(f"S3 endpoint {target.endpoint_url!r}: {exc}") from exc
        self._hot = _HotPath(session, target, connections)
        for operation in _HOT:
            self._boto.meta.events.register(f"before-call.s3.{operation}", self._hot.answer)

    def head(self, key: str) -> ObjectHead:
        with self._translated("head", key):
            found = self._boto.head_object(Bucket=self._bucket, Key=key, ChecksumMode="ENABLED")
        headers: Mapping[str, str] = found["ResponseMetadata"]["HTTPHeaders"]
        return ObjectHead(
            size_bytes=int(headers.get("content-length", "0")),
            etag=headers.get("etag", "").strip('"'),
            checksum_sha256=headers.get("x-amz-checksum-sha256"),
            metadata={
                name.removeprefix(_META): text for name, text in headers.items() if name.startswith(_META)
            },
        )

    def put(self, request: PutRequest) -> str:
        with self._translated("put", request.key):
            return _etag(
                self._boto.put_object(
                    Bucket=self._bucket,
                    Key=request.key,
                    Body=request.body,
                    ChecksumSHA256=base64_of(request.body.stretch.sha256),
                    ContentType=content_type(request.key),
                    Metadata=dict(request.metadata),
                    **_exclusive(request.exclusive),
                )
            )

    def begin_upload(self, key: str, metadata: Mapping[str, str]) -> str:
        with self._translated("begin the upload of", key):
            answer = self._boto.create_multipart_upload(
                Bucket=self._bucket,
                Key=key,
                ChecksumAlgorithm="SHA256",
                ContentType=content_type(key),
                Metadata=dict(metadata),
            )
            return str(answer["UploadId"])

    def put_part(self, request: PartRequest) -> str:
        with self._translated(f"put part {request.number} of", request.key):
            return _etag(
                self._boto.upload_part(
                    Bucket=self._bucket,
                    Key=request.key,
                    Body=request.body,
                    ChecksumSHA256=base64_of(request.body.stretch.sha256),
                    PartNumber=request.number,
                    UploadId=request.upload_id,
                )
            )

    def complete_upload(self, completion: Completion) -> str:
        parts = [
            {"PartNumber": part.number, "ETag": f'"{part.etag}"', "ChecksumSHA256": base64_of(part.sha256)}
            for part in completion.parts
        ]
        with self._translated("complete the upload of", completion.key):
            return _etag(
                self._boto.complete_multipart_upload(
                    Bucket=self._bucket,
                    Key=completion.key,
                    UploadId=completion.upload_id,
                    MultipartUpload={"Parts": parts},
                    **_exclusive(completion.exclusive),
                )
            )

    def abort_upload(self, key: str, upload_id: str) -> None:
        with self._translated("abort the upload of", key):
            self._boto.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload_id)

    def uploads(self, prefix: str) -> Iterator[Upload]:
        with self._translated("list uploads under", prefix):
            pages = self._boto.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._bucket, Prefix=prefix
            )
            for page in pages:
                for upload in page.get("Uploads", ()):
                    begun_at = upload.get("Initiated") or datetime.now(UTC)
                    yield Upload(key=upload["Key"], id=upload["UploadId"], begun_at=begun_at)

    def page(self, request: PageRequest) -> Page:
        where = {"ContinuationToken": request.token} if request.token else {"StartAfter": request.after}
        with self._translated("list", request.prefix):
            found = self._boto.list_objects_v2(
                Bucket=self._bucket,
                MaxKeys=request.keys,
                Prefix=request.prefix,
                EncodingType="url",
                **where,
            )
            return parse_page(found[_BODY])

    @contextmanager
    def read(self, key: str, start: int, length: int | None) -> Iterator[Iterator[bytes]]:
        last = "" if length is None else str(start + length - 1)
        wanted = {"Range": f"bytes={start}-{last}"} if start or length is not None else {}
        with self._translated("read", key):
            stream = self._boto.get_object(Bucket=self._bucket, Key=key, **wanted)["Body"]
        try:
            yield self._read_blocks(key, stream)
        finally:
            stream.close()

    def _read_blocks(self, key: str, stream: Any) -> Iterator[bytes]:
        with self._translated("read", key):
            yield from stream.iter_chunks(BLOCK_BYTES)

    def delete(self, key: str, version: str | None = None) -> bool:
        with self._translated("delete", key):
            answer = self._boto.delete_object(Bucket=self._bucket, Key=key, **_version(version))
            return bool(answer.get("DeleteMarker"))

    def delete_many(self, doomed: Sequence[Doomed]) -> Removal:
        listed = [{"Key": each.key, **_version(each.version)} for each in doomed]
        with self._translated(f"delete {len(doomed)} objects of", ""):
            answer = self._boto.delete_objects(Bucket=self._bucket, Delete={"Objects": listed})
        asked = {(each.key, each.version): each for each in doomed}
        failures: dict[Doomed, BackendError] = {}
        for error in answer.get("Errors", ()):
            if (found := asked.get((error["Key"], error.get("VersionId") or None))) is not None:
                failures[found] = self._failure(found, error.get("Code", ""), error.get("Message", ""))
        deleted = answer.get("Deleted", ())
        marked = {each["Key"] for each in deleted if each.get("DeleteMarker") and not each.get("VersionId")}
        return Removal(failures=failures, marked=frozenset(marked))

    def every_version(self, prefix: str) -> Iterator[Doomed]:
        with self._translated("list the versions under", prefix):
            pages = self._boto.get_paginator("list_object_versions").paginate(
                Bucket=self._bucket, Prefix=prefix
            )
            for page in pages:
                for each in page.get("Versions", ()):
                    yield Doomed(key=each["Key"], version=each["VersionId"])
                for each in page.get("DeleteMarkers", ()):
                    yield Doomed(key=each["Key"], version=each["VersionId"], mark=True)

    def keeps_versions(self) -> bool:
        return self._tells("versioning", self._has_been_versioned)

    def is_locked(self, doomed: Doomed) -> bool:
        of = {"Bucket": self._bucket, "Key": doomed.key, **_version(doomed.version)}
        with suppress(ObjectMissing), self._translated("ask for the retention of", doomed.key):
            retention = self._boto.get_object_retention(**of).get("Retention") or {}
            until = retention.get("RetainUntilDate")
            if until is not None and until > self._clock.now():
                return True
        with suppress(ObjectMissing):
            return self.legal_hold(doomed.key, doomed.version)
        return False

    def _failure(self, doomed: Doomed, code: str, message: str) -> BackendError:
        doing = f"delete {doomed.key} in bucket {self._bucket}"
        return failure(doing, Refusal(status=0, code=code, message=message))

    def set_legal_hold(self, key: str, on: bool, version: str | None = None) -> None:
        with self._translated(f"{'set' if on else 'take off'} the legal hold of", key):
            self._boto.put_object_legal_hold(
                Bucket=self._bucket,
                Key=key,
                LegalHold={"Status": "ON" if on else "OFF"},
                **_version(version),
            )

    def legal_hold(self, key: str, version: str | None = None) -> bool:
        with self._translated("ask for the legal hold of", key):
            found = self._boto.get_object_legal_hold(Bucket=self._bucket, Key=key, **_version(version))
            return bool(found.get("LegalHold", {}).get("Status") == "ON")

    def require_bucket(self) -> None:
        self._bucket_date()

    def bucket_facts(self) -> BucketFacts:
        return BucketFacts(
            versioning=self._tells("versioning", self._is_versioned),
            object_lock=self._tells("object lock", self._has_object_lock),
            clock_skew_s=clock_skew_s(self._bucket_date(), self._clock.now()),
        )

    def presigner(self) -> Presigner:
        with self._translated("sign a URL for", ""):
            sample = self._boto.generate_presigned_url(
                "get_object", Params={"Bucket": self._bucket, "Key": SAMPLE_KEY}
            )
            return Presigner.learnt(sample, self._hot.credentials())

    def make_bucket(self) -> None:
        elsewhere = {"CreateBucketConfiguration": {"LocationConstraint": self._region}}
        try:
            with self._translated("make the bucket", ""):
                self._boto.create_bucket(
                    Bucket=self._bucket, **({} if self._region == "us-east-1" else elsewhere)
                )
        except ObjectRejected:
            self.require_bucket()  # it was there already

    def close(self) -> None:
        self._hot.close()
        self._boto.close()

    def _bucket_date(self) -> str | None:
        try:
            with self._translated("look for the bucket", ""):
                answer = self._boto.head_bucket(Bucket=self._bucket)
        except ObjectMissing as exc:
            refusal = Refusal(status=404, code="NoSuchBucket")
            raise failure(f"look for the bucket {self._bucket}", refusal) from exc
        date: str | None = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        return date

    def _is_versioned(self) -> bool:
        return bool(self._boto.get_bucket_versioning(Bucket=self._bucket).get("Status") == "Enabled")

    def _has_been_versioned(self) -> bool:
        status = self._boto.get_bucket_versioning(Bucket=self._bucket).get("Status")
        return status in ("Enabled", "Suspended")

    def _has_object_lock(self) -> bool:
        self._boto.get_object_lock_configuration(Bucket=self._bucket)
        return True

    def _tells(self, about: str, ask: Callable[[], bool]) -> bool:
        """A store that has no such thing, or a key that may not ask, counts as no."""
        try:
            with self._translated(f"ask for {about} of", ""):
                return ask()
        except (ObjectRejected, ObjectMissing):
            return False
        except BackendUnavailable as exc:
            if exc.reason != "auth":
                raise
            return False

    @contextmanager
    def _translated(self, verb: str, key: str) -> Iterator[None]:
        """boto3's and urllib3's errors as ours."""
        doing = f"{verb} {key} in bucket {self._bucket}" if key else f"{verb} {self._bucket}"
        try:
            yield
        except ClientError as exc:
            raise failure(doing, self._refusal(exc)) from exc
        except ParamValidationError as exc:
            raise ObjectRejected(f"{doing}: {exc}") from exc
        except (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError) as exc:
            raise BackendUnavailable(f"{doing}: {exc}", reason="auth") from exc
        except (HTTPClientError, BotoConnectionError, urllib3.exceptions.HTTPError, OSError) as exc:
            raise BackendUnavailable(f"{doing}: {type(exc).__name__}", reason="network") from exc
        except BotoCoreError as exc:
            raise BackendUnavailable(f"{doing}: {exc}", reason="server") from exc

    def _refusal(self, error: Any) -> Refusal:
        said, metadata = error.response.get("Error", {}), error.response.get("ResponseMetadata", {})
        headers = metadata.get("HTTPHeaders", {})
        code = str(said.get("Code", ""))
        return Refusal(
            status=metadata.get("HTTPStatusCode", 0),
            code="" if code.isdigit() else code,  # boto3 puts the status there when there is no body
            message=str(said.get("Message", "")),
            region=headers.get("x-amz-bucket-region"),
            retry_after_s=retry_after_s(headers.get("retry-after")),
            clock_skew_s=clock_skew_s(headers.get("date"), self._clock.now()),
        )


class _HotPath:
    """Answers boto3's `before-call`: what it returns there, boto3 takes for the server's answer."""

    def __init__(self, session: Any, target: S3Target, connections: int) -> None:
        self._session = session
        self._region = target.region
        self._requester = Requester(
            timeouts=target.timeouts,
            connections=connections,
            tls=tls_context(target.ca_file, target.verify_tls),
        )

    def answer(
        self, *, params: Mapping[str, Any], context: Mapping[str, Any], **_: object
    ) -> tuple[AWSResponse, dict[str, Any]]:
        """`params` is the request as boto3 serialised it; the pair is an HTTP answer and its parsed form."""
        url: str = params["url"]
        request = S3Request(
            method=params["method"],
            url=urlsplit(url),
            region=context.get("signing", {}).get("region") or self._region,
            headers=params["headers"],
            body=params["body"] if isinstance(params["body"], Body) else None,  # HEAD's and GET's are empty
        )
        answer = self._requester.send(request, self.credentials())
        return AWSResponse(url, answer.status, answer.headers, None), _parsed(answer)

    def close(self) -> None:
        self._requester.close()

    def credentials(self) -> Credentials:
        found = self._session.get_credentials()
        if found is None:
            raise NoCredentialsError
        frozen = found.get_frozen_credentials()
        return Credentials(
            access_key=frozen.access_key, secret_key=frozen.secret_key, session_token=frozen.token
        )


@cache
def _loader() -> Any:
    """What boto3 knows of S3, read once for all clients: it takes 13 MB."""
    return botocore.session.get_session().get_component("data_loader")


def _config(target: S3Target, connections: int) -> Config:
    return Config(
        connect_timeout=target.timeouts.connect_s,
        read_timeout=target.timeouts.read_s,
        max_pool_connections=connections,
        retries={"total_max_attempts": 1},
        parameter_validation=False,  # our arguments are typed; this spares half a millisecond a call
        request_checksum_calculation="when_required",  # we bring SHA-256 ourselves
        response_checksum_validation="when_required",
        s3={"addressing_style": "path" if target.endpoint_url else "auto"},
        signature_version="s3v4",
        user_agent="cctv-storaged",
        proxies={},  # one road for all requests: the hot path does not speak to proxies
    )


def _parsed(answer: Answer) -> dict[str, Any]:
    """As boto3's parsers leave it: `ResponseMetadata` always, `Error` where it is one."""
    parsed: dict[str, Any] = {
        "ResponseMetadata": {
            "HTTPStatusCode": answer.status,
            "HTTPHeaders": answer.headers,
            "RetryAttempts": 0,
        },
        "ETag": answer.headers.get("etag", ""),
        _BODY: answer.data,
    }
    if answer.status >= 300:
        code, message = parse_error(answer.data)
        parsed["Error"] = {"Code": code or str(answer.status), "Message": message}
    return parsed


def _etag(answer: Mapping[str, Any]) -> str:
    return str(answer.get("ETag", "")).strip('"')


def _version(version: str | None) -> dict[str, str]:
    return {} if version is None else {"VersionId": version}


def _exclusive(exclusive: bool) -> dict[str, str]:
    return {"IfNoneMatch": "*"} if exclusive else {}
