"""Decodes image files into one uint8 array."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

log = logging.getLogger(__name__)
SIZE = 32  # pixels of images that are not resized; the models are CIFAR models
CHUNK = 500  # files per task: enough to hide the pool's overhead, few enough for progress messages
# What a file may hold, whatever its name: Pillow would run Ghostscript on others.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM", "TIFF", "WEBP")
LOG_INTERVAL = 5.0  # seconds between progress messages


def decode_files(files: Sequence[tuple[str, int]], size: int | None = None) -> tuple[Tensor, Tensor]:
    """The images, uint8 (n, 3, size, size), and the labels, int64 (n,), of (path, label) pairs.

    The shorter side becomes `size`, and the middle is cut out; of None, images must have 32x32 pixels. Grey, palette
    and transparent images become RGB. Raises ValueError at the first unusable file.
    """
    x = np.empty((len(files), 3, size or SIZE, size or SIZE), dtype=np.uint8)

    def fill(start: int) -> int:
        for i, (path, _) in enumerate(files[start : start + CHUNK], start):
            x[i] = decode(path, size).transpose(2, 0, 1)
        return min(start + CHUNK, len(files))

    last = time.monotonic()
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for done in pool.map(fill, range(0, len(files), CHUNK)):
            if time.monotonic() - last > LOG_INTERVAL:
                last = time.monotonic()
                log.info("decoded %d of %d images (only once: they are cached)", done, len(files))
    return torch.from_numpy(x), torch.tensor([label for _, label in files])


def decode(path: str, size: int | None) -> np.ndarray:
    """uint8 (size, size, 3), of the first frame, without the rotation that EXIF asks for: as torchvision does."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
            limit = Image.MAX_IMAGE_PIXELS
            if limit and width * height > limit:  # Pillow itself refuses twice as many
                raise ValueError(f"{width}x{height} pixels are above the limit of {limit:,}")
            pixels = rgb(image) if size or (width, height) == (SIZE, SIZE) else None
            if pixels and size:
                pixels = ImageOps.fit(pixels, (size, size), Image.Resampling.BILINEAR)
    except MemoryError:
        raise
    except Exception as error:  # whatever a damaged file provokes
        raise ValueError(f"{path}: not a readable image ({error}); remove or replace it") from error
    if pixels is None:
        raise ValueError(
            f"{path}: {width}x{height} pixels; expected {SIZE}x{SIZE}; data.size={SIZE}, or another, resizes all images"
        )
    return np.asarray(pixels)


def rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"mode {image.mode}: expected 8 bits a channel, save it so")
    # PIL warns about a palette with transparency unless the image is converted to RGBA first.
    return (image.convert("RGBA") if image.mode == "P" else image).convert("RGB")
