"""Memory that is free, and a number of bytes in words."""

import math
import os
from pathlib import Path

__all__ = ["of_host", "words_of"]


def of_host() -> float:
    """Bytes of memory that the system, or its limits, leave."""
    return min(_of_system(), *_of_groups(), _of_process())


def _of_system() -> float:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, ValueError, StopIteration):
        pass
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return math.inf


def _of_groups() -> list[float]:
    """What limits of control groups leave, as containers have them; the files are empty of numbers where there is none."""
    left = [math.inf]
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            numbers = [int((Path("/sys/fs/cgroup") / name).read_text()) for name in (limit, used)]
        except (OSError, ValueError):
            continue
        left.append(numbers[0] - numbers[1])
    return left


def _of_process() -> float:
    try:
        import resource
    except ImportError:  # Windows
        return math.inf
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return math.inf
    try:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        used = 0
    return float(max(limit - used, 0))


def words_of(number: float) -> str:
    """A number of bytes, such as "1.2 GB"."""
    number = min(number, 1e21)
    for unit, name in ((1e15, "PB"), (1e12, "TB"), (1e9, "GB")):
        if number >= unit:
            return f"{number / unit:,.3g} {name}"
    return f"{number / 1e6:.3g} MB"
