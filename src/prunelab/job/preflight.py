"""Checks that a method fits the network, the data and the length of the run, before anything is written."""

from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch
from lightning.pytorch.callbacks import EarlyStopping, StochasticWeightAveraging, Timer
from torch import Tensor, nn

from prunelab.callbacks.binarize import Binarize
from prunelab.channels.plan import Plan
from prunelab.channels.surgery import check_state
from prunelab.core.network.preserve import preserve_state
from prunelab.core.time import Progress
from prunelab.job.method import Method
from prunelab.lit.classifier import Classifier
from prunelab.lit.datamodule import ImageDataModule
from prunelab.lit.device import expected_device
from prunelab.measure.profiler import network_cost
from prunelab.store.failure import one_line
from prunelab.store.folder import refuse_unwritable
from prunelab.store.job import Job
from prunelab.store.result import KEYS


class Parts(NamedTuple):
    """What a job trains."""

    method: Method
    net: nn.Module
    plan: Plan  # the channels that its pretrained weights lack
    data: ImageDataModule
    run: Progress
    module: Classifier


def preflight(job: Job, parts: Parts) -> None:
    """Raises ValueError or RuntimeError, naming the value and the remedy, for what would fail during the run.

    Nothing is timed: latency is measured on the training device, before the first step.
    """
    method, _, _, data, run, module = parts
    example = module.example_input_array
    assert isinstance(example, Tensor)
    check_forward(module.net, example, len(data.splits.classes))
    steps = method.schedule_epochs(job.epochs, run.epoch) * run.epoch
    check_optimizer(module, steps, bool(method.shrink), job.accelerator)
    for pruning in method.pruning:
        pruning.check(module, example, run)
        pruning.check_outcome(method.callbacks)
        data.check_scoring(pruning.pruner.batches)
    if method.analyses and job.devices > 1:
        raise ValueError(
            f"trainer.devices={job.devices}: {type(method.analyses[0]).__name__} works on one, "
            "and others would repeat its work; drop it"
        )
    for analysis in method.analyses:
        analysis.check(module, example)
        if analysis.name in KEYS:
            raise ValueError(
                f"{type(analysis).__name__}.name={analysis.name!r}: result.json has that key; choose another"
            )
        data.check_scoring(analysis.pruner.batches)
        data.check_scoring(analysis.batches, "prune.pruning.batches")
    if any(isinstance(callback, StochasticWeightAveraging) for callback in method.others):
        raise ValueError("StochasticWeightAveraging ends with weights that no epoch has tested: use WeightAveraging")
    if early := [type(callback).__name__ for callback in method.others if isinstance(callback, EarlyStopping | Timer)]:
        raise ValueError(f"{early[0]} ends training before pruning and learning rate are through: lower epochs instead")
    for callback in method.callbacks:
        if isinstance(callback, Binarize):
            callback.check(run)
    if method.shrink:
        method.shrink.check(method.pruners)
        method.shrink.rehearse(module, example, method.pruners[0], run)
    if sum(pruner.schedule.in_rounds for pruner in method.pruners) > 1:
        raise ValueError("two callbacks of this method prune in rounds, which would mix: keep one")
    if method.rewind and method.pruners and not method.rounds:
        raise ValueError(
            "this method rewinds, and its schedule does not prune in rounds: take prune/schedule=rounds, or ~retrain"
        )
    if method.rewind and method.rewind.control == "shuffle" and any(p.granularity.in_groups for p in method.pruners):
        raise ValueError("control=shuffle would break N:M groups: use control=reinit, or prune/granularity=weight")
    if job.pretrained == "auto" and method.callbacks:
        _check_shared(job, method, run)
    elif job.pretrained not in (None, "auto") and (rewind := method.rewind) and (rewind.parameters or rewind.to != 0):
        raise ValueError(
            f"pretrained={job.pretrained} has no snapshot of step {rewind.to}: use pretrained=auto to rewind there"
        )


def check_forward(net: nn.Module, example: Tensor, classes: int) -> None:
    """Raises ValueError unless `net` gives a logit per class for images of this size, and its cost can be counted."""
    size = "x".join(map(str, example.shape[2:]))
    try:
        with preserve_state(net):
            logits = net(example)
    except Exception as error:  # of any network
        raise ValueError(f"{type(net).__name__} cannot take images of {size} pixels: {one_line(error)}") from error
    if not isinstance(logits, Tensor) or logits.shape != (len(example), classes):
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(
            f"{type(net).__name__} gives {found} for {len(example)} images of {classes} classes: expected "
            f"{(len(example), classes)}"
        )
    try:
        network_cost(net, example)
    except Exception as error:  # which would come when training is done
        raise ValueError(f"the MACs of {type(net).__name__} cannot be counted: {one_line(error)}") from error


def check_optimizer(module: Classifier, steps: int, shrinks: bool, accelerator: str) -> None:
    """Builds an optimizer and its schedule over `steps`, which refuse impossible values, and takes a step on copies.

    Raises ValueError where the job could not step it so, or, if it `shrinks` the network, not cut its state. No step is
    taken for a GPU, for which alone the optimizer may have kernels.
    """
    weights = {name: nn.Parameter(torch.zeros_like(p), p.requires_grad) for name, p in module.net.named_parameters()}
    try:
        optimizer = module.optimizer(weights.values())
        module.schedule(optimizer, max(1, steps))
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ValueError(f"optim: {error}") from error
    if accelerator not in ("auto", "cpu") or expected_device(accelerator).type != "cpu":
        return
    for weight in weights.values():
        weight.grad = torch.ones_like(weight) if weight.requires_grad else None
    try:
        with suppress(AssertionError):  # of what needs a GPU, as capturable=True
            optimizer.step(lambda: 0.0)  # Lightning, too, gives a closure
    except Exception as error:  # of any optimizer
        name = type(optimizer).__name__
        raise ValueError(f"optim: {name} cannot step in this job, {one_line(error)}: use SGD or AdamW") from error
    if shrinks:
        check_state(optimizer, weights)


def _check_shared(job: Job, method: Method, run: Progress) -> None:
    """Shared dense pretraining takes `epochs`, and nothing but the optimizer acts on it."""
    if not method.rounds and method.callbacks != tuple(method.analyses):
        raise ValueError("pretrained=auto: this method prunes from scratch; give the PATH of weights, or drop it")
    if any(pruner.watches for pruner in method.pruners):
        raise ValueError("pretrained=auto: this criterion watches the dense training too; drop pretrained=auto")
    if method.others:
        kinds = ", ".join(type(callback).__name__ for callback in method.others)
        raise ValueError(f"pretrained=auto: {kinds} acts on the dense training too; drop pretrained=auto")
    if method.rounds and (first := method.rounds.ends(run.epoch)[:1]) and first != [job.epochs * run.epoch]:
        raise ValueError(
            f"pretrained=auto: the first pruning is at step {first[0]}, the dense training ends at step "
            f"{job.epochs * run.epoch}; drop pretrained=auto or schedule.start"
        )
    if method.rewind and method.rewind.to != job.config["rewind"]:
        raise ValueError(
            f"pretrained=auto: prune.rewind.to={method.rewind.to} is not rewind={job.config['rewind']}; set rewind="
        )
    refuse_unwritable(Path(job.config["parents"]))
