"""The S3 server that all contenders put to: the tests' SeaweedFS, with a fresh bucket for each run."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import boto3
import psutil
from botocore.config import Config

from scripts.benchmarks.usage import cpu_seconds
from tests.services.seaweed import ACCESS_KEY, SECRET_KEY, SeaweedServer

REGION = "us-east-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """A running server and how to talk to it."""

    endpoint: str  # host:port
    pid: int
    access_key: str = ACCESS_KEY
    secret_key: str = field(default=SECRET_KEY, repr=False)

    @property
    def url(self) -> str:
        return f"http://{self.endpoint}"

    def cpu_seconds(self) -> float:
        return cpu_seconds(self.pid)

    @contextlib.contextmanager
    def bucket(self, name: str) -> Iterator[str]:
        """A new bucket, removed with all it holds."""
        client = self._client()
        client.create_bucket(Bucket=name)
        try:
            yield name
        finally:
            client.delete_bucket(Bucket=name)  # this server removes one that is not empty

    def content(self, bucket: str) -> tuple[int, int]:
        """Number of objects and their bytes."""
        objects, size_bytes = 0, 0
        for page in self._client().get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for found in page.get("Contents", ()):
                objects += 1
                size_bytes += found["Size"]
        return objects, size_bytes

    def _client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(
                retries={"total_max_attempts": 1},
                s3={"addressing_style": "path"},
                read_timeout=120,
                proxies={},
            ),
        )


@contextlib.contextmanager
def running_store() -> Iterator[Store]:
    """A server from ready to gone."""
    server = SeaweedServer()
    try:
        server.start()
        pid = next(child.pid for child in psutil.Process().children() if child.name() == "weed")
        yield Store(endpoint=server.endpoint, pid=pid)
    finally:
        server.destroy()
