"""The fleet is read once for many who ask, and never kept for long, nor a failure at all."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from cctv_storaged import fleet
from cctv_storaged.catalog.hosts import KnownHost
from cctv_storaged.clock import SystemClock
from cctv_storaged.errors import CatalogUnavailable
from cctv_storaged.fleet import FleetReading


class Catalog:
    """One without hosts, that answers when it may."""

    def __init__(self) -> None:
        self.asked = 0
        self.may = asyncio.Event()
        self.fails = False

    async def hosts(self) -> Sequence[KnownHost]:
        self.asked += 1
        await self.may.wait()
        if self.fails:
            raise CatalogUnavailable("away")
        return ()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.fixture
def catalog() -> Catalog:
    return Catalog()


@pytest.fixture
def reading(catalog: Catalog) -> FleetReading:
    return FleetReading(catalog.hosts, SystemClock())


async def test_those_who_ask_together_and_soon_after_share_one_reading(
    catalog: Catalog, reading: FleetReading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "KEPT_S", 3600.0)
    asking = [asyncio.create_task(reading.now()) for _ in range(5)]
    await until(lambda: catalog.asked == 1)
    catalog.may.set()
    told = await asyncio.gather(*asking)
    assert all(each is told[0] for each in [*told, await reading.now()])
    assert catalog.asked == 1


async def test_what_was_read_is_forgotten_after_its_time(
    catalog: Catalog, reading: FleetReading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "KEPT_S", 0.0)
    catalog.may.set()
    await reading.now()
    await until(lambda: reading._latest is None)
    await reading.now()
    assert catalog.asked == 2


async def test_a_failure_is_told_to_all_who_waited_and_not_kept(
    catalog: Catalog, reading: FleetReading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "KEPT_S", 3600.0)
    catalog.fails = True
    asking = [asyncio.create_task(reading.now()) for _ in range(3)]
    await until(lambda: catalog.asked == 1)
    catalog.may.set()
    assert all(
        isinstance(each, CatalogUnavailable) for each in await asyncio.gather(*asking, return_exceptions=True)
    )
    catalog.fails = False
    assert (await reading.now()).hosts == ()
    assert catalog.asked == 2


async def test_one_who_goes_takes_the_answer_from_nobody(catalog: Catalog, reading: FleetReading) -> None:
    gone, stays = (asyncio.create_task(reading.now()) for _ in range(2))
    await until(lambda: catalog.asked == 1)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    catalog.may.set()
    assert (await stays).complete
