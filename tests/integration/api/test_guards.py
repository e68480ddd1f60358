"""Places and the clock as operators meet them: over the API and from the shell."""

import asyncio
import re
import shutil
import sys
from pathlib import Path

from cctv_storaged.api.place_models import ClockAnswer, PlaceAnswer, PlacesAnswer
from cctv_storaged.guarding.identity import NAME, Standing
from cctv_storaged.hostclock import FollowingBootClock
from tests.integration.api.harness import Host, running, until


async def shell(host: Host, *words: str) -> tuple[int, str]:
    """A command's exit code, and what it said."""
    command = (sys.executable, "-m", "cctv_storaged", *words, "--url", host.url)
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=asyncio.subprocess.STDOUT)
    said, _ = await child.communicate()
    assert child.returncode is not None
    return child.returncode, said.decode()


async def places(host: Host) -> dict[str, PlaceAnswer]:
    answered = PlacesAnswer.model_validate((await host.get("/places")).json)
    return {Path(each.location).name: each for each in answered.places}


async def test_a_disk_that_was_changed_is_listed_told_and_accepted(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        host.deliver()
        first = await host.delivered(await host.registered())
        before = await places(host)
        assert {each.standing for each in before.values()} == {Standing.RIGHT}
        store = host.settings.filesystem.path
        held = {"camera_ids": [first["camera_id"]], "start_time": first["start_time"], "reason": "burglary"}
        assert (await host.post("/holds", held)).status == 201
        for keeper in host.parts.upkeep.keepers:
            await keeper.run_once()
        await host.parts.upkeep.auditing.heads.run_once()
        kept = {path.parent.name for path in (store / "ledger").rglob("*.json")}
        assert kept == {"holds", "heads"}
        shutil.rmtree(store / "ledger")
        (store / NAME).unlink()
        (host.recordings / "gate/a.ts").unlink()
        content = f"/segments/{first['camera_id']}/{first['id']}/content"
        told = await host.get(content)
        assert (told.status, "not the right one" in told.json["detail"]) == (503, True)
        await host.parts.foundation.places.check()
        code, said = await shell(host, "places", "list")
        assert (code, f"{store}: missing" in said) == (1, True)
        ready = (await host.get("/ready")).json
        assert any("wrong_disk" in part["name"] and str(store) in part["trouble"] for part in ready["parts"])
        waits = (await host.registered("gate/b.ts"))["id"]
        assert (await host.post("/places/accept", {"kind": "root", "location": "/nowhere"})).status == 404
        assert (await host.post("/places/accept", {"kind": "shelf", "location": "x"})).fields == {"kind"}
        code, said = await shell(host, "places", "accept", str(store), "--kind", "foo")
        assert (code, "of the kind 'foo'" in said, "it is of store" in said) == (2, True, True)
        code, said = await shell(host, "places", "accept", str(store))
        assert (code, f"{store}: right" in said) == (0, True)
        assert f"the journal had: {before['store'].identity}" in said
        assert re.search(r"found there: +no identity, 1 entry$", said, re.M), said
        again = {path.parent.name for path in (store / "ledger").rglob("*.json")}
        assert again == kept, "the store has at once what says which holds there are, and how the ledger ends"
        now = (await places(host))["store"]
        assert now.identity == now.found != before["store"].identity
        second = await host.stored(waits)
        await host.delivered({"id": waits, "camera_id": str(second.camera_id)})
        assert (await host.get(content)).status == 200
        assert (await shell(host, "places", "list"))[0] == 0


async def test_a_clock_that_jumped_is_told_and_confirmed(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        guard = host.parts.foundation.clock_guard
        assert (await shell(host, "clock", "show"))[0] == 0

        class Stopped(FollowingBootClock):
            """As if the wall clock alone had gone on: by four hundred days."""

            def boot_s(self) -> float:
                return super().boot_s() - 400 * 86400

        stopped = Stopped(host.parts.foundation.clock)
        stopped.boot_id = guard._boot.boot_id
        guard._boot = stopped
        told = ClockAnswer.model_validate((await host.get("/clock")).json)
        assert "400 days" in (told.distrust or "")
        code, said = await shell(host, "clock", "confirm")
        assert (code, "trusted" in said) == (0, True)
        told = ClockAnswer.model_validate((await host.get("/clock")).json)
        assert (told.distrust, told.trusted_from is not None) == (None, True)
        assert [round(step.by_seconds / 86400) for step in told.steps] == [400]

        async def noted() -> bool:
            query = "SELECT count(*) FROM ledger WHERE kind = 'noted' AND cause = 'clock_confirmed'"
            return await host.journal._store.read(lambda db: db.execute(query).fetchone()[0] == 1)

        await until(noted)
