"""Writes answers to a connection of port 7563, with the faults that the site is set to have."""

import asyncio
from dataclasses import dataclass

from tests.fakes.xprotect.faults import Faults

_APART_S = 0.002
"""Between two writes that must not arrive as one."""


class Cut(Exception):
    """The connection is over by one of the faults."""


@dataclass(slots=True)
class Sender:
    """One connection's sending side. Whole answers go out one after the other."""

    writer: asyncio.StreamWriter
    faults: Faults
    _sent: int = 0
    _ended: bool = False

    async def send(self, answer: bytes, *, image: bool = False) -> None:
        """Cut where the connection is to be dropped; what is kept back by a fault is dropped in silence."""
        if self.faults.recorder_slow_s:
            await asyncio.sleep(self.faults.recorder_slow_s)
        if image and self.faults.drop_next > 0:
            self.faults.drop_next -= 1
            await self._write(answer[: len(answer) // 2])
            raise Cut
        room = self._room()
        if room is None or len(answer) <= room:
            await self._in_pieces(answer)
            return
        await self._in_pieces(answer[:room])
        if self.faults.half_close_after is not None and not self._ended:
            self._ended = True
            self._half_close()

    def _room(self) -> int | None:
        limits = (self.faults.half_close_after, self.faults.hang_after)
        left = [max(limit - self._sent, 0) for limit in limits if limit is not None]
        return 0 if self._ended else min(left, default=None)

    def _half_close(self) -> None:
        """TLS knows no half: there it is the end."""
        if not self.writer.can_write_eof():
            raise Cut
        self.writer.write_eof()

    async def _in_pieces(self, data: bytes) -> None:
        if self.faults.split_every_byte:
            for at in range(len(data)):
                await self._write(data[at : at + 1])
                await asyncio.sleep(0)  # the reader's turn, where it runs on the same loop
        elif self.faults.split_at is not None:
            await self._write(data[: self.faults.split_at])
            await asyncio.sleep(_APART_S)
            await self._write(data[self.faults.split_at :])
        else:
            await self._write(data)

    async def _write(self, data: bytes) -> None:
        if data:
            self.writer.write(data)
            await self.writer.drain()
            self._sent += len(data)
