"""Tests of booted machines and of what is run in namespaces keep to one worker, one after the other."""

from pathlib import PurePosixPath

import pytest
from xdist.remote import Producer  # type: ignore[import-untyped]
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

MACHINES = frozenset({"test_package.py", "test_oci.py"})
"""They share the system bus and this host's cables; and each worker would make a Debian of its own."""


class OneMachine(LoadScopeScheduling):  # type: ignore[misc] # pytest-xdist has no types
    """Every other test goes where there is time for it.

    The marks of xdist's own `loadgroup` do not reach its scheduler: it writes them to items' `_nodeid`, which
    pytest 9.2 does not read any more.
    """

    def _split_scope(self, nodeid: str) -> str:
        return "machine" if PurePosixPath(nodeid.partition("::")[0]).name in MACHINES else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> OneMachine:
    return OneMachine(config, log)
