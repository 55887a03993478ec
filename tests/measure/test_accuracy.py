"""Accuracy is a fraction of all images, for batches of any size."""

import pytest
import torch
from torch import nn

from prunelab.measure.accuracy import accuracy


def test_each_image_counts_once_whatever_its_batch() -> None:
    scores = torch.eye(3)[torch.tensor([0, 1, 2, 2, 0])]
    classes = torch.tensor([0, 1, 2, 0, 1])
    net = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Dropout(0.9)).train()
    nn.init.eye_(net[0].weight)
    assert accuracy(net, zip(scores.split(2), classes.split(2), strict=True)) == 0.6
    assert net.training


def test_no_images_have_no_accuracy() -> None:
    with pytest.raises(ValueError, match="0 images have no accuracy"):
        accuracy(nn.Linear(2, 2), [])
