"""Which random numbers come next, also after a resume?"""

from typing import Any

import lightning as L
import torch


class RandomStreams(L.Callback):
    """Carries torch's global random streams (dropout draws from them) in the checkpoint.

    They are put back as training starts, after everything that might draw in between. Of GPUs it is the one
    that the process trains on.
    """

    def __init__(self) -> None:
        self._loaded: dict[str, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        cuda = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
        return {"cpu": torch.get_rng_state(), "cuda": cuda}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._loaded = state_dict

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        state, self._loaded = self._loaded, {}
        if state:
            torch.set_rng_state(state["cpu"])
            if state["cuda"] is not None and torch.cuda.is_initialized():
                torch.cuda.set_rng_state(state["cuda"])
