"""Which random numbers come next, also after a resume?"""

from typing import Any

import lightning as L
import torch


class RandomStreams(L.Callback):
    """Carries torch's global random streams (dropout draws from them) in the checkpoint.

    They are put back as training starts, after everything that might draw in between. A checkpoint made on
    another number of GPUs restores the CPU's stream alone.
    """

    def __init__(self) -> None:
        self._loaded: dict[str, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._loaded = state_dict

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        state, self._loaded = self._loaded, {}
        if state:
            torch.set_rng_state(state["cpu"])
            if len(state["cuda"]) == torch.cuda.device_count():
                torch.cuda.set_rng_state_all(state["cuda"])
