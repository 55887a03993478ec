"""Random streams go on where a checkpoint left them."""

import torch

from prunelab.lit.rng_state import RngState


def test_streams_are_put_back_once_as_training_starts() -> None:
    torch.manual_seed(5)
    saved = RngState().state_dict()
    expected = torch.rand(3)
    streams = RngState()
    streams.load_state_dict(saved)
    torch.rand(7)  # what building the net and the loaders may draw
    streams.on_train_start(None, None)
    assert torch.equal(torch.rand(3), expected)
    following = torch.rand(2)
    streams.on_train_start(None, None)  # a second fit is not thrown back
    assert not torch.equal(torch.rand(2), following)
