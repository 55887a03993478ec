"""One of two processes that run jobs together, started as by torchrun: `LOCAL_RANK=0 python two_ranks.py FILE`.

FILE is JSON: a list of [name, step, overrides], in which {rank} is replaced by the rank of the process; the job dies at
that step, unless it is null. The final state of this rank, or the text of an error, is written to
`<name>/seen-<rank>.json` beside FILE.
"""

import hashlib
import json
import os
import sys
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning as L
import torch
from compose import compose_job
from killed import killed_at
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


class RecordState(L.Callback):
    """Writes the state of this rank at the end of training: weights, masks, random state, history."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.first = trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: object) -> None:
        self.rng_state = torch.get_rng_state()

    def on_validation_batch_start(self, trainer: L.Trainer, module: L.LightningModule, *_: object) -> None:
        self.buffers = digest(dict(module.named_buffers()))  # an average is in place by now

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        masks = {n: m for c in trainer.callbacks if isinstance(c, Pruning) for n, m in c.pruner.keep.items()}
        state = {
            "first": self.first,
            "net": digest(module.state_dict()),
            "buffers": self.buffers,
            "masks": digest(masks),
            "stream": digest({"cpu": self.rng_state}),
            "batches": [len(loader) for loader in trainer.datamodule.val_dataloader()],
            "average": average(trainer.global_rank),
            "begins": [list(c.initial.values()) for c in trainer.callbacks if isinstance(c, RoundRecords)],
        }
        write(self.folder, state | {"history": next(c.epochs for c in trainer.callbacks if isinstance(c, History))})


class Tamper(L.Callback):
    """Makes the criterion of rank 1 draw different numbers."""

    def on_fit_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        for callback in trainer.callbacks:
            if isinstance(callback, Pruning) and trainer.global_rank:
                callback.pruner._generator.manual_seed(99)


def average(rank: int) -> list[float]:
    """The averages over ranks of 0 and 1, and of 0 and 10."""
    tensors = [torch.tensor(float(rank)), torch.tensor([10.0 * rank], dtype=torch.float64)]
    distributed.average(tensors)
    return [float(tensor) for tensor in tensors]


def digest(tensors: dict[str, Tensor]) -> str:
    sha256 = hashlib.sha256()
    for name, tensor in tensors.items():
        sha256.update(name.encode())
        sha256.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return sha256.hexdigest()


def write(folder: Path, state: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)  # a refused job may not have created it
    (folder / f"seen-{rank()}.json").write_text(json.dumps(state))


def main(file: Path) -> None:
    warnings.simplefilter("ignore")
    register_resolvers()
    local_rank = os.environ["LOCAL_RANK"]
    datamodule.EVALUATION_BATCH["cpu"] = 3  # per rank: the last batch has one image, which only one rank evaluates
    make = job.make_trainer
    job.make_trainer = lambda asked, folder, callbacks, *rest: make(
        asked, folder, [*callbacks, RecordState(folder.path)], *rest
    )
    if local_rank != "0":
        RunDir.write_job = RunDir.finish = rounds.write_masks = job.save_model = refuse
    for name, step, overrides in json.loads(file.read_text()):
        folder = file.parent / name
        cfg = compose_job([o.replace("{rank}", local_rank) for o in overrides], folder)
        try:
            with nullcontext() if step is None else killed_at(step):
                accuracy = job.run(cfg)
                (folder / f"accuracy-{local_rank}").write_text(repr(accuracy))
        except RuntimeError as error:
            write(folder, {"error": str(error)})


def refuse(*_: object) -> None:
    raise AssertionError("only rank 0 writes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
