"""`cctv-storaged token` beside a running daemon: make, list and revoke, with limits and an end."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from cctv_storaged.cli_token import expiry
from tests.integration.api.exported import GATE, NAMED
from tests.integration.api.harness import Host, running


@pytest_asyncio.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    async with running(tmp_path, NAMED) as started:
        yield started


async def command(host: Host, *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "cctv_storaged", "token", *arguments, "--url", host.url],
        env={**os.environ, "CCTV_TOKEN": host.token or ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


async def test_tokens_are_made_listed_and_revoked_from_the_shell(host: Host) -> None:
    code, secret, told = await command(host, "create", "first", "--scope", "admin")
    assert (code, len(secret.splitlines())) == (0, 1)
    assert secret.strip() not in told
    assert "umask" in told and not told.rstrip().endswith(":"), "it went into a pipe, and not below"
    host.token = secret.strip()
    limited = ("--scope", "read", "--scope", "export", "--camera", "Gate", "--expires", "90d")
    code, made, _ = await command(host, "create", "gate keeper", *limited, "--json")
    token = json.loads(made)
    assert (code, token["cameras"], token["scopes"]) == (0, [str(GATE)], ["read", "export"])
    left = datetime.fromisoformat(token["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=89) < left <= timedelta(days=90)
    code, listed, _ = await command(host, "list")
    assert code == 0
    lines = listed.splitlines()
    assert all(line.endswith(name) for line, name in zip(lines, ("first", "gate keeper"), strict=True))
    assert "from 127.0.0.1" in lines[0]
    assert "not used yet" in lines[1]
    assert token["secret"] not in listed
    assert (await command(host, "revoke", "gate keeper"))[0] == 0
    assert [each["name"] for each in (await host.get("/tokens")).json["tokens"]] == ["first"]


async def test_what_cannot_be_is_told_in_a_line(host: Host) -> None:
    made = await host.post("/tokens", {"name": "first", "scopes": ["admin"]})
    host.token = made.json["secret"]
    for arguments, code, told in (
        (("create", "x", "--scope", "read", "--expires", "soon"), 2, "expires_at"),
        (("revoke", "nobody"), 2, "names no token"),
        (("revoke", "first"), 1, "last"),
    ):
        found, _, error = await command(host, *arguments)
        assert (found, len(error.splitlines())) == (code, 1), error
        assert told in error


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90d", "2026-04-01T00:00:00Z"),
        ("12h", "2026-01-01T12:00:00Z"),
        ("2026-02-01T00:00:00+01:00", "2026-02-01T00:00:00+01:00"),
        ("soon", "soon"),
    ],
)
def test_an_end_is_a_moment_or_so_long_from_now(text: str, moment: str) -> None:
    assert expiry(text, datetime(2026, 1, 1, tzinfo=UTC)) == moment
