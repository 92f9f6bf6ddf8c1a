"""What becomes of memory that XLA frees on a CPU, with glibc's allocator (malloc/malloc.c).

A program asks for its temporary buffers anew whenever it runs. Mapped and unmapped each time, every
page of them is cleared by the kernel again. A heap keeps them, but that of a thread ends at 64 MiB:
where a step needs more, all threads have to share the first, for a quarter of a small model's step.
The next step asks before the last one has given back, and an aligned buffer does not fit the hole
that one like it left: that heap comes to hold three or four times the largest. Where this is too
much, training goes back to mapping.
"""

import ctypes
import functools
import os
import sys
from pathlib import Path

ARENA_MAX, MMAP_MAX, MMAP_THRESHOLD, TRIM_THRESHOLD = -8, -4, -3, -1  # malloc.h
SHARE = 1 / 4  # of all memory: a process that holds more keeps nothing
sharing = False


def set_option(option: int, value: int) -> bool:
    """Whether the C library has such options and took this one."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        return bool(ctypes.CDLL(None).mallopt(option, value))
    except (OSError, AttributeError):  # another C library
        return False


def keep_freed_memory() -> None:
    """Has every thread's heap keep what it can, for any command."""
    set_option(MMAP_MAX, 0)
    set_option(TRIM_THRESHOLD, 2**31 - 1)


def share_one_heap() -> None:
    """Has all threads share a heap that never shrinks. Call it before XLA has started its own."""
    global sharing
    sharing = set_option(ARENA_MAX, 1) and set_option(TRIM_THRESHOLD, -1)


def map_large_buffers() -> None:
    """Gives the freed memory back; from now on buffers of 32 MiB and more are mapped."""
    global sharing
    if sharing:
        sharing = False
        set_option(MMAP_MAX, 65536)
        set_option(MMAP_THRESHOLD, 2**25)
        set_option(TRIM_THRESHOLD, 2**25)  # for what is still in use
        ctypes.CDLL(None).malloc_trim(0)


def map_where_memory_is_short() -> None:
    """Ends the sharing when this process holds more than its `SHARE` of the memory."""
    if sharing and resident() > SHARE * available():
        map_large_buffers()


def resident() -> int:
    """Bytes of physical memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@functools.cache
def available() -> int:
    """Bytes of physical memory of this machine, or of the container that it is."""
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return whole
    return min(whole, int(limit)) if limit.isdigit() else whole
