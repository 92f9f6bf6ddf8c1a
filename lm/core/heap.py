"""What becomes of memory that XLA frees on a CPU, with glibc's allocator (malloc/malloc.c).

A program asks for its temporary buffers anew whenever it runs. Mapped and unmapped each time, every
page of them is cleared by the kernel again: a quarter of a small model's step. A heap keeps them,
but that of a thread ends at 64 MiB, so that all threads have to share the first. The next run asks
before the last one has given back, and an aligned buffer does not fit the hole that one like it
left: the heap comes to hold three or four times the largest. Where that is too much, buffers are
mapped again.
"""

import ctypes
import os
import sys
from pathlib import Path
from typing import Any

ARENA_MAX, MMAP_MAX, MMAP_THRESHOLD, TRIM_THRESHOLD = -8, -4, -3, -1  # malloc.h
SHARE = 1 / 4  # of all memory: a process that holds more keeps nothing
glibc: Any = None  # while freed memory is kept


def keep_freed_memory() -> None:
    """Has all threads share one heap, which never shrinks. Call it before they are started."""
    global glibc
    if not sys.platform.startswith("linux"):
        return
    try:
        glibc = ctypes.CDLL(None)
        glibc.mallopt(ARENA_MAX, 1)
        glibc.mallopt(MMAP_MAX, 0)
        glibc.mallopt(TRIM_THRESHOLD, -1)
    except (OSError, AttributeError):  # another C library
        glibc = None


def map_large_buffers() -> None:
    """Gives the freed memory back; from now on buffers of 32 MiB and more are mapped."""
    global glibc
    if glibc is not None:
        glibc.mallopt(MMAP_MAX, 65536)
        glibc.mallopt(MMAP_THRESHOLD, 2**25)
        glibc.malloc_trim(0)
        glibc = None


def map_where_memory_is_short() -> None:
    """Ends the keeping when this process holds more than its `SHARE` of the memory."""
    if glibc is not None and resident() > SHARE * available():
        map_large_buffers()


def resident() -> int:
    """Bytes of physical memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def available() -> int:
    """Bytes of physical memory of this machine, or of the container that it is."""
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return whole
    return min(whole, int(limit)) if limit.isdigit() else whole
