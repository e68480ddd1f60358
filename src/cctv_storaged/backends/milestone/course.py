"""Which of the recorder's answers belong to a span, where to go on, and when it is over. Decisions, no I/O.

A group of pictures belongs to a span when one of its pictures was taken in it or after its start: pictures
say when they were taken. Where a group ends is not told: `Next` is the far side of a gap where one follows,
and how long a last picture stands is nowhere. What `goto` answers for a time in a gap, the last group before
it, is thereby passed over, and footage is taken to be there for no longer than it has pictures.

An answer without a body means an empty database where it says so, or its end where the recorder stands there.
Any other is a fault: a reading that ended with it would be short, and nobody would know.
"""

from cctv_storaged.backends.milestone.answers import TokenRefused, Unreadable
from cctv_storaged.backends.milestone.base import Gop, Picture
from cctv_storaged.backends.milestone.genericbytes import pictures_of
from cctv_storaged.backends.milestone.imageconnection import ConnectionEnded
from cctv_storaged.backends.milestone.imagesession import Move
from cctv_storaged.backends.milestone.imagewire import AnswerTooLarge, ImageResponse
from cctv_storaged.clock import to_us
from cctv_storaged.errors import ObjectRejected, Unsupported
from cctv_storaged.model import TimeSpan

MOST_PASSED_OVER = 64
"""Groups that are not given, before one that is: `goto` may answer one, a resumed read a few."""
MOST_PICTURES = 4096
"""In one group: minutes between key pictures."""


class WithoutPictures(Unreadable):
    """An answer without pictures where there must be some: asked for anew, it may have them."""


Interruption = TokenRefused | ConnectionEnded | WithoutPictures
"""What a reading goes on after, once until something new comes."""


class Course:
    """One reading of one span, over one or more connections."""

    def __init__(self, span: TimeSpan) -> None:
        self._start_ms = to_us(span.start) // 1000
        self._end_ms = -(-to_us(span.end) // 1000)
        self._given_ms: int | None = None  # of the last group that was looked at as new
        self._stood_ms: int | None = None  # where the recorder stands
        self._passed_over = 0
        self._stumbled = False
        self.wants_begin = False
        """`goto` answered nothing: it may have asked for a time before the first footage."""
        self.over = False

    @property
    def resume_ms(self) -> int:
        """For `goto`."""
        return self._start_ms if self._given_ms is None else self._given_ms

    def take(self, move: Move, response: ImageResponse) -> Gop | None:
        """What an answer has for the reader. Unreadable, Unsupported or ObjectRejected where it is unfit."""
        self.wants_begin = False
        if not response.bodies:
            self._take_nothing(move, response)
            return None
        if self._is_end(move, response.current_ms):
            self.over = True
            return None
        self._stood_ms = response.current_ms
        if self._given_ms is not None and response.current_ms <= self._given_ms:
            self._pass_over()
            return None
        gop = gop_of(response)
        self._given_ms, self._stumbled = response.current_ms, False
        self.over = response.next_ms == response.current_ms
        if max(picture.time_ms for picture in gop.pictures) < self._start_ms:
            self._pass_over()
            return None
        self._passed_over = 0
        return gop

    def stumble(self, exc: Interruption) -> None:
        """The connection met an end or a refusal: raises it where nothing came since the one before, or it
        cut an answer; else `resume_ms` says where to go on."""
        if self._stumbled or (isinstance(exc, ConnectionEnded) and not exc.at_rest):
            raise exc
        self._stumbled = True

    def _take_nothing(self, move: Move, response: ImageResponse) -> None:
        """WithoutPictures where there should be some."""
        current_ms, next_ms = response.current_ms, response.next_ms
        if move is Move.GOTO and current_ms == 0:
            self.wants_begin = True
        elif move is Move.BEGIN and current_ms == 0 and self._given_ms is None:
            self.over = True  # an empty database
        elif move is Move.NEXT and current_ms == self._stood_ms and (next_ms or 0) <= current_ms:
            self.over = True  # its end, told without repeating the last group
        else:
            raise WithoutPictures(f"the recorder answers {move} with no pictures at {current_ms} ms")

    def _is_end(self, move: Move, current_ms: int) -> bool:
        """At the end of the database `next` repeats the last group."""
        if move is Move.NEXT and self._stood_ms is not None and current_ms < self._stood_ms:
            raise Unreadable(f"the recorder goes back from {self._stood_ms} to {current_ms} ms when asked on")
        return current_ms >= self._end_ms or (move is Move.NEXT and current_ms == self._stood_ms)

    def _pass_over(self) -> None:
        self._passed_over += 1
        if self._passed_over > MOST_PASSED_OVER:
            raise Unreadable("the recorder does not come to the time that was asked for")


def gop_of(response: ImageResponse) -> Gop:
    """The pictures of an answer that has a body."""
    if response.is_jpeg:
        raise Unsupported("the recorder sends JPEG where pictures as recorded were asked for")
    pictures: list[Picture] = []
    for body in response.bodies:
        for picture in pictures_of(body):
            if len(pictures) == MOST_PICTURES:
                raise AnswerTooLarge(f"a group of more than {MOST_PICTURES} pictures")
            pictures.append(picture)
    current_ms = response.current_ms
    if not pictures:
        raise WithoutPictures(f"the recorder sends a group at {current_ms} ms that has no bytes")
    if not pictures[0].key:
        raise ObjectRejected(f"the group of pictures at {current_ms} ms does not begin with a key picture")
    return Gop(
        previous_ms=current_ms if response.previous_ms is None else response.previous_ms,
        current_ms=current_ms,
        next_ms=current_ms if response.next_ms is None else response.next_ms,
        pictures=tuple(pictures),
    )
