"""Random state restored from a checkpoint."""

import torch

from prunelab.lit.rng_state import RngState


def test_state_is_restored_once_when_training_starts() -> None:
    torch.manual_seed(5)
    saved = RngState().state_dict()
    expected = torch.rand(3)
    callback = RngState()
    callback.load_state_dict(saved)
    torch.rand(7)  # building the network and the loaders may draw
    callback.on_train_start(None, None)
    assert torch.equal(torch.rand(3), expected)
    next_numbers = torch.rand(2)
    callback.on_train_start(None, None)  # a second fit does not restore it again
    assert not torch.equal(torch.rand(2), next_numbers)
