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


def one_by_one(augment: PadCropFlip, x: Tensor, decisions: Tensor) -> Tensor:
    """The oracle: pad, crop, mirror, blacken, image after image."""
    c, h, w = x.shape[1:]
    out = torch.empty_like(x)
    for i, (top, left, mirrored, cy, cx) in enumerate(decisions.tolist()):
        padded = torch.zeros((c, h + 2 * augment.pad, w + 2 * augment.pad), dtype=torch.uint8)
        padded[:, augment.pad : augment.pad + h, augment.pad : augment.pad + w] = x[i]
        crop = padded[:, top : top + h, left : left + w]
        out[i] = crop.flip(-1) if mirrored else crop
        for r in range(h):
            for k in range(w):
                half = augment.cutout // 2
                if -half <= r - cy < augment.cutout - half and -half <= k - cx < augment.cutout - half:
                    out[i, :, r, k] = 0
    return out


@pytest.mark.parametrize("augment", SETTINGS)
def test_whole_batch_equals_one_image_after_the_other(augment: PadCropFlip) -> None:
    decisions = augment.draw(64, (32, 24), torch.Generator().manual_seed(1))
    assert torch.equal(augment.apply(X, decisions), one_by_one(augment, X, decisions))


def test_images_without_augmentation_stay_as_they_are() -> None:
    augment = PadCropFlip(0, False)
    assert torch.equal(augment.apply(X, augment.draw(64, (32, 24), torch.Generator())), X)


def test_every_shift_mirror_and_centre_occurs() -> None:
    decisions = PadCropFlip(4, True, 8).draw(5000, (32, 24), torch.Generator().manual_seed(0))
    assert [column.unique().tolist() for column in decisions.unbind(1)] == [
        list(range(top)) for top in (9, 9, 2, 32, 24)
    ]


def test_generator_alone_decides() -> None:
    draws = [PadCropFlip().draw(100, (32, 32), torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize("augment", SETTINGS)
def test_images_that_went_in_stay_unchanged(augment: PadCropFlip) -> None:
    before = X.clone()
    augment.apply(X, augment.draw(64, (32, 24), torch.Generator()))
    assert torch.equal(X, before)


@pytest.mark.parametrize("bad", [{"pad": -1}, {"cutout": -2}])
def test_negative_sizes_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected pixels, 0 or more"):
        PadCropFlip(**bad)
