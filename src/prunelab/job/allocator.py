"""What the C library does with memory that torch frees."""

import ctypes
import os
import sys

TRIM, MMAP = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of mallopt(3)
LARGEST = 32 << 20  # bytes of a block: the largest MMAP that glibc takes
VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
KEPT = 1 << 30  # bytes that are free at the end of the heap


def keep_freed_memory() -> None:
    """Has glibc keep what is freed, unless the environment says how it allocates; other C libraries are left alone.

    By default it gives the free end of the heap back to the system, over and over in a step of training, and the pages
    are faulted in anew, which takes up to an eighth of an epoch on a CPU (docs/performance.md).
    """
    if sys.platform == "linux" and not {*VARIABLES} & os.environ.keys():
        if set_option := getattr(ctypes.CDLL(None), "mallopt", None):
            set_option(MMAP, LARGEST)
            set_option(TRIM, KEPT)
