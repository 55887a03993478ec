"""Batch augmentation, compared with an image-by-image oracle."""

import pytest
import torch
from torch import Tensor

from prunelab.data.augment import PadCropFlip

SETTINGS = [
    PadCropFlip(),
    PadCropFlip(2, False),
    PadCropFlip(0),
    PadCropFlip(0, False, 5),
    PadCropFlip(4, True, 8),
]
X = torch.randint(1, 256, (64, 3, 32, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def one_by_one(augment: PadCropFlip, x: Tensor, parameters: Tensor) -> Tensor:
    """The oracle: pad, crop, flip and cut out one image after another."""
    c, h, w = x.shape[1:]
    out = torch.empty_like(x)
    for i, (top, left, flipped, cy, cx) in enumerate(parameters.tolist()):
        padded = torch.zeros((c, h + 2 * augment.pad, w + 2 * augment.pad), dtype=torch.uint8)
        padded[:, augment.pad : augment.pad + h, augment.pad : augment.pad + w] = x[i]
        crop = padded[:, top : top + h, left : left + w]
        out[i] = crop.flip(-1) if flipped else crop
        for r in range(h):
            for k in range(w):
                half = augment.cutout // 2
                if -half <= r - cy < augment.cutout - half and -half <= k - cx < augment.cutout - half:
                    out[i, :, r, k] = 0
    return out


@pytest.mark.parametrize("augment", SETTINGS)
def test_batch_equals_single_images(augment: PadCropFlip) -> None:
    parameters = augment.draw(64, (32, 24), torch.Generator().manual_seed(1))
    assert torch.equal(augment.apply(X, parameters), one_by_one(augment, X, parameters))


def test_no_augmentation_returns_the_images() -> None:
    augment = PadCropFlip(0, False)
    assert torch.equal(augment.apply(X, augment.draw(64, (32, 24), torch.Generator())), X)


def test_every_shift_flip_and_centre_occurs() -> None:
    parameters = PadCropFlip(4, True, 8).draw(5000, (32, 24), torch.Generator().manual_seed(0))
    assert [column.unique().tolist() for column in parameters.unbind(1)] == [
        list(range(high)) for high in (9, 9, 2, 32, 24)
    ]


def test_draws_depend_on_the_generator_alone() -> None:
    draws = [PadCropFlip().draw(100, (32, 32), torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize("augment", SETTINGS)
def test_input_images_stay_unchanged(augment: PadCropFlip) -> None:
    before = X.clone()
    augment.apply(X, augment.draw(64, (32, 24), torch.Generator()))
    assert torch.equal(X, before)


@pytest.mark.parametrize("bad", [{"pad": -1}, {"cutout": -2}])
def test_negative_sizes_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected a number of pixels, 0 or more"):
        PadCropFlip(**bad)


def test_pixels_of_32_are_more_in_larger_images() -> None:
    assert PadCropFlip(2, True, 8).at(224) == PadCropFlip(14, True, 56)
    assert PadCropFlip(2, False, 8).at(32) == PadCropFlip(2, False, 8)
