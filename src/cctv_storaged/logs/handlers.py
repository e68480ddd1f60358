"""Where rendered records go: a text stream, or the journal through systemd-python's `sendv`."""

import logging
from collections.abc import Callable
from typing import TextIO

from cctv_storaged.logs.lines import Line, as_journal, rendered
from cctv_storaged.logs.redaction import Redactor


class LineFormatter(logging.Formatter):
    """Renders a record and gives it a shape."""

    def __init__(self, redact: Redactor, shape: Callable[[Line], str]) -> None:
        super().__init__()
        self._redact = redact
        self._shape = shape

    def format(self, record: logging.LogRecord) -> str:
        return self._shape(rendered(record, self._redact))


class StreamLines(logging.StreamHandler[TextIO]):
    """Lines on a text stream."""

    def __init__(self, stream: TextIO, formatter: LineFormatter) -> None:
        super().__init__(stream)
        self.setFormatter(formatter)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """A log that cannot be written must not stop the archive, and there is nowhere left to say so."""


class JournalHandler(logging.Handler):
    """Sends records to the journal with their fields.

    Not systemd-python's handler of that name: that one sends every attribute of a record, arguments
    included, before anybody could star them.
    """

    def __init__(self, redact: Redactor, send: Callable[..., object]) -> None:
        super().__init__()
        self._redact = redact
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._send(*as_journal(rendered(record, self._redact)))
        except OSError:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """As on a stream: nowhere left to say so."""
