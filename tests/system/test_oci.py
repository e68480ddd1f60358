"""The image's recipe, followed in a clean Debian; what comes of it has no rights and a read-only root."""

import json
import os
import shutil
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import PROJECT, wait_until
from tests.footage import cached_ts
from tests.services.netns import Network, networks
from tests.services.seaweed import ACCESS_KEY, SECRET_KEY, Bucket
from tests.system.image import Builder, Container, Image, run
from tests.system.machine import again, bus, debian, printed

pytestmark = pytest.mark.timeout(1800)

LINE = {"STORAGE_MODE": "BOTH", "MINIO_ENDPOINT": "minio:9000"}
"""What the specification's `docker run` gives, beside -p 8082:8082."""
LACKING = {
    "MINIO_ACCESS_KEY": ACCESS_KEY,
    "MINIO_SECRET_KEY": SECRET_KEY,
    "MILESTONE_URL": "https://xprotect.invalid",
    "MILESTONE_USERNAME": "storage",
    "MILESTONE_PASSWORD": "a-password-that-nobody-asks-for",
}
"""What it has to be given besides: secrets, and the site that BOTH is about."""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    folder = tmp_path_factory.mktemp("image")
    base, wheels = folder / "base", folder / "wheels"
    debian(base)
    download = [
        *(sys.executable, "-m", "pip", "--quiet", "download", "--require-hashes", "--dest", str(wheels)),
        *("--only-binary=:all:", "--python-version", "3.11", "-r", str(PROJECT / "requirements.lock")),
    ]
    again(lambda: printed(download))
    with bus():
        yield Builder(PROJECT, base, wheels, folder).build(PROJECT / "packaging" / "oci" / "Containerfile")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def network(seaweed_bucket: Bucket) -> Iterator[Network]:
    with networks({"container": 9}) as made:
        made["container"].relay(seaweed_bucket.server.s3_port, as_port=9000)
        yield made["container"]


def hosts(network: Network) -> str:
    return f"127.0.0.1 localhost\n{network.here} minio\n"


def asked(network: Network, path: str, token: str = "") -> tuple[int, bytes]:
    """What the published port answers; (0, nothing) where it does not."""
    request = urllib.request.Request(f"http://{network.there}:8082{path}")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as exc:
        return exc.code, exc.read()
    except OSError:
        return 0, b""


def recorded(container: Container) -> None:
    """A closed segment of a camera, from the recorder, which is another program and has the volume too."""
    start = datetime.now(UTC) - timedelta(minutes=5)
    path = container.volumes["/recordings"] / "gate" / f"{start:%Y-%m-%d}" / f"{start:%H-%M-%S}.ts"
    path.parent.mkdir(parents=True)
    shutil.copyfile(cached_ts(seconds=2), path.with_suffix(".part"))
    for each in (path.parent.parent, path.parent, path.with_suffix(".part")):
        os.chown(each, 10001, 10001)
    path.with_suffix(".part").rename(path)


def test_the_image_says_what_a_host_needs_to_know(image: Image) -> None:
    assert (image.user, image.ports) == ("10001:10001", ["8082"])
    assert image.volumes == ["/var/lib/cctv-storaged", "/recordings"]
    assert not list(image.root.glob("opt/cctv-storaged/lib/python3*/site-packages/pip"))
    assert not list((image.root / "var/lib/apt/lists").iterdir())


def test_the_line_alone_ends_at_once_and_names_what_it_lacks(
    image: Image, network: Network, tmp_path: Path
) -> None:
    """BOTH needs XProtect's address, and MinIO a key: neither can have a default."""
    with run(image, tmp_path, LINE, network=network.path, hosts=hosts(network)) as container:
        assert container.process.wait(180) == 2, container.log
        for name in ("MILESTONE_URL", "MINIO_ACCESS_KEY", "MINIO_SECRET_KEY"):
            assert name in container.log
        assert "Traceback" not in container.log


def test_the_line_with_its_secrets_records_delivers_and_is_healthy(
    image: Image, network: Network, seaweed_bucket: Bucket, tmp_path: Path
) -> None:
    given = {**LINE, **LACKING, "MINIO_BUCKET_RECORDINGS": seaweed_bucket.name, "HOST_ID": "nvr-01"}
    with run(image, tmp_path, given, network=network.path, hosts=hosts(network)) as container:
        wait_until(
            lambda: asked(network, "/ready")[0] == 200,
            "ready",
            patience_s=180,
            details=lambda: container.log,
        )
        assert container.execute(*image.health).returncode == 0
        assert container.execute("id", "-u").stdout.strip() == "10001"
        assert owner_of(container) == 10001
        for place in ("/", "/opt/cctv-storaged", "/etc", "/usr/local/bin"):
            assert container.execute("touch", f"{place}/written").returncode != 0

        recorded(container)
        token = next(container.volumes["/var/lib/cctv-storaged"].glob("*token*")).read_text().strip()
        assert asked(network, "/api/v1/storage/cameras")[0] == 401

        def segments() -> list[dict[str, Any]]:
            cameras = json.loads(asked(network, "/api/v1/storage/cameras", token)[1])["cameras"]
            if not cameras:
                return []
            path = f"/api/v1/storage/segments/{cameras[0]['id']}"
            return list(json.loads(asked(network, path, token)[1])["segments"])

        def delivered() -> bool:
            copies = [copy for each in segments() for copy in each["copies"]]
            return any((copy["backend"], copy["state"]) == ("MINIO", "verified") for copy in copies)

        wait_until(delivered, "it is in MinIO", details=lambda: container.log[-4000:])
        [segment] = segments()
        assert seaweed_bucket.keys() >= {segment["storage_path"]}
        picture = f"/api/v1/storage/cameras/{segment['camera_id']}/thumbnail.jpg?at={segment['start_time']}"
        assert asked(network, picture, token)[1].startswith(b"\xff\xd8")  # ffmpeg works in it

        assert not any(secret in container.log for secret in (SECRET_KEY, LACKING["MILESTONE_PASSWORD"]))
        pid = container.pid
        assert pid is not None, container.log
        os.kill(pid, signal.SIGSTOP)  # it stands still
        assert container.execute(*image.health).returncode == 1
        os.kill(pid, signal.SIGCONT)
        begun = time.monotonic()
        assert container.stop() == 0, container.log[-4000:]
        assert time.monotonic() - begun < 60


def owner_of(container: Container) -> int:
    return os.stat(f"/proc/{container.pid}").st_uid
