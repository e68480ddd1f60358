"""An S3 server that misbehaves to order: the faults that a good server never shows.

Small and in memory; it knows objects, ranges, multipart uploads and conditions, but checks no signatures
(the real server in tests/services/seaweed.py does). How it treats checksums and conditions is a
`Behaviour`; single mishaps are queued as `Mishap`s and befall the next requests that fit.
"""

import base64
import hashlib
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """What kind of server this is."""

    checks_sha256: bool = True  # refuses a body that is not what x-amz-checksum-sha256 says
    returns_sha256: bool = True  # HEAD gives the checksum back
    repeats_claims: bool = False  # gives back whatever checksum it was told, without having looked
    conditions: str = "honoured"  # honoured | ignored | not_implemented | racy
    versioning: bool = False
    object_lock: bool = False
    clock_offset_s: float = 0.0  # of its Date header
    listing: Callable[[list[str]], list[str]] = sorted  # which keys it lists in which order, of all it has
    page_keys: int = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Mishap:
    """What befalls a request. Several may be set; an empty one is no mishap."""

    status: int | None = None  # answered instead of doing anything
    code: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0  # before doing anything
    close_after_head: bool = False  # closes when it has the request's head
    lose_answer: bool = False  # does it, and closes instead of answering
    forget: bool = False  # answers 200 and keeps nothing
    spoil: Callable[[bytes], bytes] | None = None  # stores something else than it got
    says_sha256: bool = True  # a spoiled object's checksum is of what came (True) or of what is stored


def cut_one_byte(data: bytes) -> bytes:
    return data[:-1]


def flip_one_byte(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0x01]) + data[middle + 1 :]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """An object as the server has it."""

    data: bytes
    etag: str
    checksum: str | None
    metadata: Mapping[str, str]
    at: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A request that came, for tests that look at the wire."""

    method: str
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body_bytes: int
    at: float  # monotonic


@dataclass(slots=True, kw_only=True)
class _Upload:
    key: str
    metadata: Mapping[str, str]
    parts: dict[int, bytes] = field(default_factory=dict)
    begun: float = field(default_factory=time.time)


class S3Stub:
    """The server; use it as a context manager."""

    def __init__(
        self,
        bucket: str = "bucket",
        behaviour: Behaviour | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.bucket = bucket
        self._tls = tls
        self.behaviour = behaviour or Behaviour()
        self.objects: dict[str, Stored] = {}
        self.uploads: dict[str, _Upload] = {}
        self.seen: list[Seen] = []
        self.lock = threading.Lock()
        self._mishaps: list[tuple[Callable[[Seen], bool], Mishap]] = []
        self._standing: list[tuple[Callable[[Seen], bool], Mishap]] = []
        self._server = _Server(self, tls)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="s3stub")

    def __enter__(self) -> "S3Stub":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def endpoint(self) -> str:
        host, port = self._server.server_address[:2]
        return f"{host!s}:{port}"

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self.endpoint}"

    def behave(self, **how: Any) -> None:
        self.behaviour = replace(self.behaviour, **how)

    def next(
        self,
        mishap: Mishap,
        *,
        method: str = "PUT",
        times: int = 1,
        fits: Callable[[Seen], bool] | None = None,
    ) -> None:
        """The next `times` requests of that method (and fitting) meet the mishap."""

        def is_meant(seen: Seen) -> bool:
            return seen.method == method and (fits is None or fits(seen))

        self._mishaps += [(is_meant, mishap)] * times

    @contextmanager
    def always(self, mishap: Mishap, fits: Callable[[Seen], bool] = lambda seen: True) -> Iterator[None]:
        """Every request that fits meets the mishap while the block lasts."""
        standing = (fits, mishap)
        with self.lock:
            self._standing.append(standing)
        try:
            yield
        finally:
            with self.lock:
                self._standing.remove(standing)

    def take_mishap(self, seen: Seen) -> Mishap:
        with self.lock:
            for number, (fits, mishap) in enumerate(self._mishaps):
                if fits(seen):
                    del self._mishaps[number]
                    return mishap
            return next((mishap for fits, mishap in self._standing if fits(seen)), Mishap())

    def requests(self, method: str, key: str | None = None) -> list[Seen]:
        return [seen for seen in self.seen if seen.method == method and key in (None, seen.key)]

    def listed(self) -> Sequence[str]:
        """All keys in the order in which it lists them."""
        with self.lock:
            return self.behaviour.listing(list(self.objects))

    def digests(self) -> dict[str, str]:
        """SHA-256 of what is stored, by key."""
        with self.lock:
            return {key: hashlib.sha256(stored.data).hexdigest() for key, stored in self.objects.items()}


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # a handler may be waiting on a kept connection when the test ends
    request_queue_size = 64

    def __init__(self, stub: S3Stub, tls: ssl.SSLContext | None) -> None:
        self.stub = stub
        super().__init__(("127.0.0.1", 0), _Handler)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that go away in the middle are part of the tests."""


class _Refused(Exception):
    def __init__(self, status: int, code: str) -> None:
        self.status, self.code = status, code


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 — the name is the base class's
        """Nothing: pytest's output is not for this."""

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815 — names that the base class looks for

    def date_time_string(self, timestamp: float | None = None) -> str:
        moment = time.time() if timestamp is None else timestamp
        return formatdate(moment + self.stub.behaviour.clock_offset_s, usegmt=True)

    @property
    def stub(self) -> S3Stub:
        return self.server.stub

    def _serve(self) -> None:
        url = urlsplit(self.path)
        _, _, key = unquote(url.path).lstrip("/").partition("/")
        query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        seen = Seen(
            method=self.command,
            key=key,
            query=query,
            headers={name.lower(): text for name, text in self.headers.items()},
            body_bytes=int(self.headers.get("content-length") or 0),
            at=time.monotonic(),
        )
        self.stub.seen.append(seen)
        mishap = self.stub.take_mishap(seen)
        if mishap.close_after_head:
            self.close_connection = True
            return
        body = self.rfile.read(seen.body_bytes)
        if len(body) < seen.body_bytes:  # the client gave up: nothing is stored
            self.close_connection = True
            return
        time.sleep(mishap.delay_s)
        if mishap.status is not None:
            self._refuse(mishap.status, mishap.code, mishap.headers)
            return
        self._answer(seen, body, mishap)

    def _answer(self, seen: Seen, body: bytes, mishap: Mishap) -> None:
        try:
            status, headers, data = self._do(seen, body, mishap)
        except _Refused as exc:
            self._refuse(exc.status, exc.code, {})
            return
        if mishap.lose_answer:
            self.close_connection = True
            return
        self._reply(status, headers, data)

    def _reply(self, status: int, headers: Mapping[str, str], data: bytes) -> None:
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name, text)
        if status != 204 and "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _refuse(self, status: int, code: str, headers: Mapping[str, str]) -> None:
        text = f"<Error><Code>{escape(code)}</Code><Message>as told</Message></Error>" if code else ""
        self._reply(status, {"Content-Type": "application/xml", **headers}, text.encode())

    def _do(self, seen: Seen, body: bytes, mishap: Mishap) -> tuple[int, dict[str, str], bytes]:
        if urlsplit(self.path).path.lstrip("/").partition("/")[0] != self.stub.bucket:
            raise _Refused(404, "NoSuchBucket")
        if not seen.key:
            return self._bucket(seen)
        if "uploadId" in seen.query or "uploads" in seen.query:
            return self._multipart(seen, body, mishap)
        match seen.method:
            case "PUT":
                return self._put(seen, body, mishap)
            case "DELETE":
                self.stub.objects.pop(seen.key, None)
                return 204, {}, b""
            case _:
                return self._get(seen)

    def _bucket(self, seen: Seen) -> tuple[int, dict[str, str], bytes]:
        behaviour = self.stub.behaviour
        if "versioning" in seen.query:
            status = "<Status>Enabled</Status>" if behaviour.versioning else ""
            return 200, _XML, f"<VersioningConfiguration>{status}</VersioningConfiguration>".encode()
        if "object-lock" in seen.query:
            if not behaviour.object_lock:
                raise _Refused(404, "ObjectLockConfigurationNotFoundError")
            enabled = "<ObjectLockEnabled>Enabled</ObjectLockEnabled>"
            return 200, _XML, f"<ObjectLockConfiguration>{enabled}</ObjectLockConfiguration>".encode()
        if "uploads" in seen.query:
            return 200, _XML, self._upload_list(seen.query.get("prefix", "")).encode()
        if "list-type" in seen.query:
            return 200, _XML, self._object_list(seen.query).encode()
        return 200, {}, b""

    def _object_list(self, query: Mapping[str, str]) -> str:
        """ListObjectsV2 without delimiters; a token is the place in the list."""
        keys = self.stub.listed()
        if prefix := query.get("prefix"):
            keys = [key for key in keys if key.startswith(prefix)]
        first = int(query.get("continuation-token", "0"))
        if not first and (after := query.get("start-after")):
            first = next((place for place, key in enumerate(keys) if key > after), len(keys))
        last = first + min(self.stub.behaviour.page_keys, int(query.get("max-keys", "1000")))
        objects = self.stub.objects
        entries = "".join(_listed(key, objects[key]) for key in keys[first:last] if key in objects)
        more = last < len(keys)
        token = _element("NextContinuationToken", str(last)) if more else ""
        return _element(
            "ListBucketResult", _element("IsTruncated", "true" if more else "false"), token, entries
        )

    def _upload_list(self, prefix: str) -> str:
        entries = "".join(
            _element(
                "Upload", _element("Key", escape(upload.key)), _element("UploadId", upload_id), _begun(upload)
            )
            for upload_id, upload in self.stub.uploads.items()
            if upload.key.startswith(prefix)
        )
        return _element("ListMultipartUploadsResult", _element("IsTruncated", "false"), entries)

    def _put(self, seen: Seen, body: bytes, mishap: Mishap) -> tuple[int, dict[str, str], bytes]:
        self._check_body(seen, body)
        metadata = {name: text for name, text in seen.headers.items() if name.startswith("x-amz-meta-")}
        claimed = seen.headers.get("x-amz-checksum-sha256")
        checksum = claimed if self.stub.behaviour.repeats_claims else _base64_sha256(body)
        stored = Stored(data=body, etag=hashlib.md5(body).hexdigest(), checksum=checksum, metadata=metadata)
        self._store(seen, stored, mishap)
        return 200, {"ETag": f'"{stored.etag}"'}, b""

    def _store(self, seen: Seen, stored: Stored, mishap: Mishap) -> None:
        conditional = seen.headers.get("if-none-match") == "*"
        conditions = self.stub.behaviour.conditions
        if conditional and conditions == "not_implemented":
            raise _Refused(501, "NotImplemented")
        with self.stub.lock:
            taken = seen.key in self.stub.objects
            if conditional and taken and conditions == "honoured":
                raise _Refused(412, "PreconditionFailed")
        if conditional and conditions == "racy":
            time.sleep(0.2)  # between looking and writing
            if taken:
                raise _Refused(412, "PreconditionFailed")
        if mishap.forget:
            return
        if mishap.spoil is not None:
            spoiled = mishap.spoil(stored.data)
            said = stored.checksum if mishap.says_sha256 else _base64_sha256(spoiled)
            stored = replace(stored, data=spoiled, checksum=said)
        with self.stub.lock:
            if conditional and conditions == "honoured" and seen.key in self.stub.objects:
                raise _Refused(409, "ConditionalRequestConflict")
            self.stub.objects[seen.key] = stored

    def _check_body(self, seen: Seen, body: bytes) -> None:
        claimed = seen.headers.get("x-amz-checksum-sha256")
        if self.stub.behaviour.checks_sha256 and claimed not in (None, _base64_sha256(body)):
            raise _Refused(400, "BadDigest")

    def _get(self, seen: Seen) -> tuple[int, dict[str, str], bytes]:
        stored = self.stub.objects.get(seen.key)
        if stored is None:
            raise _Refused(404, "NoSuchKey")
        headers = {"ETag": f'"{stored.etag}"', **stored.metadata}
        if seen.headers.get("x-amz-checksum-mode") and self.stub.behaviour.returns_sha256 and stored.checksum:
            headers["x-amz-checksum-sha256"] = stored.checksum
        data, status = stored.data, 200
        if (wanted := seen.headers.get("range")) is not None:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            if int(first) >= len(data):
                raise _Refused(416, "InvalidRange")
            data, status = data[int(first) : int(last) + 1 if last else None], 206
        return status, {**headers, "Content-Length": str(len(data))}, data

    def _multipart(self, seen: Seen, body: bytes, mishap: Mishap) -> tuple[int, dict[str, str], bytes]:
        if "uploads" in seen.query:
            return self._begin(seen)
        upload_id = seen.query["uploadId"]
        upload = self.stub.uploads.get(upload_id)
        if upload is None:
            raise _Refused(404, "NoSuchUpload")
        match seen.method:
            case "DELETE":
                del self.stub.uploads[upload_id]
                return 204, {}, b""
            case "PUT":
                self._check_body(seen, body)
                upload.parts[int(seen.query["partNumber"])] = body
                return 200, {"ETag": f'"{hashlib.md5(body).hexdigest()}"'}, b""
            case _:
                return self._complete(seen, body, upload_id, upload, mishap)

    def _begin(self, seen: Seen) -> tuple[int, dict[str, str], bytes]:
        upload_id = f"upload-{len(self.stub.seen)}"
        metadata = {name: text for name, text in seen.headers.items() if name.startswith("x-amz-meta-")}
        self.stub.uploads[upload_id] = _Upload(key=seen.key, metadata=metadata)
        text = _element("InitiateMultipartUploadResult", _element("UploadId", upload_id))
        return 200, _XML, text.encode()

    def _complete(
        self, seen: Seen, body: bytes, upload_id: str, upload: _Upload, mishap: Mishap
    ) -> tuple[int, dict[str, str], bytes]:
        document = ElementTree.fromstring(body)
        listed = [int(element.text or 0) for element in document.iter() if element.tag.endswith("PartNumber")]
        if listed != sorted(upload.parts):
            raise _Refused(400, "InvalidPart")
        parts = [upload.parts[number] for number in listed]
        digest = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).digest()
        md5 = hashlib.md5(b"".join(hashlib.md5(part).digest() for part in parts))
        stored = Stored(
            data=b"".join(parts),
            etag=f"{md5.hexdigest()}-{len(parts)}",
            checksum=f"{base64.b64encode(digest).decode()}-{len(parts)}",
            metadata=upload.metadata,
        )
        self._store(seen, stored, mishap)
        del self.stub.uploads[upload_id]
        text = _element("CompleteMultipartUploadResult", _element("ETag", f"&#34;{stored.etag}&#34;"))
        return 200, _XML, text.encode()


_XML = {"Content-Type": "application/xml"}


def _base64_sha256(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def _element(name: str, *content: str) -> str:
    return f"<{name}>{''.join(content)}</{name}>"


def _listed(key: str, stored: Stored) -> str:
    return _element(
        "Contents",
        _element("Key", escape(key)),
        _element("LastModified", time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(stored.at))),
        _element("ETag", f"&#34;{stored.etag}&#34;"),
        _element("Size", str(len(stored.data))),
    )


def _begun(upload: _Upload) -> str:
    return _element("Initiated", time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(upload.begun)))
