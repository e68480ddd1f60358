"""The request that is being worked on: every line of the log that is written for it names it."""

import logging
from contextvars import ContextVar

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
"""Set by the API for as long as it works on a request; threads and tasks begun for it inherit it."""


def name_request(record: logging.LogRecord) -> bool:
    """A filter that lets everything through, and adds what the line's author did not know."""
    request_id = REQUEST_ID.get()
    if request_id is not None and not hasattr(record, "request_id"):
        record.request_id = request_id
    return True
