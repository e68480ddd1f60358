"""Real parts for the tests, started when first asked for; see tests/services."""

import logging
import signal
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis.internal.conjecture import providers

# Of the leases of recorder/source.py. By a handler, as what is ignored the daemons of tests would inherit.
signal.signal(signal.SIGIO, lambda *_: None)

pytest_plugins = ["tests.daemon", "tests.services.postgres", "tests.services.seaweed"]


@pytest.fixture
def socket_path() -> Iterator[Path]:
    """Where to bind a socket: an address has 107 bytes at most (unix(7)), which `tmp_path` may exceed."""
    with tempfile.TemporaryDirectory(prefix="s-", dir="/tmp") as folder:
        yield Path(folder) / "s"


@pytest.fixture(autouse=True)
def root_logger_as_before() -> Iterator[None]:
    """A command that is run within the process has its own level and handler: no later test shall."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


hypothesis.settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """How long an example takes says how busy the machine is. Where the same ones are to be drawn each time,
    they must not hang on which modules a worker has loaded by then, whose constants are drawn as well.
    """
    if config.getoption("--hypothesis-profile") is None and not hypothesis.settings().derandomize:
        hypothesis.settings.load_profile("unhurried")
    if hypothesis.settings().derandomize:
        none = providers._local_constants
        pytest.MonkeyPatch().setattr(providers, "_get_local_constants", lambda: none)


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Reports hold what tests have logged; file names of any bytes in there would end the whole run."""
    return _encodable((yield))


def _encodable(value: Any) -> Any:
    match value:
        case str():
            return value.encode(errors="backslashreplace").decode()
        case dict():
            return {key: _encodable(inner) for key, inner in value.items()}
        case list() | tuple():
            return type(value)(map(_encodable, value))
        case _:
            return value
