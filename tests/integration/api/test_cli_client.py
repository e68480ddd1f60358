"""Commands ask the daemon that the settings name, and believe no other one."""

import argparse
import asyncio
from pathlib import Path

import pytest
import yaml

from cctv_storaged.api.models import CamerasAnswer
from cctv_storaged.cli_client import ApiAddress, ApiClient, ApiError, address_of
from cctv_storaged.errors import ConfigError
from tests.integration.api.harness import running

CERTIFICATES = Path(__file__).parents[2] / "services" / "certificates"
SERVER = str(CERTIFICATES / "server.pem")


def options(**given: object) -> argparse.Namespace:
    return argparse.Namespace(**{"config": None, "url": None, "token_file": None, "ca_file": None, **given})


def cameras(address: ApiAddress) -> CamerasAnswer:
    client = ApiClient(address)
    try:
        return client.get("/cameras", CamerasAnswer)
    finally:
        client.close()


async def test_the_certificate_of_the_settings_is_believed_and_no_other(tmp_path: Path) -> None:
    api = {"tls_cert": SERVER, "tls_key": SERVER}
    async with running(tmp_path, {"api": api}) as host:
        named = tmp_path / "named.yaml"
        settings = yaml.safe_load((tmp_path / "config.yaml").read_text())
        settings["api"]["port"] = host.parts.api.port  # no port is free for sure until one has it
        named.write_text(yaml.safe_dump(settings))
        address = address_of(options(config=named), {})
        assert (await asyncio.to_thread(cameras, address)).cameras == []
        for another in (
            ApiAddress(url=address.url, fingerprint="00" * 32),
            ApiAddress(url=address.url),
            ApiAddress(url=address.url.replace("https", "http")),
        ):
            with pytest.raises(ApiError) as caught:
                await asyncio.to_thread(cameras, another)
            assert caught.value.code == 3


async def test_a_token_is_asked_for_and_named(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        made = await host.post("/tokens", {"name": "admin", "scopes": ["admin"]})
        file = tmp_path / "token"
        file.write_text(made.json["secret"] + "\n")
        for given in (
            address_of(options(url=host.url, token_file=file), {}),
            address_of(options(url=host.url), {"CCTV_TOKEN": made.json["secret"]}),
        ):
            assert (await asyncio.to_thread(cameras, given)).cameras == []
        with pytest.raises(ApiError, match="CCTV_TOKEN") as caught:
            await asyncio.to_thread(cameras, address_of(options(url=host.url), {}))
        assert caught.value.code == 2


def test_what_names_no_daemon_is_told(tmp_path: Path) -> None:
    anywhere = tmp_path / "config.yaml"
    anywhere.write_text(yaml.safe_dump({"data_dir": str(tmp_path), "api": {"port": 0}}))
    empty = tmp_path / "token"
    empty.write_text("two words\n")
    for wrong, where in (
        (options(config=anywhere), "api.port"),
        (options(url="nvr-01:8082"), "--url"),
        (options(url="http://user@nvr-01:8082"), "--url"),
        (options(url="http://nvr-01/path"), "--url"),
        (options(url="http://nvr-01:8082", token_file=empty), "--token-file"),
        (options(url="http://nvr-01:8082", token_file=tmp_path / "none"), "--token-file"),
    ):
        with pytest.raises(ConfigError) as caught:
            address_of(wrong, {})
        assert [fault.where for fault in caught.value.faults] == [where]
    assert address_of(options(url="https://[::1]:8082/"), {}).url == "https://[::1]:8082"
