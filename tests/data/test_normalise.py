"""Input normalisation, compared with its formula in float64."""

import pytest
import torch

from prunelab.data.normalise import Normalise

MEAN, STD = (0.49, 0.48, 0.44), (0.24, 0.25, 0.26)
X = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(2, 3, 16, 16)


@pytest.mark.parametrize("channels_last", [False, True])
def test_every_byte_is_normalised_per_channel(channels_last: bool) -> None:
    mean, std = (torch.tensor(v, dtype=torch.float64).view(1, 3, 1, 1) for v in (MEAN, STD))
    expected = ((X.double() / 255 - mean) / std).float()
    torch.testing.assert_close(Normalise(MEAN, STD, channels_last)(X), expected, rtol=1e-5, atol=1e-6)


def test_memory_format_is_as_requested() -> None:
    assert Normalise(MEAN, STD)(X).is_contiguous()
    assert Normalise(MEAN, STD, channels_last=True)(X).is_contiguous(memory_format=torch.channels_last)
