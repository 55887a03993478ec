"""The size to which images are brought, and whether they then fit into memory."""

from __future__ import annotations

import os

LARGEST = 4096  # pixels of a side


def check_size(size: object) -> None:
    """Raises ValueError for anything but a number of pixels, or None."""
    if size is not None and (type(size) is not int or not 1 <= size <= LARGEST):
        raise ValueError(f"data.size={size}: expected a number of pixels from 1 to {LARGEST}, or null")


def require_memory(images: int, size: int) -> None:
    """Raises ValueError where this many RGB images cannot be decoded, with what they need and what there is."""
    need, have = 2 * 3 * images * size * size, memory()  # the images, and the file that is made of them
    if need > have:
        raise ValueError(
            f"data.size={size}: {images:,} x 3 x {size} x {size} bytes of images are {need / 2e9:.1f} GB, twice that "
            f"while they are cached, and this machine has {have / 1e9:.1f} GB: lower data.size, or take fewer images"
        )


def memory() -> int:
    """Bytes of memory in this machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
