"""One camera on one connection: a token that is kept fresh, calls, and their answers in order."""

import asyncio
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from cctv_storaged.backends.milestone import imagecalls
from cctv_storaged.backends.milestone.answers import TokenRefused, Unreadable
from cctv_storaged.backends.milestone.imagecalls import Reply
from cctv_storaged.backends.milestone.imageconnection import (
    ConnectionEnded,
    Door,
    ImageConnection,
    Patience,
)
from cctv_storaged.backends.milestone.imagewire import ImageResponse, Room, WireLimits
from cctv_storaged.backends.milestone.tokens import Token, TokenSource
from cctv_storaged.errors import BackendError, ObjectRejected

_REFRESH_S = 3.0
"""How long a recorder that refused a token may take to look at a fresh one; it is connected to anew else."""
_MOST_STRAYS = 64  # documents that nobody asked for, before an answer


class Move(StrEnum):
    """What is asked for."""

    CONNECT = "connect"
    UPDATE = "connectupdate"
    GOTO = "goto"
    BEGIN = "begin"
    NEXT = "next"


@dataclass(frozen=True, slots=True)
class Subject:
    """What is read."""

    camera: UUID
    stream: UUID | None = None


@dataclass(frozen=True, slots=True)
class _Asked:
    number: int
    move: Move


class ImageSession:
    """Made by `connected`."""

    def __init__(
        self, connection: ImageConnection, subject: Subject, tokens: TokenSource, token: Token
    ) -> None:
        self._connection = connection
        self._subject = subject
        self._tokens = tokens
        self._token = token
        self._number = 0
        self._asked: deque[_Asked] = deque()

    @classmethod
    async def connected(
        cls,
        door: Door,
        subject: Subject,
        tokens: TokenSource,
        *,
        refused: str | None = None,
        patience: Patience,
        limits: WireLimits,
        room: Room | None = None,
    ) -> "ImageSession":
        """Tried once more with a fresh token where it is refused: what for is said in no published words."""
        token = await tokens(refused)
        for last in (refused is not None, True):
            connection = await ImageConnection.opened(door, patience=patience, limits=limits, room=room)
            session = cls(connection, subject, tokens, token)
            try:
                reply = await session._connect()
            except BaseException:
                await connection.close()
                raise
            if reply.connected:
                return session
            await connection.close()
            if last:
                break
            token = await tokens(token.value)
        raise _refusal(subject, reply)

    @property
    def token(self) -> str:
        """The one that was shown last."""
        return self._token.value

    @property
    def in_flight(self) -> int:
        """Moves that are not answered yet."""
        return sum(asked.move is not Move.UPDATE for asked in self._asked)

    async def goto(self, time_ms: int) -> None:
        """Asks for the group at a time."""
        await self._keep_fresh()
        number = self._ask(Move.GOTO)
        await self._connection.send(imagecalls.goto(number, time_ms))

    async def step(self, move: Move) -> None:
        """Asks for the next or the first group."""
        await self._keep_fresh()
        number = self._ask(move)
        await self._connection.send(imagecalls.step(number, move))

    async def answer(self) -> tuple[Move, ImageResponse]:
        """The answer to the earliest move that has none. TokenRefused: nothing was answered."""
        while True:
            message = await self._message()
            asked = self._answered(message.request_id)
            if isinstance(message, ImageResponse):
                if asked.move is Move.UPDATE:
                    raise Unreadable(f"the recorder answers {asked.move} with a picture")
                return asked.move, message
            if asked.move is not Move.UPDATE and message.connected:
                raise Unreadable(f"the recorder answers {asked.move} with a connection")
            if not message.connected:
                reason = message.reason or "without a reason"
                raise TokenRefused(f"the recorder refuses {asked.move}: {reason}")

    async def refresh(self) -> None:
        """After TokenRefused: shows a fresh token. What was asked before may be refused, answered or dropped.

        ConnectionEnded where nothing comes of it in a while.
        """
        self._token = await self._tokens(self._token.value)
        try:
            async with asyncio.timeout(_REFRESH_S):
                await self._update()
                reply = await self._reply_to_last()
        except TimeoutError:
            raise ConnectionEnded("the recorder does not look at a fresh token", at_rest=True) from None
        if isinstance(reply, ImageResponse) or not reply.connected:
            reason = "a picture" if isinstance(reply, ImageResponse) else reply.reason
            raise TokenRefused(f"the recorder does not take a fresh token: {reason}")

    async def _reply_to_last(self) -> ImageResponse | Reply:
        last = self._asked[-1].number
        while True:
            reply = await self._message()
            if reply.request_id == last:
                self._asked.clear()
                return reply
            if self._answered(reply.request_id).number == last:
                return reply

    async def close(self) -> None:
        await self._connection.close()

    async def _connect(self) -> Reply:
        number = self._ask(Move.CONNECT)
        subject = self._subject
        await self._connection.send(
            imagecalls.connect(number, subject.camera, subject.stream, self._token.value)
        )
        reply = await self._message()
        self._answered(reply.request_id)
        if isinstance(reply, ImageResponse):
            raise Unreadable("the recorder answers connect with a picture")
        return reply

    async def _keep_fresh(self) -> None:
        token = await self._tokens()
        if token.value != self._token.value:
            self._token = token
            await self._update()

    async def _update(self) -> None:
        number = self._ask(Move.UPDATE)
        subject = self._subject
        await self._connection.send(
            imagecalls.connect_update(number, subject.camera, subject.stream, self._token.value)
        )

    async def _message(self) -> ImageResponse | Reply:
        """Whatever answers a call; other documents are passed over."""
        for _ in range(_MOST_STRAYS):
            message = await self._connection.receive()
            if isinstance(message, ImageResponse):
                return message
            reply = imagecalls.reply_of(message.data, self._token.value)
            if reply is not None:
                return reply
        raise Unreadable(f"the recorder sends {_MOST_STRAYS} documents and no answer")

    def _ask(self, move: Move) -> int:
        self._number += 1
        self._asked.append(_Asked(self._number, move))
        return self._number

    def _answered(self, number: int | None) -> _Asked:
        """Answers come in the order of the calls."""
        if not self._asked:
            raise Unreadable("the recorder answers what was not asked")
        asked = self._asked.popleft()
        if number is not None and number != asked.number:
            raise Unreadable(f"the recorder answers request {number} in place of {asked.number}")
        return asked


def _refusal(subject: Subject, reply: Reply) -> BackendError:
    """A fresh token that is refused is more often the camera's matter: disabled, unknown, not allowed."""
    reason = reply.reason or "without a reason"
    text = f"the recorder lets nobody read camera {subject.camera}: {reason}"
    return TokenRefused(text) if "token" in reason.lower() else ObjectRejected(text)
