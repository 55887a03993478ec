"""Decoding of image files, and errors that name the file."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from prunelab.data.sources.decode import decode_files
from prunelab.data.sources.listing import SUFFIXES

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


@pytest.mark.parametrize("suffix", ["bmp", "gif", "jfif", "jpg", "pbm", "pgm", "png", "ppm", "tif", "tiff", "webp"])
def test_every_suffix_that_is_listed_is_read_as_pillow_reads_it(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    mode = {"pbm": "1", "pgm": "L"}.get(suffix, "RGB")
    Image.effect_noise((32, 32), 90).convert(mode).save(path, "PPM" if mode != "RGB" else None)
    assert path.name.endswith(SUFFIXES)
    x, _ = decode_files([(str(path), 0)])
    with Image.open(path) as image:
        assert torch.equal(x[0], torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1))


@pytest.mark.parametrize("suffix", ["gif", "tif", "webp", "png"])
def test_of_several_frames_the_first_is_read(suffix: str, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    more = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], **more)
    x, _ = decode_files([(str(tmp_path / f"a.{suffix}"), 0)])
    assert x[0, :, 5, 5].tolist() == [255, 0, 0]


def test_the_rotation_of_exif_is_left_alone(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a camera held sideways
    image = Image.new("RGB", (32, 32), "red")
    image.paste("blue", (0, 0, 32, 16))
    image.save(tmp_path / "a.png", exif=exif)
    x, _ = decode_files([(str(tmp_path / "a.png"), 0)])
    assert x[0, :, 0, 31].tolist() == [0, 0, 255]


def test_other_formats_are_refused_whatever_their_name(tmp_path: Path) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png", "EPS")  # a program, which Ghostscript would run
    with pytest.raises(ValueError, match=r"a\.png: not a readable image \(cannot identify"):
        decode_files([(str(tmp_path / "a.png"), 0)])


def test_images_keep_the_order_of_the_files(tmp_path: Path) -> None:
    for i in range(1200):  # three tasks for the thread pool
        Image.new("RGB", (32, 32), (i % 256, i // 256, 0)).save(tmp_path / f"{i}.png", compress_level=0)
    x, y = decode_files([(str(tmp_path / f"{i}.png"), i) for i in range(1200)])
    assert (x[:, 0, 5, 5].long() + 256 * x[:, 1, 5, 5].long()).tolist() == list(range(1200)) == y.tolist()


def test_error_names_the_file_and_its_wrong_size(tmp_path: Path) -> None:
    Image.new("RGB", (48, 32)).save(tmp_path / "wide.png")
    with pytest.raises(ValueError, match=r"wide\.png: 48x32 pixels; expected 32x32; data.size=32, or another, resizes"):
        decode_files([(str(tmp_path / "wide.png"), 0)])


@pytest.mark.parametrize(("width", "height"), [(48, 96), (96, 48), (24, 24), (31, 200)])
def test_a_size_scales_the_shorter_side_and_keeps_the_middle(width: int, height: int, tmp_path: Path) -> None:
    image = Image.new("RGB", (width, height), (0, 0, 0))
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    image.paste(RED, (left, top, left + side, top + side))
    image.save(tmp_path / "a.png")
    x, _ = decode_files([(str(tmp_path / "a.png"), 0)], size=24)
    assert x.shape == (1, 3, 24, 24)
    middle = x[0, :, 1:-1, 1:-1]  # the border may mix with what lies beside the square
    assert (middle == torch.tensor(RED)[:, None, None]).all()


def test_an_image_of_the_right_size_stays_as_it_is(tmp_path: Path) -> None:
    Image.effect_noise((48, 48), 90).convert("RGB").save(tmp_path / "a.png")
    x, _ = decode_files([(str(tmp_path / "a.png"), 0)], size=48)
    assert torch.equal(x[0], torch.from_numpy(np.array(Image.open(tmp_path / "a.png"))).permute(2, 0, 1))


def test_an_image_that_claims_to_be_huge_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"bomb\.png: not a readable image .*limit"):
        decode_files([(str(tmp_path / "bomb.png"), 0)], size=32)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_an_image_at_which_pillow_only_warns_is_refused_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (32, 40)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"bomb\.png: not a readable image \(32x40 pixels are above the limit"):
        decode_files([(str(tmp_path / "bomb.png"), 0)], size=32)


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
