"""A start may take long; the service manager hears that it goes on."""

import asyncio

import pytest

from cctv_storaged import daemon
from cctv_storaged.systemd import ServiceManager


async def test_a_long_start_asks_for_time_again_and_again_and_stops_asking(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A journal of gigabytes that was not closed is read whole; one grant would run out before the end."""
    monkeypatch.setattr(daemon, "START_SIGN_S", 0.01)
    heard: list[str] = []
    manager = ServiceManager({"NOTIFY_SOCKET": "there"}, notify=heard.append)
    async with asyncio.timeout(30), daemon._time_to_start(manager):
        while len(heard) < 3:
            await asyncio.sleep(0.01)
    assert set(heard) == {f"EXTEND_TIMEOUT_USEC={daemon.START_GRANT_S * 1e6:.0f}"}
    asked = len(heard)
    await asyncio.sleep(0.05)
    assert len(heard) == asked
