"""MINIO: a bucket of a MinIO (or any S3-compatible) server, through the `minio` client.

What flows through: single requests, as `StoreClient` names them. `minio` 7.2 reads whole parts into
memory, hashes every body again and retries by itself, so its one method that executes a request is
replaced (`_LeanMinio`); how requests are formed and answers read stays the library's.
"""

import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import cast
from xml.etree import ElementTree

import urllib3
from minio import Minio
from minio.datatypes import Upload as LibraryUpload
from minio.deleteobjects import DeleteObject, DeleteResult
from minio.error import MinioException, S3Error
from minio.helpers import DictType
from urllib3.response import BaseHTTPResponse

from cctv_storaged.backends.body import BLOCK_BYTES, Body
from cctv_storaged.backends.listpage import page_query, parse_page
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
from cctv_storaged.backends.s3request import Requester, S3Request, tls_context
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

_META = "x-amz-meta-"
_ERROR_MAX_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class MinioTarget:
    """Where the bucket is and how it is reached. `endpoint` is `host:port`, without a scheme."""

    endpoint: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    use_ssl: bool
    region: str = "us-east-1"
    ca_file: str | None = None  # instead of the host's CAs
    verify_tls: bool = True
    timeouts: Timeouts = field(default_factory=Timeouts)


class MinioBackend(ObjectStore):
    """`Backend` named MINIO."""

    def __init__(self, target: MinioTarget, settings: StoreSettings, clock: Clock | None = None) -> None:
        client = MinioClient(target, settings.bucket, connections=settings.threads, clock=clock)
        super().__init__("MINIO", client, settings, clock)


class MinioClient:
    """`StoreClient` over `minio.Minio`."""

    def __init__(
        self, target: MinioTarget, bucket: str, *, connections: int, clock: Clock | None = None
    ) -> None:
        self._bucket = bucket
        self._clock = clock or SystemClock()
        try:
            self._minio = _LeanMinio(target, connections)
        except ValueError as exc:
            raise BackendUnavailable(f"MINIO endpoint {target.endpoint!r}: {exc}") from exc

    def head(self, key: str) -> ObjectHead:
        with self._translated("head", key):
            found = self._minio.stat_object(
                self._bucket, key, extra_headers={"x-amz-checksum-mode": "ENABLED"}
            )
        headers = cast("Mapping[str, str]", found.metadata)
        return ObjectHead(
            size_bytes=found.size or 0,
            etag=found.etag or "",
            checksum_sha256=headers.get("x-amz-checksum-sha256"),
            metadata={
                name.removeprefix(_META): text for name, text in headers.items() if name.startswith(_META)
            },
        )

    def put(self, request: PutRequest) -> str:
        headers = {
            "content-type": content_type(request.key),
            "x-amz-checksum-sha256": base64_of(request.body.stretch.sha256),
            **_metadata_headers(request.metadata),
            **_exclusive_header(request.exclusive),
        }
        with self._translated("put", request.key):
            return self._minio.put_body(self._bucket, request.key, request.body, headers)

    def begin_upload(self, key: str, metadata: Mapping[str, str]) -> str:
        headers: DictType = {
            "Content-Type": content_type(key),
            "x-amz-checksum-algorithm": "SHA256",
            **_metadata_headers(metadata),
        }
        with self._translated("begin the upload of", key):
            return self._minio.begin_upload(self._bucket, key, headers)

    def put_part(self, request: PartRequest) -> str:
        headers = {"x-amz-checksum-sha256": base64_of(request.body.stretch.sha256)}
        query = {"partNumber": str(request.number), "uploadId": request.upload_id}
        with self._translated(f"put part {request.number} of", request.key):
            return self._minio.put_body(self._bucket, request.key, request.body, headers, query)

    def complete_upload(self, completion: Completion) -> str:
        headers = {"content-type": "application/xml", **_exclusive_header(completion.exclusive)}
        with self._translated("complete the upload of", completion.key):
            return self._minio.complete_upload(
                self._bucket, completion.key, completion.upload_id, _part_list(completion), headers
            )

    def abort_upload(self, key: str, upload_id: str) -> None:
        with self._translated("abort the upload of", key):
            self._minio.abort_upload(self._bucket, key, upload_id)

    def uploads(self, prefix: str) -> Iterator[Upload]:
        with self._translated("list uploads under", prefix):
            for upload in self._minio.uploads(self._bucket, prefix):
                begun_at = upload.initiated_time or datetime.now(UTC)
                yield Upload(key=upload.object_name, id=upload.upload_id or "", begun_at=begun_at)

    def page(self, request: PageRequest) -> Page:
        with self._translated("list", request.prefix):
            return parse_page(self._minio.page(self._bucket, page_query(request)))

    @contextmanager
    def read(self, key: str, start: int, length: int | None) -> Iterator[Iterator[bytes]]:
        with self._translated("read", key):
            response = self._minio.get_object(self._bucket, key, offset=start, length=length or 0)
        try:
            yield self._read_blocks(key, response)
        finally:
            response.close()
            response.release_conn()

    def _read_blocks(self, key: str, response: BaseHTTPResponse) -> Iterator[bytes]:
        with self._translated("read", key):
            yield from response.stream(BLOCK_BYTES)

    def delete(self, key: str, version: str | None = None) -> bool:
        with self._translated("delete", key):
            return self._minio.delete(self._bucket, key, version)

    def delete_many(self, doomed: Sequence[Doomed]) -> Removal:
        with self._translated(f"delete {len(doomed)} objects of", ""):
            result = self._minio.delete_many(self._bucket, doomed)
        asked = {(each.key, each.version): each for each in doomed}
        failures: dict[Doomed, BackendError] = {}
        for error in result.error_list:
            if (found := asked.get((error.name or "", error.version_id or None))) is not None:
                failures[found] = self._failure(found, error.code, error.message)
        marked = {each.name for each in result.object_list if each.delete_marker and not each.version_id}
        return Removal(failures=failures, marked=frozenset(marked))

    def every_version(self, prefix: str) -> Iterator[Doomed]:
        with self._translated("list the versions under", prefix):
            found = self._minio.list_objects(
                self._bucket, prefix=prefix, include_version=True, recursive=True
            )
            for each in found:
                yield Doomed(key=each.object_name or "", version=each.version_id, mark=each.is_delete_marker)

    def keeps_versions(self) -> bool:
        return self._tells("versioning", self._has_been_versioned)

    def is_locked(self, doomed: Doomed) -> bool:
        with suppress(ObjectMissing), self._translated("ask for the retention of", doomed.key):
            retention = self._minio.get_object_retention(self._bucket, doomed.key, doomed.version)
            if retention is not None and retention.retain_until_date > self._clock.now():
                return True
        with suppress(ObjectMissing):
            return self.legal_hold(doomed.key, doomed.version)
        return False

    def _failure(self, doomed: Doomed, code: str, message: str | None) -> BackendError:
        doing = f"delete {doomed.key} in bucket {self._bucket}"
        return failure(doing, Refusal(status=0, code=code, message=message or ""))

    def set_legal_hold(self, key: str, on: bool, version: str | None = None) -> None:
        change = self._minio.enable_object_legal_hold if on else self._minio.disable_object_legal_hold
        with self._translated(f"{'set' if on else 'take off'} the legal hold of", key):
            change(self._bucket, key, version)

    def legal_hold(self, key: str, version: str | None = None) -> bool:
        with self._translated("ask for the legal hold of", key):
            return self._minio.is_object_legal_hold_enabled(self._bucket, key, version)

    def require_bucket(self) -> None:
        self._bucket_date()

    def bucket_facts(self) -> BucketFacts:
        return BucketFacts(
            versioning=self._tells("versioning", self._is_versioned),
            object_lock=self._tells("object lock", self._has_object_lock),
            clock_skew_s=clock_skew_s(self._bucket_date(), self._clock.now()),
        )

    def presigner(self) -> Presigner:
        sample = self._minio.presigned_get_object(self._bucket, SAMPLE_KEY)
        return Presigner.learnt(sample, self._minio.credentials)

    def make_bucket(self) -> None:
        try:
            with self._translated("make the bucket", ""):
                self._minio.make_bucket(self._bucket)
        except ObjectRejected:
            self.require_bucket()  # it was there already

    def close(self) -> None:
        self._minio.close()

    def _bucket_date(self) -> str | None:
        with self._translated("look for the bucket", ""):
            return self._minio.head_bucket(self._bucket).headers.get("date")

    def _is_versioned(self) -> bool:
        return self._minio.get_bucket_versioning(self._bucket).status == "Enabled"

    def _has_been_versioned(self) -> bool:
        return self._minio.get_bucket_versioning(self._bucket).status in ("Enabled", "Suspended")

    def _has_object_lock(self) -> bool:
        self._minio.get_object_lock_config(self._bucket)
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
        """The library's and urllib3's errors as ours."""
        doing = f"{verb} {key} in bucket {self._bucket}" if key else f"{verb} {self._bucket}"
        try:
            yield
        except S3Error as exc:
            raise failure(doing, self._refusal(exc)) from exc
        except (MinioException, ElementTree.ParseError) as exc:
            raise BackendUnavailable(f"{doing}: the answer makes no sense", reason="server") from exc
        except (urllib3.exceptions.HTTPError, OSError) as exc:
            raise BackendUnavailable(f"{doing}: {type(exc).__name__}", reason="network") from exc
        except ValueError as exc:  # what the library refuses to ask for
            raise ObjectRejected(f"{doing}: {exc}") from exc

    def _refusal(self, error: S3Error) -> Refusal:
        headers = error.response.headers
        return Refusal(
            status=error.response.status,
            code=error.code or "",
            message=error.message or "",
            region=headers.get("x-amz-bucket-region"),
            retry_after_s=retry_after_s(headers.get("retry-after")),
            clock_skew_s=clock_skew_s(headers.get("date"), self._clock.now()),
        )


class _LeanMinio(Minio):
    """`Minio` whose requests with short answers go over our own wire; only reads stay on urllib3.

    `_url_open` is the one place where the library executes a request. Replacing it keeps its ways of
    forming requests and reading answers, and takes away the second hash of every body and three quarters
    of the CPU. It and the few `_` methods used below are the library's private ones: the dependency is
    held below 8, and tests/contract looks at what goes over the wire.
    """

    def __init__(self, target: MinioTarget, connections: int) -> None:
        tls = tls_context(target.ca_file, target.verify_tls)
        super().__init__(
            target.endpoint,
            target.access_key,
            target.secret_key,
            secure=target.use_ssl,
            region=target.region,
            http_client=_pool(target, connections, tls),
        )
        self.credentials = Credentials(access_key=target.access_key, secret_key=target.secret_key)
        self._requester = Requester(timeouts=target.timeouts, connections=connections, tls=tls)

    def put_body(
        self,
        bucket: str,
        key: str,
        body: Body,
        headers: Mapping[str, str],
        query: Mapping[str, str] | None = None,
    ) -> str:
        """PutObject or UploadPart: the ETag. `put_object` would read the body whole and has no conditions."""
        result = self._put_object(
            bucket,
            key,
            cast("bytes", body),  # handed through to `_url_open` below as it is
            cast("DictType", dict(headers)),
            cast("DictType | None", query),
        )
        return result.etag or ""

    def begin_upload(self, bucket: str, key: str, headers: DictType) -> str:
        return self._create_multipart_upload(bucket, key, headers)

    def complete_upload(
        self, bucket: str, key: str, upload_id: str, part_list: bytes, headers: Mapping[str, str]
    ) -> str:
        """The object's ETag. The library's own way knows neither conditions nor part checksums."""
        answer = self._execute(
            "POST", bucket, key, part_list, cast("DictType", dict(headers)), {"uploadId": upload_id}
        )
        code, message = parse_error(answer.data)
        if code:  # S3 may say 200 first and fail afterwards (CompleteMultipartUpload, API reference)
            raise _s3_error(answer, code, message)
        root = ElementTree.fromstring(answer.data)
        found = {child.tag.rpartition("}")[2]: child.text or "" for child in root}
        return found.get("ETag", "").strip('"')

    def delete(self, bucket: str, key: str, version: str | None) -> bool:
        """Whether a mark is all that was made. `remove_object` keeps the answer to itself."""
        query = cast("DictType", {"versionId": version} if version else {})
        answer = self._execute("DELETE", bucket, key, query_params=query)
        return answer.headers.get("x-amz-delete-marker", "").lower() == "true"

    def delete_many(self, bucket: str, doomed: Sequence[Doomed]) -> DeleteResult:
        return self._delete_objects(bucket, [DeleteObject(each.key, each.version) for each in doomed])

    def abort_upload(self, bucket: str, key: str, upload_id: str) -> None:
        self._abort_multipart_upload(bucket, key, upload_id)

    def uploads(self, bucket: str, prefix: str) -> Iterator[LibraryUpload]:
        marker: str | None = None
        while True:
            page = self._list_multipart_uploads(bucket, prefix=prefix, key_marker=marker)
            yield from page.uploads
            marker = page.next_key_marker
            if not page.is_truncated or not marker:
                return

    def page(self, bucket: str, query: Mapping[str, str]) -> bytes:
        """ListObjectsV2: the bare answer. The library's own way makes a slow object of every line."""
        return self._execute("GET", bucket, query_params=cast("DictType", dict(query))).data

    def head_bucket(self, bucket: str) -> BaseHTTPResponse:
        return self._execute("HEAD", bucket)

    def close(self) -> None:
        self._requester.close()
        self._http.clear()

    def _url_open(
        self,
        method: str,
        region: str,
        bucket_name: str | None = None,
        object_name: str | None = None,
        body: bytes | None = None,
        headers: DictType | None = None,
        query_params: DictType | None = None,
        preload_content: bool = True,
        no_body_trace: bool = False,
    ) -> BaseHTTPResponse:
        url = self._base_url.build(
            method=method,
            region=region,
            bucket_name=bucket_name,
            object_name=object_name,
            query_params=query_params,
        )
        plain = {
            name: value if isinstance(value, str) else ",".join(value)
            for name, value in (headers or {}).items()
        }
        plain["user-agent"] = self._user_agent
        request = S3Request(method=method, url=url, region=region, headers=plain, body=body)
        answer = self._requester.send(request, self.credentials) if preload_content else self._begin(request)
        if answer.status not in (200, 204, 206):
            code, message = parse_error(answer.data)
            raise _s3_error(answer, code or _code_without_body(answer.status, object_name), message)
        return cast("BaseHTTPResponse", answer)  # `status`, `headers` and `data` are all the library reads

    def _begin(self, request: S3Request) -> BaseHTTPResponse | Answer:
        """A read, whose blocks are still to come; an answer that is an error is read whole."""
        response = self._http.urlopen(
            request.method,
            request.url.geturl(),
            headers=self._requester.signed_headers(request, self.credentials),
            preload_content=False,
        )
        if response.status in (200, 206):
            return response
        try:
            headers = {name.lower(): text for name, text in response.headers.items()}
            return Answer(status=response.status, headers=headers, data=response.read(_ERROR_MAX_BYTES))
        finally:
            response.close()
            response.release_conn()


def _pool(target: MinioTarget, connections: int, tls: ssl.SSLContext) -> urllib3.PoolManager:
    """The library's own: 5 minutes of patience and five retries inside; ours has neither."""
    return urllib3.PoolManager(
        timeout=urllib3.Timeout(connect=target.timeouts.connect_s, read=target.timeouts.read_s),
        maxsize=connections,
        retries=False,
        ssl_context=tls,
        blocksize=BLOCK_BYTES,
    )


def _s3_error(answer: Answer | BaseHTTPResponse, code: str, message: str) -> S3Error:
    return S3Error(cast("BaseHTTPResponse", answer), code, message, None, None, None)


def _code_without_body(status: int, object_name: str | None) -> str:
    """A 404 to HEAD tells what is missing only by what was asked for."""
    if status != 404:
        return ""
    return "NoSuchKey" if object_name else "NoSuchBucket"


def _metadata_headers(metadata: Mapping[str, str]) -> dict[str, str]:
    return {_META + name.lower(): text for name, text in metadata.items()}


def _exclusive_header(exclusive: bool) -> dict[str, str]:
    return {"if-none-match": "*"} if exclusive else {}


def _part_list(completion: Completion) -> bytes:
    """CompleteMultipartUpload's document (S3 API reference), with the part checksums."""
    root = ElementTree.Element("CompleteMultipartUpload", xmlns="http://s3.amazonaws.com/doc/2006-03-01/")
    for part in completion.parts:
        element = ElementTree.SubElement(root, "Part")
        ElementTree.SubElement(element, "PartNumber").text = str(part.number)
        ElementTree.SubElement(element, "ETag").text = f'"{part.etag}"'
        ElementTree.SubElement(element, "ChecksumSHA256").text = base64_of(part.sha256)
    return ElementTree.tostring(root)
