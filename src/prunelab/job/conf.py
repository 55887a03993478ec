"""Turns Hydra's composed configuration into a `Job`; finds the YAML files and registers their resolvers."""

import copy
import os
from contextlib import suppress
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, MissingMandatoryValue, OmegaConf

from prunelab.core.files.conf_dir import conf_dir as conf_dir
from prunelab.job.check import check_values
from prunelab.job.command.unread import refuse_arguments, refuse_misplaced, refuse_unread
from prunelab.store.identity import config_digest, digest, flat
from prunelab.store.job import Job
from prunelab.store.naming import job_folder
from prunelab.store.renamed import with_current_paths

PLANNED = "PRUNELAB_PLANNED"  # in the environment of a job of a sweep: what it was composed from, and its folder
PATHS = ("parents", "pretrained", "data.root", "data.cache")


def job_of(cfg: DictConfig, hydra: HydraConf) -> Job:
    """The job that a configuration describes, not yet `settled`.

    Raises ValueError, naming the value and the remedy, for impossible values, and FileNotFoundError for a missing
    `pretrained`. HydraConfig must hold `hydra`, because interpolations may read it.
    """
    overrides = tuple(hydra.overrides.task)
    _refuse_changed(cfg, hydra)
    if hydra.job.chdir:  # in its own folder, where no path of the command leads anywhere
        cfg = with_whole_paths(cfg, Path(hydra.runtime.cwd))
    refuse_misplaced(cfg, _groups())
    check_values(cfg, overrides)
    scaled = cfg.get("scale") in (hydra.sweeper.get("scales") or ())  # which the sweeper reads
    refuse_unread(cfg, _known() | ({"scale"} if scaled else set()))
    settings = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    try:
        config = with_current_paths(OmegaConf.to_container(settings, resolve=True, throw_on_missing=True))
    except MissingMandatoryValue as error:
        raise ValueError(f"{error.full_key}: it has no value; give one") from error
    refuse_arguments({key: node for key, node in config.items() if key != "trainer"})  # which check_values has checked
    chosen = hydra.runtime.choices
    return Job(
        name=config["name"],
        method=chosen["prune"],
        rate=config["rate"],
        seed=config["seed"],
        overrides=overrides,
        labels={group: chosen[group] for group in ("model", "data", "optim")},
        config=config,
        values=flat(config),
        config_dir=_config_dir(hydra),
    )


def planned_as(cfg: DictConfig, folder: Path) -> str:
    """The override by which the job of a sweep, in its folder, is told what it was composed from."""
    return f"+hydra.job.env_set.{PLANNED}='{_composition(cfg)}-{_digest_of(folder)}'"


def _refuse_changed(cfg: DictConfig, hydra: HydraConf) -> None:
    """Raises ValueError in a job that is composed from other values than when its sweep was checked."""
    planned, _, folder = os.environ.get(PLANNED, "").partition("-")
    runtime: Any = hydra.runtime
    here = runtime.get("output_dir")  # not that folder: the job has started another command
    if here and folder == _digest_of(Path(here)) and planned != _composition(cfg):
        raise ValueError("its YAML files have changed since the sweep began: put them back, or begin the sweep again")


def _composition(cfg: DictConfig) -> str:
    """Of what can change the result, as it is written: an interpolation may have a value only where the job runs."""
    settings: Any = OmegaConf.to_container(OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"]))
    return digest(flat(settings))


def _digest_of(folder: Path) -> str:
    return digest({"folder": os.path.realpath(folder)})


def _config_dir(hydra: HydraConf) -> str:
    """The first folder that was typed, whether with --config-dir or as a `hydra.searchpath`."""
    typed = [source for source in hydra.runtime.config_sources if "command-line" in source.provider]
    given = [Path(source.path) for source in typed if source.schema == "file"]
    here = Path(hydra.runtime.cwd)
    return str(given[0].relative_to(here) if given[0].is_relative_to(here) else given[0]) if given else ""


def with_whole_paths(cfg: DictConfig, here: Path) -> DictConfig:
    """A copy in which paths relative to `here` are absolute."""
    cfg = copy.deepcopy(cfg)
    for key in PATHS:
        path = OmegaConf.select(cfg, key)
        if path and path != "auto":
            OmegaConf.update(cfg, key, str(here / Path(path).expanduser()))
    return cfg


@cache
def _groups() -> set[str]:
    return {path.name for path in conf_dir().iterdir() if path.is_dir()}


@cache
def _known() -> set[str]:
    """The names at the top of a configuration: those in train.yaml, and the groups."""
    return _groups() | {str(key) for key in OmegaConf.load(conf_dir() / "train.yaml")}


def yaml_digest(hydra: HydraConf) -> str:
    """A digest of every YAML file that a configuration may be composed from, in folders and in packages."""
    sources = sorted(hydra.runtime.config_sources, key=lambda source: source.path)
    folders: list[Traversable] = [Path(source.path) for source in sources if source.schema == "file"]
    groups = {group.partition("/")[0] for group in hydra.runtime.choices}
    for source in sources:
        if source.schema == "pkg" and source.provider != "hydra":
            with suppress(ModuleNotFoundError):  # as Hydra passes over what is not there
                folders.append(resources.files(source.path.replace("/", ".")))
    return config_digest(folders, str(hydra.job.config_name), groups)


def register_resolvers() -> None:
    """Registers the functions that conf/ uses in interpolations."""
    OmegaConf.register_new_resolver("job_folder", job_folder, replace=True)
    OmegaConf.register_new_resolver("first_pruning", first_pruning, replace=True)
    OmegaConf.register_new_resolver("training", training, replace=True)


def share_structured_configs() -> None:
    """Keeps Hydra from copying all its structured configurations, which it only reads, at every composition."""
    ConfigStore.__deepcopy__ = lambda store, memo: store  # type: ignore[attr-defined]


def training(pretrained: str | None, epochs: int) -> int:
    """Epochs of training before an analysis: none on weights from a file."""
    return epochs if pretrained in (None, "auto") else 0


def first_pruning(pretrained: str | None, epochs: int) -> str:
    """When a method that retrains prunes first: after one training, or at once on weights from a file."""
    return f"{epochs}ep" if pretrained in (None, "auto") else "0ep"
