"""Batches of training data for scoring, in any Lightning project."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from math import inf
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.data import sized_len
from lightning.pytorch.callbacks import StochasticWeightAveraging
from torch.utils.data import DataLoader

from prunelab.callbacks.neighbours import of_kind
from prunelab.core.context import Batch
from prunelab.core.numbers.seeding import seeded_python
from prunelab.core.time import Progress

LONG = Progress(step=0, total=10**12, epoch=10**6)  # for any time in steps or epochs


def draw_batches(trainer: L.Trainer, count: int, generator: torch.Generator, augmented: bool = False) -> list[Batch]:
    """`count` batches (inputs, targets) on the training device, drawn by `generator`.

    From `scoring_batches(count, generator)` of the data module where it has one, or, `augmented`, from its
    `statistics_batches` if it has that too; else from a second pass over the training loader. Neither that pass nor the
    random numbers that the dataset and the module's hooks for batches draw disturb the training. Raises ValueError
    where there are too few.
    """
    data = getattr(trainer, "datamodule", None)
    own = getattr(data, "statistics_batches", None) if augmented else None
    own = own or getattr(data, "scoring_batches", None)
    seed = int(torch.randint(2**62, (), generator=generator.clone_state() if own else generator))
    device = trainer.strategy.root_device
    with torch.random.fork_rng([device] if device.type == "cuda" else []), seeded_python(seed):
        torch.manual_seed(seed)
        batches = own(count, generator) if own else _second_pass(trainer.train_dataloader, count, seed)
        _check_enough(count, len(batches))
        return [trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(batch)) for batch in batches]


def check_loader(loader: Any, count: int) -> None:
    """Raises ValueError where `count` batches cannot be drawn from training loaders, as far as these tell."""
    _check_single(loader)
    if (batches := sized_len(loader)) is not None:
        _check_enough(count, batches)


def _check_enough(count: int, batches: int) -> None:
    if batches < count:
        raise ValueError(
            f"scoring asks for {count} batches, the training data have {batches}: lower the criterion's batches, "
            "or the batch size"
        )


def _check_single(loader: Any) -> None:
    if isinstance(loader, list | tuple | dict):
        raise ValueError("scoring takes one training loader: give the data module scoring_batches(count, generator)")


def _second_pass(loader: Any, count: int, seed: int) -> list[Batch]:
    _check_single(loader)
    loader = copy.copy(loader)  # one that counts its batches must not count these
    if isinstance(loader, DataLoader):
        loader._iterator = None  # that of persistent workers, which training continues to use
    with _borrowed(loader, seed):
        return list(islice(iter(loader), count))


@contextmanager
def _borrowed(loader: Any, seed: int) -> Iterator[None]:
    """Seeds a loader's own generators, and restores them for the next epoch."""
    batches = getattr(loader, "batch_sampler", None)
    owners = (loader, getattr(loader, "sampler", None), batches, getattr(batches, "sampler", None))
    generators = {id(g): g for owner in owners if isinstance(g := getattr(owner, "generator", None), torch.Generator)}
    states = [(g, g.get_state()) for g in generators.values()]
    try:
        for generator in generators.values():
            generator.manual_seed(seed)
        yield
    finally:
        for generator, state in states:
            generator.set_state(state)


def steps_done(trainer: L.Trainer) -> int:
    """Optimizer steps so far; batches under manual optimization, which may step any number of times in a batch.

    Only a manual run that ends at `max_steps` is counted in optimizer steps, as Lightning counts them.
    """
    manual = not trainer.lightning_module.automatic_optimization
    if manual and trainer.estimated_stepping_batches != trainer.max_steps:
        return trainer.fit_loop.epoch_loop.batch_progress.total.processed  # type: ignore[attr-defined]
    return trainer.global_step


def is_fast_dev_run(trainer: L.Trainer) -> bool:
    """Whether these are a few batches to try the code."""
    return bool(trainer.fast_dev_run)  # type: ignore[attr-defined]


def progress(trainer: L.Trainer, step: int) -> Progress:
    """`step` of the trainer's run. Raises ValueError for a run without an end.

    A `fast_dev_run` says nothing of the length of the real run: its last batch stands for the end of a long one.
    """
    if is_fast_dev_run(trainer):
        return Progress(LONG.total if step >= trainer.max_steps - 1 else 0, LONG.total, LONG.epoch)
    total = trainer.estimated_stepping_batches
    if not 0 < total < inf:
        unsized = "its loader has no length, set limit_train_batches or max_steps"
        remedy = unsized if (trainer.max_epochs or 0) > 0 else "set max_epochs or max_steps"
        raise ValueError(f"Pruning must know how long training is: {remedy}")
    batches = trainer.num_training_batches
    epoch = total if batches == inf else -(-batches // trainer.accumulate_grad_batches)
    for swa in of_kind(trainer, StochasticWeightAveraging):  # trains nothing in the epoch that it adds for batch norms
        total = total * swa._max_epochs // (trainer.max_epochs or 1)
        if 0 < swa._max_epochs <= trainer.current_epoch:  # in that epoch, it has set both numbers of batches to others
            total = steps_done(trainer)
            epoch = total // swa._max_epochs
    return Progress(step, int(total), max(1, int(epoch)))
