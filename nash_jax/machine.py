"""Cores and memory that this process may use, within the limits of its container."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import pathlib
import platform
import sys
import time
from collections.abc import Iterator

_CGROUPS, _MEMBERSHIP = pathlib.Path("/sys/fs/cgroup"), pathlib.Path("/proc/self/cgroup")


#: For systems that do not say when a process began.
_IMPORTED = time.monotonic()


def seconds_since_start() -> float:
    """Seconds since this process began, of a clock that is never set; its first imports count."""
    if sys.platform == "linux":
        after_name = pathlib.Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        began = int(after_name[19]) / os.sysconf("SC_CLK_TCK")  # field 22, see proc(5)
        return time.clock_gettime(time.CLOCK_BOOTTIME) - began
    return time.monotonic() - _IMPORTED


def keep_freed_memory() -> bool:
    """Have the C library keep the memory that is freed, where it is glibc; whether it does.

    Otherwise the temporaries of every update are given back to the system, which makes their pages
    anew for the next: a tenth of the time of an update of a network that is not small.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD, see mallopt(3)
    return all(mallopt(which, 2**31 - 1) == 1 for which in (trim_threshold, mmap_threshold))


def cpu_model() -> str:
    """What the processor is called."""
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def num_schedulable() -> int:
    """Cores of this process's affinity, whatever its quota is: so many threads XLA has."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def num_cores() -> int:
    """Cores that this process may use: of its affinity, and of its control group's quota."""
    cores = num_schedulable()
    quotas = [_quota(text) for text in _limits("cpu", "cpu.max")]
    quotas += [
        _quota(f"{quota} {period}")
        for quota, period in zip(
            _limits("cpu", "cpu.cfs_quota_us"), _limits("cpu", "cpu.cfs_period_us")
        )
    ]
    return min([cores, *quotas])


def memory_bytes() -> int:
    """Bytes of memory that this process may use: the machine's, or its control group's limit."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    texts = [*_limits("memory", "memory.max"), *_limits("memory", "memory.limit_in_bytes")]
    return min([physical, *(int(text) for text in texts if text.isdecimal())])


def _quota(text: str) -> int:
    """Cores of `QUOTA PERIOD`, in microseconds; without a limit the quota is `max` or -1."""
    words = text.split()
    if len(words) != 2 or not all(word.isdecimal() and int(word) for word in words):
        return sys.maxsize
    return math.ceil(int(words[0]) / int(words[1]))


def _limits(controller: str, name: str) -> Iterator[str]:
    """What a file says in the control group of this process and in those around it.

    A container sees its own group as the root. Version 1 has a tree for each controller.
    """
    roots = {_CGROUPS: "", _CGROUPS / controller: ""}
    with contextlib.suppress(OSError):
        for line in _MEMBERSHIP.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                roots[_CGROUPS] = path
            elif controller in controllers.split(","):
                roots[_CGROUPS / controller] = path
    for root, path in roots.items():
        group = root / path.strip("/")
        while True:
            with contextlib.suppress(OSError):
                yield (group / name).read_text().strip()
            if group == root:
                break
            group = group.parent


def num_mappings() -> int:
    """Parts of memory that this process has mapped, on Linux."""
    with pathlib.Path("/proc/self/maps").open("rb") as maps:
        return sum(1 for _ in maps)


def most_mappings() -> int | None:
    """How many a process may have; None where nothing is known of a limit."""
    path = pathlib.Path("/proc/sys/vm/max_map_count")
    return int(path.read_text()) if path.exists() else None
