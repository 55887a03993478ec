"""Rehearses the jobs of a command, before the first of them begins and anything is written."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from hydra.utils import instantiate
from omegaconf import OmegaConf

from prunelab.data.images import Splits
from prunelab.job.method import Method
from prunelab.job.preflight import preflight
from prunelab.job.run import assemble
from prunelab.lit.device import check_devices
from prunelab.store.job import Job

VARIED = ("rate=", "seed=")  # jobs that differ only in these are rehearsed once, at the highest rate


def rehearse(jobs: Iterable[Job], here: bool) -> None:
    """Loads the data of all jobs, and builds and checks each kind of job on the CPU; `here`: on this machine they run.

    Raises ValueError, RuntimeError or OSError, naming the value and the remedy, for the first that would fail.
    """
    data: dict[str, Splits] = {}
    kinds: dict[tuple[str, ...], Job] = {}
    for job in jobs:
        if here:
            check_devices(job.accelerator, job.devices, job.config["precision"])
        for pruner in Method.of(job).pruners:
            pruner.granularity.check(job.rate)
        if (source := _source(job)) not in data:
            data[source] = instantiate(job.config["data"]).load()  # downloads and decodes once, for every job
        kind = tuple(override for override in job.overrides if not override.startswith(VARIED))
        kinds[kind] = max(kinds.get(kind, job), job, key=lambda each: each.rate)
    with _silent():
        for job in kinds.values():
            preflight(job, assemble(job, data[_source(job)], compiled=False))


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
