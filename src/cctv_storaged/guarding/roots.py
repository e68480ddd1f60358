"""Recorder roots: asked, by whoever is about to believe or remove something there, whether it is the disk."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cctv_storaged.errors import WrongDisk
from cctv_storaged.guarding.identity import WEAK, Standing, judged
from cctv_storaged.guarding.marks import found_in, own_identity

_OPEN = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class Roots:
    """Says by each root's identity whether it is right. From any thread; blocking."""

    def __init__(self, identity_of: Callable[[str], str | None]) -> None:
        """`identity_of` tells which identity a root was known with; None: it is not guarded."""
        self._identity_of = identity_of

    @contextmanager
    def opened(self, root: str) -> Iterator[str]:
        """A path to the root that leads to this very mount while the block lasts. Raises WrongDisk."""
        known = self._identity_of(root)
        if known is None:
            yield root
            return
        try:
            descriptor = os.open(root, _OPEN)
        except OSError as exc:
            raise WrongDisk(f"the root {root} cannot be looked at: {exc.strerror}") from exc
        try:
            standing = _standing(root, descriptor, known)
            if standing is not Standing.RIGHT:
                raise WrongDisk(f"the root {root} is not the one that the journal knows ({standing})")
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)

    def doubt(self, root: str) -> str | None:
        """Why neither what is there nor what is not may be believed; None while it may."""
        try:
            with self.opened(root):
                return None
        except WrongDisk as exc:
            return str(exc)


UNGUARDED = Roots(lambda root: None)
"""Every root is taken as it is: where nothing is known of identities."""


def _standing(root: str, descriptor: int, known: str) -> Standing:
    try:
        if known.startswith(WEAK):
            return judged(known, None, own_identity(root, descriptor))
        return judged(known, found_in(descriptor), None)
    except OSError:
        return Standing.AWAY
