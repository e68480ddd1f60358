"""Reading recorded pictures from a recording server: the ImageServer protocol on port 7563."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from uuid import UUID

from cctv_storaged.backends.milestone.answers import TokenRefused
from cctv_storaged.backends.milestone.base import Gop
from cctv_storaged.backends.milestone.course import Course, Interruption, WithoutPictures
from cctv_storaged.backends.milestone.imageconnection import ConnectionEnded, Door, Patience
from cctv_storaged.backends.milestone.imagesession import ImageSession, Move, Subject
from cctv_storaged.backends.milestone.imagewire import Room, WireLimits
from cctv_storaged.backends.milestone.tokens import TokenSource
from cctv_storaged.errors import ObjectMissing
from cctv_storaged.model import TimeSpan

__all__ = ["Door", "ImageServer", "Patience"]

LARGEST_ANSWER = 64 * 1024 * 1024
ROOM_BYTES = 2 * LARGEST_ANSWER
"""Of the answers that are in hand at the same time, as recorders announce them; pictures are a copy."""
IN_FLIGHT = 3
"""Calls that are not answered yet: the recorder need not wait for us between two groups."""


class ImageServer:
    """Reads from any recording server of the site."""

    def __init__(
        self,
        tokens: TokenSource,
        *,
        patience: Patience | None = None,
        largest_answer: int = LARGEST_ANSWER,
        room_bytes: int = ROOM_BYTES,
    ) -> None:
        self._tokens = tokens
        self._patience = patience or Patience()
        self._limits = WireLimits(answer_bytes=largest_answer)
        self._room = Room(max(room_bytes, largest_answer))

    async def reach(self, door: Door, camera: UUID) -> None:
        """Connects as for reading, and leaves."""
        session = await self._connected(door, Subject(camera))
        await session.close()

    def footage(
        self, door: Door, camera: UUID, span: TimeSpan, stream: UUID | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[Gop]]:
        """See `Vms.footage`; ObjectMissing is raised on entering, before anything was promised."""
        return self._footage(door, Subject(camera, stream), span)

    @asynccontextmanager
    async def _footage(
        self, door: Door, subject: Subject, span: TimeSpan
    ) -> AsyncGenerator[AsyncIterator[Gop]]:
        async with aclosing(self._walk(door, subject, span)) as groups:
            first = await anext(groups, None)
            if first is None:
                raise ObjectMissing(f"XProtect has no pictures of camera {subject.camera} in {span}")
            async with aclosing(_with_first(first, groups)) as whole:
                yield whole

    async def _walk(self, door: Door, subject: Subject, span: TimeSpan) -> AsyncGenerator[Gop]:
        """`goto` its start, and on; where a token ends under way, with a fresh one from where it stood."""
        course, gop = Course(span), None
        session = await self._connected(door, subject)
        try:
            await session.goto(course.resume_ms)
            while not course.over:
                try:
                    move, response = await session.answer()
                    gop = course.take(move, response)
                    del response  # the pictures are copies
                    await self._ask_on(session, course)
                except (TokenRefused, ConnectionEnded, WithoutPictures) as exc:
                    course.stumble(exc)
                    session = await self._refreshed(session, door, subject, exc)
                    await session.goto(course.resume_ms)
                if gop is not None:
                    yield gop
                    gop = None
        finally:
            await session.close()

    async def _refreshed(
        self, session: ImageSession, door: Door, subject: Subject, exc: Interruption
    ) -> ImageSession:
        """What a recorder does about a token that ended is not published: it may refuse, or just hang up."""
        if isinstance(exc, TokenRefused):
            with contextlib.suppress(TokenRefused, ConnectionEnded):
                await session.refresh()
                return session
        await session.close()
        refused = None if isinstance(exc, WithoutPictures) else session.token
        return await self._connected(door, subject, refused=refused)

    async def _ask_on(self, session: ImageSession, course: Course) -> None:
        if course.wants_begin:
            await session.step(Move.BEGIN)
            return
        while not course.over and session.in_flight < IN_FLIGHT:
            await session.step(Move.NEXT)

    async def _connected(self, door: Door, subject: Subject, refused: str | None = None) -> ImageSession:
        return await ImageSession.connected(
            door,
            subject,
            self._tokens,
            refused=refused,
            patience=self._patience,
            limits=self._limits,
            room=self._room,
        )


async def _with_first(first: Gop, rest: AsyncIterator[Gop]) -> AsyncGenerator[Gop]:
    yield first
    async for gop in rest:
        yield gop
