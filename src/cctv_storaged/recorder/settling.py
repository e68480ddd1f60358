"""Telling a closed file from an open one by watching it stand still, where the kernel does not say."""

from threading import Lock

from cctv_storaged.model import FileIdentity

QUIET_S = 60.0
"""Recorders that buffer may write nothing for many seconds; a minute of silence is taken for the end."""


class Settling:
    """When each undecided file was last seen to change. All times are monotonic seconds. For any thread."""

    def __init__(self, quiet_s: float = QUIET_S) -> None:
        self._quiet_s = quiet_s
        self._lock = Lock()
        self._seen: dict[str, tuple[FileIdentity, float]] = {}

    def quiet(self, path: str, identity: FileIdentity, now: float) -> bool:
        """Whether the file has stood still long enough to be taken for closed."""
        with self._lock:
            last = self._seen.get(path)
            if last is None or last[0] != identity:
                self._seen[path] = (identity, now)
                return False
            if now - last[1] < self._quiet_s:
                return False
            del self._seen[path]
            return True

    def note(self, path: str, identity: FileIdentity, now: float, *, settled: bool = False) -> None:
        """The file was seen and could not be read: once it can, its silence until then counts.

        `settled`: it had stood still long enough when it was looked at.
        """
        with self._lock:
            last = self._seen.get(path)
            if last is None or last[0] != identity:
                self._seen[path] = (identity, now - self._quiet_s if settled else now)

    def forget_older_than(self, moment: float) -> None:
        """Files that vanished before they settled would stay here for ever."""
        with self._lock:
            self._seen = {path: entry for path, entry in self._seen.items() if entry[1] >= moment}
