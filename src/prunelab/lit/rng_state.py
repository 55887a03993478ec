"""Which random numbers come next, also after a resume?"""

from typing import Any

import lightning as L
import torch

from prunelab.core import distributed
from prunelab.core.seeding import derived_generator


class RngState(L.Callback):
    """Carries torch's global random streams (dropout draws from them) in the checkpoint.

    They are put back as training starts, after everything that might draw in between. Of GPUs it is the one
    that the process trains on. Each rank has streams of its own, or all would drop the same units of different
    images; the checkpoint has all of them. One that is new to the training derives its own from rank 0's.
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
        rank, streams = distributed.rank(), [state, *state.get("others", [])]
        known = rank < len(streams)
        if state:
            _put_back(streams[rank if known else 0])
        if rank and not (state and known):
            drawn = int(torch.randint(2**62, ()))
            torch.manual_seed(derived_generator(f"rank {rank}", drawn).initial_seed())


def _put_back(streams: dict[str, Any]) -> None:
    torch.set_rng_state(streams["cpu"])
    if streams["cuda"] is not None and torch.cuda.is_initialized():
        torch.cuda.set_rng_state(streams["cuda"])
