"""Two processes that go through jobs together, as torchrun would start them: `LOCAL_RANK=0 python two_ranks.py FILE`.

FILE is JSON: a list of [name, overrides], where {rank} stands for this process's. What this rank has in the end is
written to `<folder>/<name>-<rank>.json`, and an error's text in its place.
"""

import hashlib
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import torch
from compose import compose_job
from torch import Tensor

from prunelab.callbacks import Pruning
from prunelab.core import distributed
from prunelab.core.distributed import rank
from prunelab.job import rounds
from prunelab.job import run as job
from prunelab.job.conf import register_resolvers
from prunelab.job.rounds import RoundRecords
from prunelab.lit import datamodule
from prunelab.lit.history import History
from prunelab.store.folder import RunDir


class Look(L.Callback):
    """What a rank holds when training ends, and where its random numbers are; stands in every job of `main`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: object) -> None:
        self.stream = torch.get_rng_state()

    def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.buffers = digest(dict(module.named_buffers()))

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        masks = {n: m for c in trainer.callbacks if isinstance(c, Pruning) for n, m in c.pruner.keep.items()}
        seen = {
            "net": digest(module.state_dict()),
            "buffers": self.buffers,
            "masks": digest(masks),
            "stream": digest({"cpu": self.stream}),
            "batches": [len(loader) for loader in trainer.datamodule.val_dataloader()],
            "average": average(trainer.global_rank),
            "begins": [list(c.initial.values()) for c in trainer.callbacks if isinstance(c, RoundRecords)],
        }
        write(self.folder, seen | {"history": next(c.epochs for c in trainer.callbacks if isinstance(c, History))})


class Tamper(L.Callback):
    """Has the criterion of rank 1 draw other numbers."""

    def on_fit_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        for callback in trainer.callbacks:
            if isinstance(callback, Pruning) and trainer.global_rank:
                callback.pruner._generator.manual_seed(99)


def average(rank: int) -> list[float]:
    """Of 0 and 1, and of 0 and 10."""
    tensors = [torch.tensor(float(rank)), torch.tensor([10.0 * rank], dtype=torch.float64)]
    distributed.average(tensors)
    return [float(tensor) for tensor in tensors]


def digest(tensors: dict[str, Tensor]) -> str:
    whole = hashlib.sha256()
    for name, tensor in tensors.items():
        whole.update(name.encode())
        whole.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return whole.hexdigest()


def write(folder: Path, seen: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)  # a job that was refused may have made none
    (folder / f"seen-{rank()}.json").write_text(json.dumps(seen))


def main(file: Path) -> None:
    warnings.simplefilter("ignore")
    register_resolvers()
    own = os.environ["LOCAL_RANK"]
    datamodule.EVALUATION_BATCH = 3  # images a rank: the last batch has one, and only one rank evaluates it
    make = job.make_trainer
    job.make_trainer = lambda asked, folder, callbacks, *rest: make(
        asked, folder, [*callbacks, Look(folder.path)], *rest
    )
    if own != "0":
        RunDir.write_job = RunDir.finish = rounds.write_masks = job.save_model = refuse
    for name, overrides in json.loads(file.read_text()):
        folder = file.parent / name
        try:
            accuracy = job.run(compose_job([o.replace("{rank}", own) for o in overrides], folder))
            (folder / f"accuracy-{own}").write_text(repr(accuracy))
        except RuntimeError as error:
            write(folder, {"error": str(error)})


def refuse(*_: object) -> None:
    raise AssertionError("only rank 0 writes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
