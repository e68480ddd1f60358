"""Recorder roots: asked, by whoever is about to believe or remove something there, whether it is the disk."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cctv_storaged.errors import AnothersDisk, WrongDisk
from cctv_storaged.guarding.identity import NOBODYS, WEAK, Standing, judged
from cctv_storaged.guarding.marks import found_in, own_identity

_OPEN = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class Roots:
    """Says by each root's identity whether it is right. From any thread; blocking."""

    def __init__(
        self, identity_of: Callable[[str], str | None], whose: Callable[[str], str | None] = lambda _: None
    ) -> None:
        """`identity_of` tells which identity a root was known with; None: it is not guarded.

        `whose` tells which place of this host is known by an identity.
        """
        self._identity_of = identity_of
        self._whose = whose

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
            self._require_right(root, descriptor, known)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)

    def doubt(self, root: str) -> str | None:
        """Why neither what is there nor what is not may be believed; None while it may."""
        wrong = self.wrong(root)
        return None if wrong is None else str(wrong)

    def wrong(self, root: str) -> WrongDisk | None:
        """As `doubt`, and by its class whether what is there is another place's."""
        try:
            with self.opened(root):
                return None
        except WrongDisk as exc:
            return exc

    def _require_right(self, root: str, descriptor: int, known: str) -> None:
        """Raises WrongDisk."""
        try:
            if known.startswith(WEAK):
                found, weak = None, own_identity(root, descriptor)
            else:
                found, weak = found_in(descriptor), None
        except OSError as exc:
            raise WrongDisk(f"the root {root} cannot be looked at: {exc.strerror}") from exc
        standing = judged(known, found, weak)
        if standing is Standing.RIGHT:
            return
        told = f"the root {root} is not the one that the journal knows ({standing})"
        whose = self._whose(found or weak or "")
        if whose is not None or (found is not None and not found.startswith(NOBODYS)):
            raise AnothersDisk(f"{told}: it has the identity of {whose or 'another place'}")
        raise WrongDisk(told)


UNGUARDED = Roots(lambda root: None)
"""Every root is taken as it is: where nothing is known of identities."""
