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
from prunelab.data.images import Splits
from prunelab.lit.classifier import Classifier
from prunelab.lit.datamodule import ImageBatches
from prunelab.lit.device import compiles_well, expected_device, precision_for
from prunelab.measure.cost import applications, dense_cost, sparse_cost
from prunelab.measure.sparsity import sparsity_report
from prunelab.runs.check import check_retrain, check_values
from prunelab.runs.identity import describe
from prunelab.runs.method import Method
from prunelab.runs.parents import dense_phase, shared
from prunelab.runs.record import Folder
from prunelab.runs.rehearsal import rehearse
from prunelab.runs.rounds import MaskFiles, rounds_of
from prunelab.runs.trainer import make_trainer
from prunelab.runs.weights import load_weights

log = logging.getLogger(__name__)


def run(cfg: DictConfig) -> float:
    """Trains, prunes, measures; returns the test accuracy after the last epoch, a fraction.

    A finished job is not run again; an unfinished one goes on from its last checkpoint.
    """
    check_values(cfg)
    check_retrain(cfg, HydraConfig.get().overrides.task)
    splits: Splits = instantiate(cfg.data).load()
    folder = Folder(Path(HydraConfig.get().runtime.output_dir))
    job = describe(cfg, settle(cfg, splits))
    if done := folder.result(job["identity"]):
        log.info("finished before: test %.2f %%", 100 * done["accuracy"])
        return float(done["accuracy"])
    return train(cfg, folder, job, splits)


def train(cfg: DictConfig, folder: Folder, job: dict[str, Any], splits: Splits) -> float:
    """One job in its folder, whether or not it was begun there."""
    folder.refuse_other(job)
    method = Method.of(cfg)
    L.seed_everything(cfg.seed, verbose=False)
    net = build_net(cfg, len(splits.classes))
    applied = applications(net, torch.zeros(1, *splits.test.pool.shape[1:]))
    data = ImageBatches(splits, cfg.optim.batch_size, instantiate(cfg.augment), cfg.seed, cfg.channels_last)
    run = method.run(cfg.epochs, data.steps_of_an_epoch(cfg.trainer.get("accumulate_grad_batches", 1)))
    epochs = method.schedule_epochs(cfg.epochs, run.epoch)
    module = build_module(cfg, net, len(splits.classes), job["values"]["compile"], epochs)
    rehearse(cfg, method, module, data, run)
    start = folder.last_checkpoint() or (parent(cfg, splits) if cfg.pretrained == "auto" else None)
    history = History()
    trainer = make_trainer(
        cfg,
        folder,
        job["values"]["precision"],
        [*method.callbacks, MaskFiles(folder.masks), history],
        run.total // run.epoch,
        lambda: folder.claim(job),
    )
    trainer.fit(module, data, ckpt_path=start)
    if start and not folder.checkpoint.exists():  # at rate 0 the shared dense training is all there is
        folder.claim(job)
        trainer.save_checkpoint(folder.checkpoint)
    if len(history.epochs) * run.epoch < run.total:
        raise RuntimeError(
            f"training ended after {len(history.epochs)} of {run.total // run.epoch} epochs: there is no result"
        )

    measured = {
        "device": str(trainer.strategy.root_device),
        "data": {"fingerprint": splits.fingerprint, "classes": len(splits.classes)}
        | {split: len(getattr(splits, split)) for split in ("train", "val", "test")},
        "sparsity": sparsity_report(net, method.units()),
        "cost": {"dense": asdict(dense_cost(net, applied)), "pruned": asdict(sparse_cost(net, applied))},
        "rounds": rounds_of(method.rounds, history.epochs, run.epoch, folder.masks),
    }
    return finish(folder, job, history.epochs, measured)


def parent(cfg: DictConfig, splits: Splits) -> Path:
    """The checkpoint at the end of the dense training that this job begins with; trained, if nobody has yet."""
    dense = dense_phase(cfg)
    described = describe(dense, settle(cfg, splits)) | {"method": "none"}
    home = Folder(Path(cfg.parents) / described["identity"])
    shared(
        home.path,
        lambda: home.result(described["identity"]) is not None and home.checkpoint.exists(),
        lambda: train(dense, home, described, splits),
    )
    return home.checkpoint


def build_net(cfg: DictConfig, classes: int) -> nn.Module:
    """The net in its starting weights and in the memory format it trains in."""
    net: nn.Module = instantiate(cfg.model, num_classes=classes)
    if cfg.pretrained not in (None, "auto"):
        load_weights(net, Path(cfg.pretrained))
    return net.to(memory_format=torch.channels_last) if cfg.channels_last else net


def build_module(cfg: DictConfig, net: nn.Module, classes: int, compiled: bool, epochs: int) -> Classifier:
    """The net with what it takes to train it; its learning-rate schedule takes `epochs`, then it is fine-tuned."""
    optimizer, schedule = instantiate(cfg.optim.optimizer), instantiate(cfg.optim.schedule)
    return Classifier(
        net, optimizer, schedule, classes, cfg.optim.label_smoothing, compiled, epochs, cfg.optim.finetune
    )


def settle(cfg: DictConfig, splits: Splits) -> dict[str, Any]:
    """What the configuration leaves open and the result depends on: the images, and what "auto" is here."""
    device = expected_device(cfg.trainer.accelerator)
    return {
        "data.fingerprint": splits.fingerprint,
        "precision": precision_for(device) if cfg.precision == "auto" else cfg.precision,
        "compile": compiles_well(device) if cfg.compile == "auto" else cfg.compile,
    }


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
    if collapsed := measured["sparsity"]["collapsed"]:
        log.warning("collapsed to a single unit: %s", ", ".join(collapsed))
    return accuracy
