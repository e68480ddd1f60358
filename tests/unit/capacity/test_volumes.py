"""Which folders share a disk, and that one that hangs holds up no other."""

import asyncio
import os
import threading
from pathlib import Path

import pytest

from cctv_storaged.capacity import volumes
from cctv_storaged.capacity.volumes import Facts, Looks, Place, Use, facts_of, places_of


def facts(device: int) -> Facts:
    return Facts(device=device, total_bytes=10, free_bytes=5, read_only=False)


def test_a_real_disk_is_told_as_df_tells_it(tmp_path: Path) -> None:
    found, disk = facts_of(str(tmp_path)), os.statvfs(tmp_path)
    assert found.device == tmp_path.stat().st_dev and not found.read_only
    assert 0 < found.free_bytes <= found.total_bytes <= disk.f_blocks * disk.f_frsize


async def test_folders_are_grouped_by_disk_and_those_away_left_out() -> None:
    def look(path: str) -> Facts:
        if path == "/away":
            raise FileNotFoundError(path)
        return facts(2 if path == "/store" else 1)

    places = places_of(["/a", "/away", "/b"], "/store", "/data")
    first, second = await Looks(look).at(places)
    assert (first.name, first.roots, first.holds(Use.DATA)) == ("/a", frozenset({"/a", "/b"}), True)
    assert (second.name, second.roots, second.holds(Use.STORE)) == ("/store", frozenset(), True)


async def test_a_disk_that_hangs_is_left_out_and_waited_for_by_one_thread_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(volumes, "PATIENCE_S", 0.05)
    answer, asked = threading.Event(), list[str]()

    def look(path: str) -> Facts:
        asked.append(path)
        if path == "/dead":
            answer.wait()
        return facts(len(path))

    looks, places = Looks(look), (Place(Use.ROOT, "/dead"), Place(Use.DATA, "/d"))
    for _ in range(2):
        while not (found := await looks.at(places)):
            pass  # on a busy machine a sound disk may take longer than so little patience
        assert [volume.name for volume in found] == ["/d"]
    assert asked.count("/dead") == 1
    answer.set()
    monkeypatch.setattr(volumes, "PATIENCE_S", 60.0)
    assert [volume.name for volume in await looks.at(places)] == ["/dead", "/d"]


async def test_two_who_look_at_once_both_see_the_disk() -> None:
    looks, places = Looks(lambda path: facts(1)), (Place(Use.DATA, "/d"),)
    both = await asyncio.gather(looks.at(places), looks.at(places))
    assert [len(found) for found in both] == [1, 1]
