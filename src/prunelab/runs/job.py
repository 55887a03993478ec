"""One job from its configuration to its result."""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import nn

from prunelab.callbacks.history import History
from prunelab.callbacks.pruning import Pruning
from prunelab.core.pruner import Pruner
from prunelab.core.types import Progress
from prunelab.data.images import Splits
from prunelab.lit.classifier import EXAMPLE, Classifier
from prunelab.lit.datamodule import ImageBatches
from prunelab.lit.device import compiles_well, expected_device, precision_for
from prunelab.measure.cost import applications, dense_cost, sparse_cost
from prunelab.measure.sparsity import sparsity_report
from prunelab.runs.check import check_values
from prunelab.runs.identity import describe
from prunelab.runs.parent import load_weights
from prunelab.runs.record import Folder
from prunelab.runs.trainer import make_trainer

log = logging.getLogger(__name__)


def run(cfg: DictConfig) -> float:
    """Trains, prunes, measures; returns the test accuracy after the last epoch, a fraction.

    A finished job is not run again; an unfinished one goes on from its last checkpoint.
    """
    check_values(cfg)
    folder = Folder(Path(HydraConfig.get().runtime.output_dir))
    splits: Splits = instantiate(cfg.data).load()
    job = describe(cfg, settle(cfg, splits))
    if done := folder.result(job["identity"]):
        log.info("finished before: test %.2f %%", 100 * done["accuracy"])
        return float(done["accuracy"])
    folder.refuse_other(job)

    L.seed_everything(cfg.seed, verbose=False)
    net = build_net(cfg, len(splits.classes))
    applied = applications(net, torch.zeros(1, *splits.test.pool.shape[1:]))
    module = build_module(cfg, net, len(splits.classes), job["values"]["compile"])
    data = ImageBatches(splits, cfg.optim.batch_size, instantiate(cfg.augment), cfg.seed, cfg.channels_last)
    callbacks: list[L.Callback] = [instantiate(callback) for callback in (cfg.get("prune") or {}).values()]
    pruners = [callback.pruner for callback in callbacks if isinstance(callback, Pruning)]
    rehearse(cfg, module, data, pruners)
    history = History()
    trainer = make_trainer(cfg, folder, job["values"]["precision"], [*callbacks, history], lambda: folder.claim(job))
    trainer.fit(module, data, ckpt_path=folder.last_checkpoint())
    if len(history.epochs) < cfg.epochs:
        raise RuntimeError(f"training ended after {len(history.epochs)} of {cfg.epochs} epochs: there is no result")

    measured = {
        "device": str(trainer.strategy.root_device),
        "data": {"fingerprint": splits.fingerprint, "classes": len(splits.classes)}
        | {split: len(getattr(splits, split)) for split in ("train", "val", "test")},
        "sparsity": sparsity_report(net, units_of(pruners)),
        "cost": {"dense": asdict(dense_cost(net, applied)), "pruned": asdict(sparse_cost(net, applied))},
    }
    return finish(folder, job, history.epochs, measured)


def build_net(cfg: DictConfig, classes: int) -> nn.Module:
    """The net in its starting weights and in the memory format it trains in."""
    net: nn.Module = instantiate(cfg.model, num_classes=classes)
    if cfg.pretrained:
        load_weights(net, Path(cfg.pretrained))
    return net.to(memory_format=torch.channels_last) if cfg.channels_last else net


def build_module(cfg: DictConfig, net: nn.Module, classes: int, compiled: bool) -> Classifier:
    """The net with what it takes to train it."""
    optimizer, schedule = instantiate(cfg.optim.optimizer), instantiate(cfg.optim.schedule)
    return Classifier(net, optimizer, schedule, classes, cfg.optim.label_smoothing, compiled)


def settle(cfg: DictConfig, splits: Splits) -> dict[str, Any]:
    """What the configuration leaves open and the result depends on: the images, and what "auto" is here."""
    device = expected_device(cfg.trainer.accelerator)
    return {
        "data.fingerprint": splits.fingerprint,
        "precision": precision_for(device) if cfg.precision == "auto" else cfg.precision,
        "compile": compiles_well(device) if cfg.compile == "auto" else cfg.compile,
    }


def rehearse(cfg: DictConfig, module: Classifier, data: ImageBatches, pruners: list[Pruner]) -> None:
    """Raises ValueError for a method that does not fit the net or the run, while nothing is written yet."""
    batches = data.sampling.count(len(data.splits.train))
    steps = -(-batches // cfg.trainer.get("accumulate_grad_batches", 1))
    for pruner in pruners:
        pruner.attach(module, EXAMPLE)
        pruner.check(Progress(0, steps * cfg.epochs, steps))


def units_of(pruners: list[Pruner]) -> dict[str, tuple[int, int]]:
    """(removed, all) units by the name that a layer has in the net itself."""
    counts = {name: n for pruner in pruners for name, n in pruner.unit_counts().items()}
    return {name.removeprefix("net."): n for name, n in counts.items()}


def finish(folder: Folder, job: dict[str, Any], epochs: list[dict[str, float]], measured: dict[str, Any]) -> float:
    """Writes result.json, the last file of a job; returns the accuracy in it."""
    accuracy = epochs[-1]["test_acc"]
    seconds = sum(epoch["seconds"] for epoch in epochs)
    folder.finish(job | measured | {"history": epochs, "accuracy": accuracy, "seconds": seconds})
    log.info(
        "test %.2f %%, sparsity %.2f %%, %.0f s",
        100 * accuracy,
        100 * measured["sparsity"]["attained"],
        seconds,
    )
    return accuracy
