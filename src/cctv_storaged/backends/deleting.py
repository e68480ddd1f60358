"""Removing objects from a store for good: all versions of a key, and nothing that a lock keeps.

In a bucket that keeps versions a plain DELETE only puts a mark above what was there. Whether a bucket does is
asked for now and then, and shown by the answer to a plain DELETE: once it is known, each version is deleted
by its id. A version that a retention period or a legal hold keeps stays (ObjectLocked). Blocking.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence

from cctv_storaged.backends.storeclient import Doomed, Removal, StoreClient
from cctv_storaged.clock import Clock
from cctv_storaged.errors import BackendError, BackendUnavailable, ObjectLocked, ObjectMissing, ObjectRejected

AT_ONCE = 1000
"""Objects in one request (DeleteObjects, S3 API reference)."""
BELIEVED_S = 600.0
"""Versioning can be switched on at any time."""


class Deleter:
    """Deletes from one bucket; any number of threads."""

    def __init__(self, client: StoreClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._marks = False  # a plain DELETE was seen to leave a mark: it keeps versions, whatever it says
        self._versioned = False
        self._asked_s: float | None = None
        self._one_by_one = False  # the store does not know DeleteObjects

    def delete(self, key: str) -> None:
        """One that is not there is success. Raises BackendError."""
        for failure in self._deleted([key], self._plainly).values():
            raise failure

    def delete_many(self, keys: Sequence[str]) -> Mapping[str, BackendError]:
        """What is not gone, and why. Raises BackendUnavailable where the store cannot be asked at all."""
        return self._deleted(keys, self._together)

    def _deleted(
        self, keys: Sequence[str], remove: Callable[[Sequence[Doomed]], Removal]
    ) -> dict[str, BackendError]:
        if self._keeps_versions():
            return self._all_versions(keys)
        removal = self._in_slices([Doomed(key=key) for key in keys], remove)
        failures = {each.key: error for each, error in removal.failures.items()}
        if removal.marked:
            self._marks = True
            failures |= self._all_versions(sorted(removal.marked))
        return failures

    def _all_versions(self, keys: Sequence[str]) -> dict[str, BackendError]:
        doomed = [version for some in _neighbours(keys) for version in self._versions_of(some)]
        failures: dict[str, BackendError] = {}
        for version, error in self._in_slices(doomed, self._together).failures.items():
            if isinstance(error, ObjectMissing):
                continue  # somebody else was faster
            known = failures.get(version.key)
            if not isinstance(known, ObjectLocked):
                failures[version.key] = self._told_as_lock(version, error)
        return failures

    def _versions_of(self, keys: frozenset[str]) -> Iterator[Doomed]:
        prefix = os.path.commonprefix(sorted(keys))  # noqa: RUF071 — keys are strings
        return (each for each in self._client.every_version(prefix) if each.key in keys)

    def _told_as_lock(self, version: Doomed, error: BackendError) -> BackendError:
        """Stores say 403 or 400 of a lock as of a missing right: the object itself tells which."""
        if isinstance(error, BackendUnavailable) and error.reason not in ("auth", "server"):
            return error
        try:
            locked = self._client.is_locked(version)
        except BackendError:
            return error
        return ObjectLocked(f"a lock of the store keeps it: {error}") if locked else error

    def _in_slices(self, doomed: Sequence[Doomed], remove: Callable[[Sequence[Doomed]], Removal]) -> Removal:
        failures: dict[Doomed, BackendError] = {}
        marked: set[str] = set()
        for first in range(0, len(doomed), AT_ONCE):
            removal = remove(doomed[first : first + AT_ONCE])
            failures.update(removal.failures)
            marked |= removal.marked
        return Removal(failures=failures, marked=frozenset(marked))

    def _together(self, doomed: Sequence[Doomed]) -> Removal:
        if not self._one_by_one:
            try:
                return self._client.delete_many(doomed)
            except ObjectRejected:  # a store of fewer words; or of this request alone
                self._one_by_one = True
        return self._plainly(doomed)

    def _plainly(self, doomed: Sequence[Doomed]) -> Removal:
        failures: dict[Doomed, BackendError] = {}
        marked: set[str] = set()
        for each in doomed:
            try:
                if self._client.delete(each.key, each.version) and each.version is None:
                    marked.add(each.key)
            except BackendUnavailable as exc:
                if exc.reason != "auth":
                    raise
                failures[each] = exc
            except BackendError as exc:
                failures[each] = exc
        return Removal(failures=failures, marked=frozenset(marked))

    def _keeps_versions(self) -> bool:
        if self._marks:
            return True
        now_s = self._clock.monotonic()
        if self._asked_s is None or now_s - self._asked_s > BELIEVED_S:
            self._versioned = self._client.keeps_versions()
            self._asked_s = now_s
        return self._versioned


def _neighbours(keys: Sequence[str]) -> Iterator[frozenset[str]]:
    """The keys by folder: those of one folder are found by one listing."""
    folders: dict[str, set[str]] = {}
    for key in keys:
        folders.setdefault(key.rpartition("/")[0], set()).add(key)
    return map(frozenset, folders.values())
