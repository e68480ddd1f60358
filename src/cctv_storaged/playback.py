"""A span's footage as a playlist: rows from the journal, an address for every segment, text."""

import asyncio
import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import timedelta
from operator import itemgetter
from typing import Protocol
from uuid import UUID

from cctv_storaged.backends.base import Presigning
from cctv_storaged.clock import to_us
from cctv_storaged.errors import BackendError
from cctv_storaged.journal.journal import Journal
from cctv_storaged.journal.playback import PlaybackRow
from cctv_storaged.media.playlist import chosen, remuxed, written
from cctv_storaged.model import TimeSpan
from cctv_storaged.nearest import told

log = logging.getLogger(__name__)

AT_ONCE = 2
"""Playlists made at the same time; a day's rows and text take 10 MB."""
LONGEST_LIFE = timedelta(hours=12)
LOOKING_ROUND = timedelta(hours=1)
_SIGNED_IN_ONE_GO = 100
"""Then others get their turn: a signature takes tens of microseconds, a day has thousands."""


class Signing(Presigning, Protocol):
    """A backend that players can be sent to."""

    @property
    def name(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Playlist:
    """A playlist's text (UTF-8) and the text's SHA-256 in hex.

    `signed`: it holds URLs that open segments to whoever has them, for a while.
    """

    text: bytes
    tag: str
    signed: bool


class Playlists:
    """Makes playlists."""

    def __init__(
        self,
        journal: Journal,
        store: Signing | None,
        apart: str | None = None,
        shows: Callable[[UUID], TimeSpan | None] = lambda segment_id: None,
    ) -> None:
        """`store`: where players fetch what has a verified copy there; None: everything from the API.

        `apart`: the backend whose footage comes in another stream than the recorder's (`Reader.apart`).
        `shows`: from when to when such a segment shows, where it is known (`Reader.shows_apart`).
        """
        self._shows = shows
        self._journal = journal
        self._apart = apart
        self._store = store
        self._places = asyncio.Semaphore(AT_ONCE)

    async def of(self, camera_id: UUID, span: TimeSpan) -> Playlist | None:
        """The playlist of a camera's footage in a span; segments of the API by addresses relative to it.

        None where there is none.
        """
        async with self._places:
            rows = await self._journal.playback.rows(camera_id, span)
            if not rows:
                return None
            apart = await self._apart_of(camera_id, span)
            signed = await self._signed(camera_id, span)
            return await asyncio.to_thread(_made, rows, self._shown(apart), signed, to_us(span.start))

    async def nearest(self, camera_id: UUID, span: TimeSpan) -> str:
        """Where footage is, said of a span that has none."""
        nearby = await self._journal.playback.nearby(camera_id, span)
        return f"camera {camera_id} has no footage in {told(span, nearby)}"

    async def _apart_of(self, camera_id: UUID, span: TimeSpan) -> frozenset[bytes]:
        """Segments that are read back."""
        if self._apart is None:
            return frozenset()
        return await self._journal.playback.apart(camera_id, span, self._apart)

    def _shown(self, apart: Set[bytes]) -> dict[bytes, tuple[int, int] | None]:
        """From when to when each shows; None where nobody knows yet."""
        spans = {id_: self._shows(UUID(bytes=id_)) for id_ in apart}
        return {
            id_: None if span is None else (to_us(span.start), to_us(span.end)) for id_, span in spans.items()
        }

    async def _signed(self, camera_id: UUID, span: TimeSpan) -> dict[bytes, str]:
        """URLs of the segments that have a copy at the store, by id."""
        if self._store is None:
            return {}
        urls: dict[bytes, str] = {}
        life_s = int(lifetime(span).total_seconds())
        paths = await self._journal.playback.paths(camera_id, span, self._store.name)
        try:
            for id_, path in paths.items():
                urls[id_] = await self._store.presign(path, life_s)
                if len(urls) % _SIGNED_IN_ONE_GO == 0:
                    await asyncio.sleep(0)
        except BackendError as exc:
            log.warning("URLs cannot be signed, players are sent to this API: %s", exc)
            return {}
        return urls


def lifetime(span: TimeSpan) -> timedelta:
    """How long a playlist's signed URLs work: as long as it plays, and a while to look round in it."""
    return min(span.duration + LOOKING_ROUND, LONGEST_LIFE)


def _made(
    rows: Sequence[PlaybackRow],
    apart: Mapping[bytes, tuple[int, int] | None],
    signed: Mapping[bytes, str],
    from_us: int,
) -> Playlist:
    if apart:
        rows = [remuxed(row, apart[row[-1]]) if row[-1] in apart else row for row in rows]
        rows.sort(key=itemgetter(0))
    pieces = chosen(rows)
    text = written(pieces, signed, from_us).encode()
    is_signed = bool(signed) and any(piece[-1] in signed for piece in pieces)
    return Playlist(text, hashlib.sha256(text).hexdigest(), is_signed)
