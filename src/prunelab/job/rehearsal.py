"""Rehearses the jobs of a command, before the first of them begins and anything is written."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from hydra.utils import instantiate
from omegaconf import OmegaConf

from prunelab.data.images import Splits
from prunelab.job.command.mistakes import naming_the_job
from prunelab.job.method import Method
from prunelab.job.preflight import check_optimizer, preflight
from prunelab.job.run import assemble, build_module
from prunelab.lit.device import check_devices
from prunelab.store.job import Job

# Building and surgery do not depend on these, in so far as they do not on the seed; of rates the highest is rehearsed.
VARIED = (
    "rate", "seed", "name", "every", "precision", "compile", "augment", "optim.label_smoothing", "optim.optimizer",
    "optim.schedule", "optim/schedule",
)  # fmt: skip


def rehearse(jobs: Iterable[Job], here: bool) -> None:
    """Loads the data of all jobs, and builds and checks each kind of job on the CPU; `here`: on this machine they run.

    Raises ValueError, RuntimeError or OSError, naming the value and the remedy, for the first that would fail.
    """
    jobs = list(jobs)
    data: dict[str, Splits] = {}
    kinds: dict[tuple[str, ...], list[Job]] = defaultdict(list)
    every = [job.overrides for job in jobs]
    for job in jobs:
        with naming_the_job(job.overrides, every):
            if here:
                check_devices(job.accelerator, job.devices, job.config["precision"])
            for pruner in Method.of(job).pruners:
                pruner.granularity.check(job.rate)
            if (source := _source(job)) not in data:
                data[source] = instantiate(job.config["data"]).load()  # downloads and decodes once, for every job
        kinds[tuple(override for override in job.overrides if not _varies(override))].append(job)
    with _silent():
        for alike in kinds.values():
            job = max(alike, key=lambda each: each.rate)
            splits = data[_source(job)]
            with naming_the_job(job.overrides, every):
                parts = assemble(job, splits, compiled=False)
                preflight(job, parts)
            steps = parts.method.schedule_epochs(job.epochs, parts.run.epoch) * parts.run.epoch
            for training in {_training(each): each for each in alike}.values():
                with naming_the_job(training.overrides, every):
                    instantiate(training.config["augment"])
                    module = build_module(training, parts.net, len(splits.classes), compiled=False, epochs=job.epochs)
                    check_optimizer(module, steps, bool(parts.method.shrink), training.accelerator)


def _varies(override: str) -> bool:
    key = override.lstrip("+~").partition("=")[0]
    return any(key == varied or key.startswith(f"{varied}.") for varied in VARIED)


def _training(job: Job) -> str:
    """What training depends on, and the network does not."""
    return OmegaConf.to_yaml({part: job.config[part] for part in ("augment", "optim")}, sort_keys=True)


def _source(job: Job) -> str:
    return OmegaConf.to_yaml(job.config["data"], sort_keys=True)


@contextmanager
def _silent() -> Iterator[None]:
    """Leaves warnings to the jobs, each of which has its own."""
    log = logging.getLogger("prunelab")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)
