"""One job from its configuration to its result."""

import copy
import logging
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor, nn

from prunelab.channels.plan import Plan
from prunelab.compact import file
from prunelab.data.images import Splits
from prunelab.job.check import check_launcher
from prunelab.job.conf import job_of, yaml_digest
from prunelab.job.measurements import costs, survivor_masks
from prunelab.job.memory_format import to_channels_last
from prunelab.job.method import Method
from prunelab.job.own_checkpoint import RecordJob, refuse_other
from prunelab.job.peak_memory import PeakMemory
from prunelab.job.preflight import Parts, preflight
from prunelab.job.pretrained import load_weights
from prunelab.job.processes import CheckRanksAgree, quiet_others, rank_of
from prunelab.job.rounds import RoundRecords, rounds_of, write_masks
from prunelab.job.sharing.dense_checkpoint import train_once
from prunelab.job.sharing.prefix import shared_prefix
from prunelab.job.sharing.training import dense_training
from prunelab.job.tested import Tested
from prunelab.job.trainer import make_trainer
from prunelab.lit.checkpoints import is_intact, latest_intact
from prunelab.lit.classifier import EXAMPLE, Classifier
from prunelab.lit.datamodule import ImageDataModule
from prunelab.lit.device import arithmetic, check_devices, compiles_well, expected_device, precision_for
from prunelab.lit.history import History
from prunelab.measure.sparsity import sparsity_report, weight_counts
from prunelab.models import registry
from prunelab.store.folder import RunDir
from prunelab.store.identity import digest, overrides_digest
from prunelab.store.job import Job
from prunelab.store.own_code import own_code
from prunelab.store.result import Epoch, Result, Sparsity
from prunelab.store.signals import StopRequest, stoppable
from prunelab.store.weights import weights_content
from prunelab.tensorboard.hparams import metrics, write_event
from prunelab.tensorboard.logger import log_outcome

log = logging.getLogger(__name__)


def run(cfg: DictConfig) -> float:
    """Trains, prunes, measures; returns the test accuracy after the last epoch, a fraction.

    A finished job is not run again; an unfinished one resumes from its last checkpoint. Raises Busy while another
    process works on it, and Interrupted, after a checkpoint, on SIGINT, SIGTERM or SIGHUP.
    """
    hydra = HydraConfig.get()
    job = job_of(cfg, hydra)
    quiet_others(rank_of(job.devices))
    check_launcher(job.devices, hydra)
    splits: Splits = instantiate(job.config["data"]).load()
    folder = RunDir(Path(hydra.runtime.output_dir))
    job = job.settled(resolve_auto(job, splits, folder.job()), overrides_digest(job.overrides, yaml_digest(hydra)))
    folder.refuse_other(job)
    if not folder.finished(job):
        check_devices(job.accelerator, job.devices, job.config["precision"])
        with stoppable() as stop, folder.attempt(rank_of(job.devices)):
            if not folder.finished(job):  # another process may just have finished it
                with dense_training(job, folder, stop) as twin:
                    return train(job, folder, splits, stop, twin)
    result = folder.finished(job)
    assert result is not None
    log.info("already finished, skipped: test %.2f %%", 100 * result.accuracy)
    return result.accuracy


def train(job: Job, folder: RunDir, splits: Splits, stop: StopRequest, twin: Result | None = None) -> float:
    """Trains one job in its folder, from the start or from its last checkpoint; returns the test accuracy.

    With a `twin`, a job that has trained the same network, it takes the end of that training.
    """
    L.seed_everything(job.seed, verbose=False)
    method, net, plan, data, run, module = parts = assemble(job, splits, job.values["compile"])
    preflight(job, parts)
    parameters = dict(module.named_parameters())
    if start := latest_intact(folder.checkpoint.parent, parameters):
        refuse_other(start, job)
    if twin:  # and not a checkpoint of its own, which may be one that it has taken, and was killed
        log.info("the same training is finished in %s", twin.folder)
        start = RunDir(twin.folder).checkpoint
    elif job.pretrained == "auto" and (start is None or module.distillation):
        dense = pretrain(job, splits, stop, parameters)
        start = start or dense
        if module.distillation:
            load_weights(module.distillation.teacher, dense)
    with shared_prefix(job, parts, folder, stop, start) as prefix:
        history = History(method.units if twin or prefix.taken else None)
        records, tested = RoundRecords(folder.masks), Tested(method.pruners)
        peak, agree, record = PeakMemory(), CheckRanksAgree(job.identity, job.devices), RecordJob(job)
        trainer = make_trainer(
            job,
            folder,
            [peak, agree, record, *method.callbacks, records, tested, history, prefix],
            run.total // run.epoch,
            stop,
            prefix.start,
            lambda: folder.write_job(job),
        )
        if run.total:
            trainer.fit(module, data, ckpt_path=prefix.start)
        else:  # weights of a file are evaluated as they are
            folder.write_job(job)
            trainer.validate(module, data, verbose=False)
    if start and trainer.strategy.broadcast(twin is not None or not folder.checkpoint.exists()):
        if trainer.is_global_zero:  # at rate 0 the shared dense training is all there is
            folder.write_job(job)
        trainer.save_checkpoint(folder.checkpoint)
    if len(history.epochs) * run.epoch < run.total:
        raise RuntimeError(
            f"training ended after {len(history.epochs)} of {run.total // run.epoch} epochs: there is no result"
        )
    if not trainer.is_global_zero:
        return history.epochs[-1]["test_acc"]
    if method.shrink and job.rate > 0 and not method.shrink.certificate:
        raise RuntimeError("no channel was removed, and there is no certificate: there is no result")
    tested.check(module)
    if method.shrink:
        plan = plan.then(method.shrink.plan_below("net"))
    save_model(job, folder, net, len(splits.classes), plan)
    rounds = rounds_of(method.rounds, history.epochs, run.epoch, records)
    most = twin.peak_memory if twin else peak.bytes
    device = trainer.strategy.root_device
    trained = Trained(net, plan, history.epochs, rounds, device, most, twin, prefix.trained, record.before)
    result = measure(job, folder, method, splits, trained)
    log_outcome(trainer.loggers, metrics(result), trainer.global_step)
    return finish(result)


def pretrain(job: Job, splits: Splits, stop: StopRequest, parameters: Collection[str]) -> Path:
    """The checkpoint at the end of the dense training that this job begins with; trained if no job has yet.

    `parameters` are those of the module.
    """
    dense = job.dense_pretraining()
    dense = dense.settled(resolve_auto(dense, splits, job), job.asked)
    here = arithmetic(job.accelerator) if job.devices == 1 else {}  # ranks may differ in threads
    same = {"identity": dense.identity, **here, **own_code(dense.values)}
    folder = RunDir(Path(job.config["parents"]) / digest(same))
    folder.refuse_other(dense, "another parents= trains it anew")
    train_once(
        folder.path,
        lambda: folder.finished(dense) is not None and is_intact(folder.checkpoint, parameters),
        lambda: train(dense, folder, splits, stop),
        str(Path(HydraConfig.get().runtime.output_dir).absolute()),
        rank_of(job.devices),
        lambda: bool(stop),
    )
    refuse_other(folder.checkpoint, dense)
    return folder.checkpoint


def assemble(job: Job, splits: Splits, compiled: bool) -> Parts:
    """All that a job trains with, before its first step. Raises ValueError where parts do not fit the data."""
    method, example = Method.of(job), torch.zeros(2, *splits.test.pool.shape[1:])
    net, refused = build_net(job, len(splits.classes), example)
    if refused:
        log.info("channels_last=false: %s cannot take it: %s", type(net).__name__, refused)
    plan = start_from(net, job.pretrained)
    augment, batch_size = instantiate(job.config["augment"]), job.config["optim"]["batch_size"]
    augment = augment and augment.at(example.shape[-1])
    data = ImageDataModule(splits, batch_size, augment, job.seed, job.config["channels_last"] and not refused)
    run = method.run(job.epochs, data.steps_per_epoch(job.batches_a_step))
    epochs = method.schedule_epochs(job.epochs, run.epoch)
    return Parts(method, net, plan, data, run, build_module(job, net, len(splits.classes), compiled, epochs, example))


def build_net(job: Job, classes: int, example: Tensor = EXAMPLE) -> tuple[nn.Module, str]:
    """The network with its initial weights, in the memory format it trains in, and why that is not channels_last."""
    net: nn.Module = instantiate(job.config["model"], num_classes=classes)
    return net, to_channels_last(net, example) if job.config["channels_last"] else ""


def start_from(net: nn.Module, pretrained: str | None) -> Plan:
    """Loads the weights of a file into `net`; returns the channels that this has removed."""
    return load_weights(net, pretrained) if pretrained not in (None, "auto") else Plan()


def build_module(
    job: Job, net: nn.Module, classes: int, compiled: bool, epochs: int, example: Tensor = EXAMPLE
) -> Classifier:
    """The network and all that trains it; the learning-rate schedule takes `epochs`, fine-tuning follows.

    A teacher has the weights that `net` has now; with pretrained=auto those of the dense training, later.
    """
    optim, distill = job.config["optim"], job.config.get("distill")
    return Classifier(
        net,
        instantiate(optim["optimizer"]),
        instantiate(optim["schedule"]),
        classes,
        optim["label_smoothing"],
        compiled,
        epochs,
        optim["finetune"],
        instantiate(distill)(copy.deepcopy(net)) if distill else None,
        example,
    )


def resolve_auto(job: Job, splits: Splits, before: Job | None = None) -> dict[str, Any]:
    """Values that the configuration leaves open: images, weights, and "auto" on this machine.

    What was "auto" in `before`, the job that began in this folder, stays what it was taken for then, perhaps elsewhere.
    """
    device, config = expected_device(job.accelerator), job.config
    steps = job.epochs * (len(splits.train) // config["optim"]["batch_size"])
    auto = {"precision": precision_for(device), "compile": compiles_well(device, steps)}
    if before:
        auto |= {key: before.values[key] for key in auto if before.config.get(key) == "auto" and key in before.values}
    # Batch norm and dropout see each device's share alone. One device is the same job under any strategy.
    devices = {"trainer.devices": job.devices} if job.devices > 1 else {}
    return {
        **devices,
        **{key: found if config[key] == "auto" else config[key] for key, found in auto.items()},
        "data.fingerprint": splits.fingerprint,
        "pretrained": weights_content(job.pretrained),
    }


def save_model(job: Job, folder: RunDir, net: nn.Module, classes: int, plan: Plan) -> None:
    """The tested network as one file, about as small as its zeros allow, for `prunelab.load`."""
    model = job.config["model"]
    args = {key: value for key, value in model.items() if key != "_target_"} | {"num_classes": classes}
    # Nothing divides by a weight, so signs of zeros change no output; they would be most of the file.
    written = file.save(folder.model, net, plan, registry.name_of(model["_target_"]), args, signed_zeros=False)
    log.info("model.safetensors: %s bytes", f"{written:,}")


@dataclass(frozen=True)
class Trained:
    """The outcome of training."""

    net: nn.Module
    plan: Plan  # the channels removed from it
    epochs: list[dict[str, Any]]  # of History
    rounds: list[dict[str, Any]]
    device: torch.device
    peak_memory: int | None  # bytes
    twin: Result | None  # of the job that trained it, if that was another one
    prefix: dict[str, Any]  # which other job trained the first epochs
    before: list[dict[str, Any]]  # of RecordJob: what trained earlier steps


def measure(job: Job, folder: RunDir, method: Method, splits: Splits, trained: Trained) -> Result:
    """Measures the tested network and an unpruned one; writes the final masks."""
    net, example = trained.net, torch.zeros(1, *splits.test.pool.shape[1:])
    unpruned, _ = build_net(job, len(splits.classes), example.expand(2, -1, -1, -1))
    if method.pruners:
        write_masks(folder.masks / "last.safetensors", survivor_masks(unpruned, net, trained.plan))
    sparsity = sparsity_report(net, method.units(), weight_counts(unpruned))
    dense, pruned, timed = costs(unpruned, net, example, folder.model, trained.device)
    return Result(
        folder=folder.path,
        job=job,
        device=str(trained.device),
        data={"fingerprint": splits.fingerprint, "classes": len(splits.classes), "shape": list(example.shape[1:])}
        | {"mean": list(splits.mean), "std": list(splits.std)}  # an image is normalised by these
        | {split: len(getattr(splits, split)) for split in ("train", "val", "test")},
        sparsity=Sparsity.from_json(sparsity),
        dense=dense,
        pruned=pruned,
        timed=timed,
        history=tuple(map(Epoch.from_json, trained.epochs)),
        accuracy=trained.epochs[-1]["test_acc"],
        seconds=sum(epoch["seconds"] for epoch in trained.epochs),
        peak_memory=trained.peak_memory,
        surgery=method.surgery(),
        budget={"of": job.config["budget"], "asked": job.rate, "attained": method.attained()} | method.rounded(),
        rounds=tuple(trained.rounds),
        analyses=method.results(),
        trained_in=str(trained.twin.folder) if trained.twin else None,
        shared_epochs=None if trained.twin else trained.prefix or None,
        begun_with=tuple(trained.before),
    )


def finish(result: Result) -> float:
    """Writes result.json, the last file of a job; returns the accuracy in it."""
    write_event(result)
    RunDir(result.folder).finish(result)
    attained = result.sparsity.attained
    log.info("test %.2f %%, sparsity %.2f %%, %.0f s", 100 * result.accuracy, 100 * attained, result.seconds)
    if result.sparsity.collapsed:
        log.warning("collapsed to a single unit: %s", ", ".join(result.sparsity.collapsed))
    return result.accuracy
