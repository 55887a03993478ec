"""One job from its configuration to its result."""

import logging
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import nn

from prunelab.channels.plan import Plan
from prunelab.compact import file
from prunelab.data.images import Splits
from prunelab.job.check import check_launcher, check_retrain, check_values
from prunelab.job.dense_checkpoint import dense_phase, shared
from prunelab.job.measurements import costs, survivor_masks
from prunelab.job.method import Method
from prunelab.job.preflight import preflight
from prunelab.job.pretrained import load_weights
from prunelab.job.processes import CheckRanksAgree, quiet_others, rank_of
from prunelab.job.rounds import RoundRecords, rounds_of, write_masks
from prunelab.job.trainer import make_trainer
from prunelab.lit.checkpoints import is_intact, latest_intact
from prunelab.lit.classifier import Classifier
from prunelab.lit.datamodule import ImageDataModule
from prunelab.lit.device import check_devices, compiles_well, expected_device, precision_for
from prunelab.lit.history import History
from prunelab.measure import memory
from prunelab.measure.sparsity import sparsity_report, weight_counts
from prunelab.models import registry
from prunelab.store.folder import RunDir
from prunelab.store.identity import describe
from prunelab.store.signals import StopRequest, stoppable
from prunelab.tensorboard.hparams import write_event

log = logging.getLogger(__name__)


def run(cfg: DictConfig) -> float:
    """Trains, prunes, measures; returns the test accuracy after the last epoch, a fraction.

    A finished job is not run again; an unfinished one goes on from its last checkpoint. Raises Busy while another
    process is at it, and Interrupted, with a checkpoint, on SIGINT or SIGTERM.
    """
    quiet_others(rank_of(cfg))
    check_values(cfg)
    check_launcher(cfg, HydraConfig.get())
    check_devices(cfg.trainer.accelerator, cfg.trainer.devices)
    check_retrain(cfg, HydraConfig.get().overrides.task)
    splits: Splits = instantiate(cfg.data).load()
    folder = RunDir(Path(HydraConfig.get().runtime.output_dir))
    job = describe(cfg, resolve_auto(cfg, splits))
    folder.refuse_other(job)
    if folder.result(job["identity"]) is None:
        with stoppable() as stop, folder.attempt() if rank_of(cfg) == 0 else nullcontext():
            if folder.result(job["identity"]) is None:  # nor did another process finish it just now
                return train(cfg, folder, job, splits, stop)
    done = folder.result(job["identity"])
    assert done is not None
    log.info("finished before: test %.2f %%", 100 * done["accuracy"])
    return float(done["accuracy"])


def train(cfg: DictConfig, folder: RunDir, job: dict[str, Any], splits: Splits, stop: StopRequest) -> float:
    """One job in its folder, whether or not it was begun there."""
    method = Method.of(cfg)
    L.seed_everything(cfg.seed, verbose=False)
    net = build_net(cfg, len(splits.classes))
    example = torch.zeros(1, *splits.test.pool.shape[1:])
    cut = start_from(net, cfg.pretrained)
    data = ImageDataModule(splits, cfg.optim.batch_size, instantiate(cfg.augment), cfg.seed, cfg.channels_last)
    run = method.run(cfg.epochs, data.steps_per_epoch(cfg.trainer.get("accumulate_grad_batches", 1)))
    epochs = method.schedule_epochs(cfg.epochs, run.epoch)
    module = build_module(cfg, net, len(splits.classes), job["values"]["compile"], epochs)
    preflight(cfg, method, module, data, run)
    start = latest_intact(folder.checkpoint.parent) or (parent(cfg, splits, stop) if cfg.pretrained == "auto" else None)
    history, records = History(), RoundRecords(folder.masks)
    trainer = make_trainer(
        cfg,
        folder,
        job["values"]["precision"],
        [CheckRanksAgree(job["identity"], cfg.trainer.devices), *method.callbacks, records, history],
        run.total // run.epoch,
        stop,
        start,
        lambda: folder.write_job(job),
    )
    begun = memory.begin_training_peak(trainer.strategy.root_device)
    if run.total:
        trainer.fit(module, data, ckpt_path=start)
    else:  # the weights of a file are looked at as they are
        folder.write_job(job)
        trainer.validate(module, data, verbose=False)
    peak = memory.training_peak(trainer.strategy.root_device, begun)
    if start and trainer.strategy.broadcast(not folder.checkpoint.exists()):
        if trainer.is_global_zero:  # at rate 0 the shared dense training is all there is
            folder.write_job(job)
        trainer.save_checkpoint(folder.checkpoint)
    if len(history.epochs) * run.epoch < run.total:
        raise RuntimeError(
            f"training ended after {len(history.epochs)} of {run.total // run.epoch} epochs: there is no result"
        )
    if not trainer.is_global_zero:
        return history.epochs[-1]["test_acc"]

    if method.shrink and cfg.rate > 0 and not method.shrink.certificate:
        raise RuntimeError("nothing was cut out of the net, and there is no certificate: there is no result")
    cut = cut.then(method.shrink.plan_below("net")) if method.shrink else cut
    save_model(cfg, folder, net, len(splits.classes), cut)
    unpruned = build_net(cfg, len(splits.classes))
    if method.pruners:
        write_masks(folder.masks / "last.safetensors", survivor_masks(unpruned, net, cut))
    measured: dict[str, Any] = {
        "device": str(trainer.strategy.root_device),
        "data": {"fingerprint": splits.fingerprint, "classes": len(splits.classes)}
        | {"mean": splits.mean, "std": splits.std}  # what an image becomes before it comes into the net
        | {split: len(getattr(splits, split)) for split in ("train", "val", "test")},
        "sparsity": sparsity_report(net, method.units(), weight_counts(unpruned)),
        "cost": costs(unpruned, net, example, folder.model, trainer.strategy.root_device),
        "peak_memory": peak,
        "surgery": method.surgery(),
        "budget": {"of": cfg.budget, "asked": cfg.rate, "attained": method.attained()},
        "rounds": rounds_of(method.rounds, history.epochs, run.epoch, records),
    }
    return finish(folder, job, history.epochs, measured | method.found())


def parent(cfg: DictConfig, splits: Splits, stop: StopRequest) -> Path:
    """The checkpoint at the end of the dense training that this job begins with; trained, if nobody has yet."""
    dense = dense_phase(cfg)
    described = describe(dense, resolve_auto(cfg, splits)) | {"method": "none"}
    home = RunDir(Path(cfg.parents) / described["identity"])
    shared(
        home.path,
        lambda: home.result(described["identity"]) is not None and is_intact(home.checkpoint),
        lambda: train(dense, home, described, splits, stop),
        str(Path(HydraConfig.get().runtime.output_dir).absolute()),
        rank_of(cfg),
        lambda: bool(stop),
    )
    return home.checkpoint


def build_net(cfg: DictConfig, classes: int) -> nn.Module:
    """The net in its initial weights and in the memory format it trains in."""
    net: nn.Module = instantiate(cfg.model, num_classes=classes)
    return net.to(memory_format=torch.channels_last) if cfg.channels_last else net


def start_from(net: nn.Module, pretrained: str | None) -> Plan:
    """Puts the weights of a file into `net`; returns what had been cut out of their net, and now of this one."""
    return load_weights(net, Path(pretrained)) if pretrained not in (None, "auto") else Plan()


def save_model(cfg: DictConfig, folder: RunDir, net: nn.Module, classes: int, plan: Plan) -> None:
    """The net that was tested as one file, about as small as its zeros allow, for `prunelab.load`."""
    args = {key: value for key, value in cfg.model.items() if key != "_target_"} | {"num_classes": classes}
    # Nothing divides by a weight, so the sign of a zero changes no output; it would be most of the file.
    size = file.save(folder.model, net, plan, registry.name_of(cfg.model._target_), args, signed_zeros=False)
    log.info("model.safetensors: %s bytes", f"{size.bytes:,}")


def build_module(cfg: DictConfig, net: nn.Module, classes: int, compiled: bool, epochs: int) -> Classifier:
    """The net with what it takes to train it; its learning-rate schedule takes `epochs`, then it is fine-tuned."""
    optimizer, schedule = instantiate(cfg.optim.optimizer), instantiate(cfg.optim.schedule)
    return Classifier(
        net, optimizer, schedule, classes, cfg.optim.label_smoothing, compiled, epochs, cfg.optim.finetune
    )


def resolve_auto(cfg: DictConfig, splits: Splits) -> dict[str, Any]:
    """What the configuration leaves open and the result depends on: the images, and what "auto" is here."""
    device = expected_device(cfg.trainer.accelerator)
    # Batch norm and drop-out see each device's share alone. One device is what there was before, under any strategy.
    devices = {"trainer.devices": cfg.trainer.devices} if cfg.trainer.devices > 1 else {}
    return devices | {
        "data.fingerprint": splits.fingerprint,
        "precision": precision_for(device) if cfg.precision == "auto" else cfg.precision,
        "compile": compiles_well(device) if cfg.compile == "auto" else cfg.compile,
    }


def finish(folder: RunDir, job: dict[str, Any], epochs: list[dict[str, Any]], measured: dict[str, Any]) -> float:
    """Writes result.json, the last file of a job; returns the accuracy in it."""
    accuracy = epochs[-1]["test_acc"]
    seconds = sum(epoch["seconds"] for epoch in epochs)
    result = job | measured | {"history": epochs, "accuracy": accuracy, "seconds": seconds}
    write_event(folder.path, result)
    folder.finish(result)
    log.info(
        "test %.2f %%, sparsity %.2f %%, %.0f s",
        100 * accuracy,
        100 * measured["sparsity"]["attained"],
        seconds,
    )
    if collapsed := measured["sparsity"]["collapsed"]:
        log.warning("collapsed to a single unit: %s", ", ".join(collapsed))
    return accuracy
