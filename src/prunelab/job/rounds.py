"""What did each round of pruning and retraining come to? Accuracies, and a file of packed masks a round."""

import json
import logging
from math import prod
from pathlib import Path
from typing import Any

import lightning as L
import safetensors.torch
from safetensors import safe_open

from prunelab.core.atomic import atomic_write
from prunelab.core.bits import pack_bits, unpack_bits
from prunelab.core.pruner import Pruner
from prunelab.core.schedule import Rounds
from prunelab.core.time import Progress
from prunelab.core.types import Masks
from prunelab.measure.accuracy import accuracy
from prunelab.store.identity import content

log = logging.getLogger(__name__)


class RoundRecords(L.Callback):
    """After each pruning of a method that prunes in rounds: its masks as `round-<i>.safetensors` in `folder`, and
    the test accuracy that the retraining begins with, in `initial` by round.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.initial: dict[int, float] = {}

    def on_pruned(self, trainer: L.Trainer, pl_module: L.LightningModule, pruner: Pruner, run: Progress) -> None:
        """Called by Pruning, after the other callbacks that it tells: what is rewound or cut out is so by now."""
        if isinstance(pruner.schedule, Rounds) and pruner.schedule.in_rounds:
            number = pruner.schedule.done(run)
            if trainer.is_global_zero:
                write_masks(mask_file(self.folder, number), pruner.granularity.expand(pruner.keep))
            *_, test = trainer.datamodule.val_dataloader()  # type: ignore[attr-defined]
            self.initial[number] = accuracy(pl_module, test)
            log.info("round %d begins with test %.1f %%", number, 100 * self.initial[number])

    def state_dict(self) -> dict[str, Any]:
        return {"begins": self.initial}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.initial = dict(state_dict["begins"])


def rounds_of(
    schedule: Rounds | None, epochs: list[dict[str, Any]], epoch: int, records: RoundRecords
) -> list[dict[str, Any]]:
    """What each training came to; the one before the first pruning is round 0. Empty for other methods."""
    rounds = []
    for number, end in enumerate(schedule.ends(epoch) if schedule else []):
        if end:  # on weights from a file there is no training before the first pruning
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
    """Where the masks stand that round `number`, counted from 1, was trained with."""
    return folder / f"round-{number}.safetensors"


def write_masks(path: Path, masks: Masks) -> None:
    """Eight weights a byte, first weight first; the shapes stand in the file's metadata."""
    shapes = {name: list(mask.shape) for name, mask in masks.items()}
    packed = {name: pack_bits(mask) for name, mask in masks.items()}
    with atomic_write(path) as file:
        file.write(safetensors.torch.save(packed, {"shapes": json.dumps(shapes)}))


def read_masks(path: Path) -> Masks:
    """The masks as they were written: bool, True = kept."""
    with safe_open(path, "pt") as file:
        shapes: dict[str, list[int]] = json.loads(file.metadata()["shapes"])
        return {name: unpack_bits(file.get_tensor(name), prod(shape)).view(shape) for name, shape in shapes.items()}
