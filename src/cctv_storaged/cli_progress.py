"""How far a long command is: a bar on a terminal, and nothing at all on a pipe or in a file."""

import os
import sys
from typing import NoReturn, Self, TypedDict

from tqdm import tqdm

tqdm.monitor_interval = 0  # no thread of its own: it redraws with each call, or not
SHOWN_S = 0.2


class Progress:
    """One bar on stderr, drawn from the first call on. Calls cost nothing where no terminal is."""

    def __init__(self, what: str, *, unit: str) -> None:
        """`unit`: of what is counted, such as B; by thousands, with k, M, G in front."""
        self._what = what
        self._unit = unit
        self._wanted = sys.stderr.isatty()
        self._bar: tqdm[NoReturn] | None = None

    def at(self, done: int, total: int | None = None, what: str | None = None) -> None:
        """So much is done; of so much, where that is known; and what is being done, where that changes."""
        if not self._wanted:
            return
        if self._bar is None:
            self._bar = tqdm(
                desc=what or self._what,
                total=total,
                unit=self._unit,
                unit_scale=True,
                file=sys.stderr,
                leave=False,
                **_shape(),
                mininterval=SHOWN_S,
            )
        if what is not None:
            self._bar.set_description_str(what, refresh=False)
        self._bar.total = total
        self._bar.update(done - self._bar.n)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Takes it away: what is said afterwards stands where it was."""
        if self._bar is not None:
            self._bar.close()


class _Shape(TypedDict, total=False):
    """How wide the bar is, as tqdm takes it."""

    dynamic_ncols: bool
    ncols: int
    nrows: int


def _shape() -> _Shape:
    """As the terminal is, at every moment; serial consoles tell nothing of theirs."""
    try:
        told = os.get_terminal_size(sys.stderr.fileno()).columns > 0
    except OSError:
        told = False
    return _Shape(dynamic_ncols=True) if told else _Shape(ncols=79, nrows=24)
