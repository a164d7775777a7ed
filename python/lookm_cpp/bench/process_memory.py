"""Memory of this process and of the machine, as the kernel reports it."""

from __future__ import annotations

import ctypes
import gc
import re
import sys
from pathlib import Path

MIB = 1 << 20
_PROC = Path("/proc/self")


def available_memory() -> int | None:
    """Bytes that are available on this machine, or ``None`` if the kernel does not say."""
    info = Path("/proc/meminfo")
    found = (
        re.search(r"^MemAvailable:\s*(\d+) kB$", info.read_text(), re.MULTILINE)
        if info.exists()
        else None
    )
    return int(found[1]) * 1024 if found else None


def give_back() -> None:
    """Make glibc return freed memory to the system, so that the next growth is visible."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def status_bytes(name: str) -> int:
    """``VmRSS`` or ``VmHWM`` of this process, or 0 if the kernel does not say."""
    path = _PROC / "status"
    found = (
        re.search(rf"^{name}:\s*(\d+) kB$", path.read_text(), re.MULTILINE)
        if path.exists()
        else None
    )
    return int(found[1]) * 1024 if found else 0


class PeakMemory:
    """Measures the highest resident memory of the process inside ``with``.

    ``peak`` is in bytes, ``None`` if the kernel does not say.
    """

    peak: int | None = None

    def __enter__(self) -> PeakMemory:
        try:
            # Linux: the peak starts again from what is resident now
            (_PROC / "clear_refs").write_text("5")
        except OSError:
            self.works = False
        else:  # some kernels accept the request and keep the old peak
            self.works = 0 < status_bytes("VmHWM") <= status_bytes("VmRSS") + MIB
        return self

    def __exit__(self, *_: object) -> None:
        if self.works:
            self.peak = status_bytes("VmHWM")
