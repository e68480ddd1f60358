"""A child process that is being ended leaves nothing open, however its loop ends."""

import asyncio

from cctv_storaged.media.ffmpeg import Limits, child


async def test_an_ffmpeg_whose_end_is_cancelled_leaves_no_transport_open() -> None:
    """As at the end of a loop, which cancels every task and then gives none a turn."""
    within = child(("5",), Limits(wall_s=30, cpu_s=10), program="sleep")
    running = await within.__aenter__()
    ending = asyncio.create_task(running.end())
    await asyncio.sleep(0)
    ending.cancel()
    await asyncio.gather(ending, return_exceptions=True)
    assert ending.cancelled()
    assert running._process._transport.is_closing()  # type: ignore[attr-defined]
    await within.__aexit__(None, None, None)
