"""Which configuration a daemon works by: told by /health, the metrics and the log, also after a reload."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import yaml

from cctv_storaged.journal.journal import Journal
from tests.daemon import Daemon, wait_until
from tests.unit.journal.samples import NOW, new, record


def rewritten(daemon: Daemon, **changes: Any) -> None:
    """The settings file with other values, and word of it to the daemon."""
    settings = yaml.safe_load(daemon.config.read_text())
    daemon.config.write_text(yaml.safe_dump({**settings, **changes}))
    daemon.signal(signal.SIGHUP)


def test_a_reload_is_another_configuration_and_what_waits_for_a_restart_is_told(daemon: Daemon) -> None:
    daemon.settings = {"config_version": "rev 1"}
    daemon.start()
    first = daemon.get("/health")
    assert first["config_version"] == "rev 1"
    assert f"configuration in force: rev 1, hash {first['config_hash'][:12]}" in daemon.log
    assert daemon.metric("storage_config_info", version="rev 1", hash=first["config_hash"]) == 1

    rewritten(daemon, config_version="rev 2", retention={"default": {"at_most": "90d"}})
    wait_until(lambda: daemon.get("/health")["config_version"] == "rev 2", "the new one is in force")
    second = daemon.get("/health")
    assert second["config_hash"] != first["config_hash"]
    assert daemon.metric("storage_config_info", version="rev 1") == 0
    assert daemon.metric("storage_config_waiting") == 0

    rewritten(daemon, config_version="rev 3", exports={"workers": 1})
    wait_until(lambda: daemon.get("/health")["config_version"] == "rev 3", "the third is")
    assert daemon.metric("storage_config_waiting") == 1
    assert daemon.get("/health")["config_hash"] == second["config_hash"]  # of what is in force
    assert daemon.stop() == 0


async def of_another_host(data_dir: Path, host_id: str) -> None:
    """A journal with footage."""
    async with await Journal.open(data_dir, host_id, NOW) as journal:
        await record(journal, new(1))


def test_another_host_id_than_the_journals_sounds_until_they_agree(daemon: Daemon) -> None:
    asyncio.run(of_another_host(daemon.data_dir, "nvr-01"))
    daemon.settings = {"host_id": "nvr-02"}
    daemon.start()
    assert daemon.metric("storage_alarms", alarm="host_id") == 1
    _, ready = daemon.request("GET", "/ready", expect=(200, 503))  # its folder may not be looked at yet
    assert any(each["name"] == "alarm host_id nvr-01" for each in ready["parts"])
    assert "ALARM host_id, nvr-01: host_id is 'nvr-02'" in daemon.log

    rewritten(daemon, host_id="nvr-01")
    wait_until(lambda: "alarm over: host_id, nvr-01" in daemon.log, "they agree")
    assert daemon.metric("storage_alarms", alarm="host_id") == 0

    rewritten(daemon, host_id="nvr-03")
    wait_until(lambda: daemon.metric("storage_alarms", alarm="host_id") == 1, "a reload that differs tells")
    assert daemon.stop() == 0
