"""What the kernel knows of the clocks: how long since the boot, which boot, how good the wall clock is."""

import ctypes
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from cctv_storaged.clock import Clock

SYNCHRONIZED_FILE = Path("/run/systemd/timesync/synchronized")
"""systemd-timesyncd makes it once the clock was set from the network (systemd-timesyncd.service(8))."""
_BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")
_STA_UNSYNC, _STA_NANO = 0x0040, 0x2000
_TIME_ERROR = 5


class _Timex(ctypes.Structure):
    """`struct timex` of adjtimex(2)."""

    _fields_: ClassVar = [
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("more", ctypes.c_char * 512),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelClock:
    """What the kernel knows of the clock's discipline."""

    synchronized: bool
    offset_us: int
    max_error_us: int


def kernel_clock() -> KernelClock | None:
    """adjtimex(2) with no mode, which only reads; None where that is not allowed (the unit allows it)."""
    state = _Timex()
    try:
        answer = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(state))
    except (AttributeError, OSError):  # a C library without it
        return None
    if answer < 0:
        return None
    return KernelClock(
        synchronized=answer != _TIME_ERROR and not state.status & _STA_UNSYNC,
        offset_us=state.offset // 1000 if state.status & _STA_NANO else state.offset,
        max_error_us=state.maxerror,
    )


class BootClock(Protocol):
    """What the wall clock is held against."""

    @property
    def boot_id(self) -> str:
        """The same as long as `boot_s` goes on."""

    def boot_s(self) -> float:
        """Seconds since the boot, those asleep included."""

    def synchronized(self) -> bool | None:
        """Whether the wall clock follows a better one; None: nobody tells."""


class HostBootClock:
    """The kernel's."""

    def __init__(self) -> None:
        self.boot_id = _BOOT_ID_FILE.read_text(encoding="ascii").strip()

    def boot_s(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)  # CLOCK_MONOTONIC stands still while the host sleeps

    def synchronized(self) -> bool | None:
        kernel = kernel_clock()
        if kernel is not None:
            return kernel.synchronized
        return True if SYNCHRONIZED_FILE.exists() else None  # another program may set the clock


class FollowingBootClock:
    """The monotonic one of any clock: for those that are not the host's."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.boot_id = str(uuid.uuid4())

    def boot_s(self) -> float:
        return self._clock.monotonic()

    def synchronized(self) -> bool | None:
        return None
