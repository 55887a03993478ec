"""Decodes image files into one uint8 array."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image
from torch import Tensor

log = logging.getLogger(__name__)
SIZE = 32  # pixels; the models are CIFAR models
CHUNK = 500  # files per task: enough to hide the pool's overhead, few enough for progress messages
LOG_INTERVAL = 5.0  # seconds between progress messages


def decode_files(files: Sequence[tuple[str, int]]) -> tuple[Tensor, Tensor]:
    """The images, uint8 (n, 3, 32, 32), and the labels, int64 (n,), of (path, label) pairs.

    Grey, palette and transparent images become RGB. Raises ValueError at the first unusable file.
    """
    x = np.empty((len(files), 3, SIZE, SIZE), dtype=np.uint8)

    def fill(start: int) -> int:
        for i, (path, _) in enumerate(files[start : start + CHUNK], start):
            x[i] = decode(path).transpose(2, 0, 1)
        return min(start + CHUNK, len(files))

    last = time.monotonic()
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for done in pool.map(fill, range(0, len(files), CHUNK)):
            if time.monotonic() - last > LOG_INTERVAL:
                last = time.monotonic()
                log.info("decoded %d of %d images (only once: they are cached)", done, len(files))
    return torch.from_numpy(x), torch.tensor([label for _, label in files])


def decode(path: str) -> np.ndarray:
    """uint8 (32, 32, 3)."""
    try:
        with Image.open(path) as image:
            size = image.size
            pixels = np.asarray(rgb(image)) if size == (SIZE, SIZE) else None
    except (OSError, SyntaxError, ValueError) as error:  # PIL raises SyntaxError on a broken PNG
        raise ValueError(f"{path}: not a readable image ({error}); remove or replace it") from error
    if pixels is None:
        raise ValueError(f"{path}: {size[0]}x{size[1]} pixels; expected {SIZE}x{SIZE}, resize it first")
    return pixels


def rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"mode {image.mode}: expected 8 bits a channel")
    # PIL warns about a palette with transparency unless the image is converted to RGBA first.
    return (image.convert("RGBA") if image.mode == "P" else image).convert("RGB")
