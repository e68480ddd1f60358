"""An event loop whose waits are short: where nothing is left to do, its clock jumps to the next timer.

Retries after minutes and grace of a day are tried in moments, with real threads, files and journals beneath.
It does not jump while a thread or the journal is at work for the loop: on a machine that is busy with other
things a commit would last for hours by the loop's clock, and what a test lets pass would be over before it.
Waits get shorter, never longer, so a test must not depend on one thing being slower than another.
"""

import asyncio
import functools
import selectors
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, ParamSpec
from unittest.mock import patch

import aiosqlite

P = ParamSpec("P")

PATIENCE_S = 0.01
"""Real time for others than threads (sockets, children) to report something before the clock jumps."""
PLACE = "place"
"""The name of threads that look at one folder each, in no pool (guarding/folders.py)."""
HANGS_S = 3.0
"""A thread that works for so long hangs, as some tests have it: the clock jumps all the same."""


class JumpingLoop(asyncio.SelectorEventLoop):
    """Its `time()` runs ahead of the monotonic clock by all the waits that were cut short."""

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self.ahead_s = 0.0
        self._begun: dict[object, float] = {}  # what threads do for the loop right now, and since when
        super().__init__(_JumpingSelector(self, patience_s))

    def time(self) -> float:
        return time.monotonic() + self.ahead_s

    @property
    def works(self) -> bool:
        """Whether some thread is at work for the loop, and does not hang."""
        now_s = time.monotonic()
        for thread in threading.enumerate():
            if thread.name == PLACE:
                self._begun.setdefault(thread, now_s)
        for work in [work for work in self._begun if isinstance(work, threading.Thread)]:
            if not work.is_alive():
                del self._begun[work]
        return any(now_s - begun_s < HANGS_S for begun_s in self._begun.values())

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Somebody waits for a thread while the block lasts."""
        work = object()
        self._begun[work] = time.monotonic()
        try:
            yield
        finally:
            del self._begun[work]

    def given(self, future: Future[Any]) -> None:
        """A thread has it to do; it is over when the loop hears of it."""
        self._begun[future] = time.monotonic()

        def over(done: Future[Any]) -> None:
            with suppress(RuntimeError):  # the loop was closed, and nobody waits for it
                self.call_soon_threadsafe(self._begun.pop, done, None)

        future.add_done_callback(over)

    def run_forever(self) -> None:
        with (
            patch.object(aiosqlite.Connection, "_execute", _executed),
            patch.object(ThreadPoolExecutor, "submit", _submitted),
        ):
            super().run_forever()


_execute = aiosqlite.Connection._execute
_submit = ThreadPoolExecutor.submit


def _submitted(pool: ThreadPoolExecutor, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """By whichever way: `to_thread`, `run_in_executor`, or a pool's future that is wrapped."""
    future = _submit(pool, work, *args, **kwargs)
    with suppress(RuntimeError):  # a thread that gives work to others: whoever waits for it waits for them
        loop = asyncio.get_running_loop()
        if isinstance(loop, JumpingLoop):
            loop.given(future)
    return future


async def _executed(connection: aiosqlite.Connection, *args: Any, **kwargs: Any) -> Any:
    """The journal's thread is no executor's."""
    loop = asyncio.get_running_loop()
    with loop.at_work() if isinstance(loop, JumpingLoop) else nullcontext():
        return await _execute(connection, *args, **kwargs)  # type: ignore[no-untyped-call]


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, loop: JumpingLoop, patience_s: float) -> None:
        super().__init__()
        self._loop = loop
        self._patience_s = patience_s

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= self._patience_s:
            return super().select(timeout)
        until_s = time.monotonic() + timeout
        while not (found := super().select(self._patience_s)):
            left_s = until_s - time.monotonic()
            if left_s <= 0 or not self._loop.works:
                if found := super().select(0):
                    break  # whoever was at work has just ended, and said so
                self._loop.ahead_s += max(0.0, left_s)
                break
        return found


class LoopClock:
    """The project's clock by the time of the loop it is first asked on; the wall clock can be set besides."""

    def __init__(self, start: datetime) -> None:
        self._start = start
        self._loop: asyncio.AbstractEventLoop | None = None
        self._origin = 0.0
        self._set_by = timedelta(0)

    def now(self) -> datetime:
        return self._start + self._set_by + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._origin = self._loop.time()
        return self._loop.time() - self._origin

    def advance(self, by: timedelta) -> None:
        """The wall clock alone is set forward, or back."""
        self._set_by += by


def jumping(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """A test that runs on a JumpingLoop of its own."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=JumpingLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run


async def eventually(
    condition: Callable[[], bool] | Callable[[], Awaitable[bool]], what: str, timeout_s: float = 60.0
) -> None:
    """Waits for a condition, at most so long in real time; the loop's clock runs on, ever faster."""
    deadline, step_s = time.monotonic() + timeout_s, 0.25
    while True:
        found = condition()
        if found if isinstance(found, bool) else await found:
            return
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        await asyncio.sleep(step_s)
        step_s = min(30.0, step_s * 1.1)


async def passing(duration: timedelta) -> None:
    """Lets so much of the loop's time pass."""
    await asyncio.sleep(duration.total_seconds())


MIDNIGHT = datetime(2026, 11, 1, tzinfo=UTC)
