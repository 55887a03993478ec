"""Decoding of image files, and errors that name the file."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from prunelab.data.sources.decode import decode_files

RED = (200, 30, 40)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "1", "LA", "CMYK"])
def test_every_common_mode_becomes_rgb(mode: str, tmp_path: Path) -> None:
    image = Image.new("RGB", (32, 32), RED).convert(mode)
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    image.save(path, **({"transparency": b"\x80\x10"} if mode == "P" else {}))
    x, y = decode_files([(str(path), 3)])
    expected = torch.from_numpy(np.array(Image.open(path).convert("RGBA").convert("RGB"))).permute(2, 0, 1)
    assert torch.equal(x, expected[None])
    assert y.tolist() == [3]


def test_images_keep_the_order_of_the_files(tmp_path: Path) -> None:
    for i in range(1200):  # three tasks for the thread pool
        Image.new("RGB", (32, 32), (i % 256, i // 256, 0)).save(tmp_path / f"{i}.png", compress_level=0)
    x, y = decode_files([(str(tmp_path / f"{i}.png"), i) for i in range(1200)])
    assert (x[:, 0, 5, 5].long() + 256 * x[:, 1, 5, 5].long()).tolist() == list(range(1200)) == y.tolist()


def test_error_names_the_file_and_its_wrong_size(tmp_path: Path) -> None:
    Image.new("RGB", (48, 32)).save(tmp_path / "wide.png")
    with pytest.raises(ValueError, match=r"wide\.png: 48x32 pixels; expected 32x32"):
        decode_files([(str(tmp_path / "wide.png"), 0)])


def test_sixteen_bits_per_channel_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((32, 32), dtype=np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match=r"deep\.png: not a readable image .*8 bits"):
        decode_files([(str(tmp_path / "deep.png"), 0)])


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.6])
def test_error_names_a_broken_image(suffix: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / f"broken.{suffix}"
    Image.effect_noise((32, 32), 90).convert("RGB").save(path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match=rf"broken\.{suffix}: not a readable image"):
        decode_files([(str(path), 0)])
