"""Records of rounds of pruning and retraining: accuracies, and a file of packed masks per round."""

import json
import logging
from math import prod
from pathlib import Path
from typing import Any

import lightning as L
import safetensors.torch
from safetensors import safe_open

from prunelab.callbacks.averages import averaged
from prunelab.core.files.atomic import atomic_write
from prunelab.core.numbers.bits import pack_bits, unpack_bits
from prunelab.core.pruner import Pruner
from prunelab.core.schedule import Rounds
from prunelab.core.time import Progress
from prunelab.core.types import Masks
from prunelab.measure.accuracy import accuracy
from prunelab.store.identity import content

log = logging.getLogger(__name__)


class RoundRecords(L.Callback):
    """For methods that prune in rounds: after each pruning, writes the masks as `round-<i>.safetensors` in `folder` and
    stores the test accuracy before retraining in `initial`, by round.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.initial: dict[int, float] = {}

    def on_pruned(self, trainer: L.Trainer, pl_module: L.LightningModule, pruner: Pruner, run: Progress) -> None:
        """Called by Pruning after all other callbacks, so rewinding and surgery are done."""
        if isinstance(pruner.schedule, Rounds) and pruner.schedule.in_rounds:
            number = pruner.schedule.done(run)
            if trainer.is_global_zero:
                write_masks(mask_file(self.folder, number), pruner.granularity.expand(pruner.keep))
            *_, test = trainer.datamodule.val_dataloader()  # type: ignore[attr-defined]
            with averaged(trainer, pl_module):
                self.initial[number] = accuracy(pl_module, test)
            log.info("round %d: %.1f %% test accuracy right after pruning", number, 100 * self.initial[number])

    def state_dict(self) -> dict[str, Any]:
        return {"begins": self.initial}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.initial = dict(state_dict["begins"])


def rounds_of(
    schedule: Rounds | None, epochs: list[dict[str, Any]], epoch: int, records: RoundRecords
) -> list[dict[str, Any]]:
    """The result of each round of training; round 0 is before the first pruning. Empty for other methods."""
    rounds = []
    for number, end in enumerate(schedule.ends(epoch) if schedule else []):
        if end:  # weights from a file are pruned before any training
            last = epochs[end // epoch - 1]
            entry: dict[str, Any] = {"round": number} | {
                key: last[key] for key in ("epoch", "sparsity", "val_acc", "test_acc")
            }
            if number:
                file = mask_file(records.folder, number)
                entry |= {"begins_test_acc": records.initial[number], "masks": file.name, "sha256": content(file)}
            rounds.append(entry)
    return rounds


def mask_file(folder: Path, number: int) -> Path:
    """The file of the masks under which round `number`, counted from 1, was trained."""
    return folder / f"round-{number}.safetensors"


def write_masks(path: Path, masks: Masks) -> None:
    """Eight weights a byte, first weight first; shapes are in the file's metadata."""
    shapes = {name: list(mask.shape) for name, mask in masks.items()}
    packed = {name: pack_bits(mask) for name, mask in masks.items()}
    with atomic_write(path) as file:
        file.write(safetensors.torch.save(packed, {"shapes": json.dumps(shapes)}))


def read_masks(path: Path) -> Masks:
    """The masks in a file: bool, True = kept."""
    with safe_open(path, "pt") as file:
        shapes: dict[str, list[int]] = json.loads(file.metadata()["shapes"])
        return {name: unpack_bits(file.get_tensor(name), prod(shape)).view(shape) for name, shape in shapes.items()}
