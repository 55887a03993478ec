"""Saves and restores torch's global random state."""

from typing import Any

import lightning as L
import torch

from prunelab.core import distributed
from prunelab.core.numbers.seeding import derived_generator


class RngState(L.Callback):
    """Keeps the state of torch's global generators (which dropout uses) in checkpoints.

    It is restored when training starts, after everything that might draw in between; of the GPUs, only the
    process's own is covered. Each rank has its own state, or all would drop the same units of different images;
    the checkpoint holds all of them. A rank that is not in the checkpoint derives its seed from rank 0's.
    """

    def __init__(self) -> None:
        self._loaded: dict[str, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        cuda = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
        first, *others = distributed.gather({"cpu": torch.get_rng_state(), "cuda": cuda})
        return first | ({"others": others} if others else {})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._loaded = state_dict

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        state, self._loaded = self._loaded, {}
        rank, ranks = distributed.rank(), [state, *state.get("others", [])]
        saved = rank < len(ranks)
        if state:
            _restore(ranks[rank if saved else 0])
        if rank and not (state and saved):
            seed = int(torch.randint(2**62, ()))
            torch.manual_seed(derived_generator(f"rank {rank}", seed).initial_seed())


def _restore(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if state["cuda"] is not None and torch.cuda.is_initialized():
        torch.cuda.set_rng_state(state["cuda"])
