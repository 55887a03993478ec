"""The callbacks of a method by its name in conf/prune, for any Lightning project."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import lightning as L
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict

from prunelab.core.files.conf_dir import conf_dir
from prunelab.core.numbers.fraction import check_rate
from prunelab.core.text.unknown import unknown
from prunelab.job.check import check_retrain, check_used
from prunelab.job.conf import register_resolvers
from prunelab.oneshot.parts import by_part, check_option, names

log = logging.getLogger(__name__)

PARTS = ("criterion", "granularity", "allocation", "schedule", "regrow", "penalty")  # folders below conf/prune
# Where parts and callbacks are in a method's configuration.
HOMES = ("{}", "pruning.{}", "pruning.pruner.{}", "penalize.{}")


def method(
    name: str,
    rate: float | None = None,
    epochs: int | None = None,
    *,
    rounds: int = 1,
    rewind: str | int = 0,
    budget: str = "units",
    round_to: int = 1,
    seed: int = 0,
    skip: Sequence[str] = (),
    **options: Any,
) -> list[L.Callback]:
    """The callbacks of `python -m train prune=NAME`, for a Trainer of your own.

        L.Trainer(callbacks=prunelab.method("rigl", rate=0.9))

    The arguments are those of the command. `epochs` are those of one training: methods that retrain take as many before
    the first pruning and after each, so Trainer's max_epochs is `epochs * (1 + rounds)`; trained weights are pruned at
    once with `schedule__start="0ep"`. Parts are chosen by name (`criterion="taylor"`, `retrain="lr_rewind"`), and
    options of parts and callbacks are written as `schedule__end=0.7` or `penalty__gamma=1e-4`. `skip` has patterns of
    weights that stay dense ("net.fc.*"). Learning rates are your module's own, also in fine-tuning.

    Raises ValueError for a name, part or option that does not exist, with the nearest that do, and for a value that the
    method does not use.
    """
    wanted = 0.0 if rate is None else check_rate(rate)
    cfg = _composed(name, {key: value for key, value in options.items() if "__" not in key})
    text = OmegaConf.to_yaml(cfg.prune)
    if epochs is None and "${epochs}" in text:
        raise ValueError(f"method {name!r} retrains after pruning: give epochs=, those of one training")
    if epochs is not None and "${epochs}" not in text:
        raise ValueError(f"epochs={epochs}: method {name!r} does not use it; drop it, Trainer has max_epochs")
    if isinstance(skip, str):
        raise ValueError(f"skip={skip!r}: expected a list of patterns; write skip=[{skip!r}]")
    if rate is None and "${rate}" in text and "binarize" not in cfg.prune:
        log.warning("method %r without rate: nothing will be pruned, give rate=0.8", name)
    knobs = {"rate": wanted, "rounds": rounds, "rewind": rewind, "budget": budget, "round_to": round_to, "seed": seed}
    for knob, value in knobs.items():
        cfg[knob] = value
    if epochs is not None:
        cfg.epochs = epochs
    check_used(cfg)
    settings_of = by_part({key: value for key, value in options.items() if "__" in key})
    if skip:
        settings_of.setdefault("pruner", {})["skip"] = list(skip)
    for part, settings in settings_of.items():
        _set(cfg.prune, part, settings)
    callbacks: Any = OmegaConf.to_container(cfg.prune, resolve=True)
    return [instantiate(callback) for callback in callbacks.values()]


def _composed(name: str, parts: Mapping[str, str]) -> DictConfig:
    """The whole configuration of a job, as parts refer to its values."""
    if name not in names("prune"):
        raise unknown("method", name, names("prune"))
    file: Any = OmegaConf.load(conf_dir() / "prune" / f"{name}.yaml")
    listed = {part for entry in file.defaults if isinstance(entry, DictConfig) for part in entry}
    groups = {part: f"prune/{part}" for part in PARTS if part in listed} | {"retrain": "retrain"}
    overrides = [f"prune={name}"]
    for part, chosen in parts.items():
        if part not in groups:
            raise unknown(f"argument of method {name!r}", part, groups)
        if chosen not in names(groups[part]):
            raise unknown(part, chosen, names(groups[part]))
        overrides.append(f"{groups[part]}={chosen}")
    register_resolvers()
    with _beside_another_application(), initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", overrides)
    check_retrain(cfg, overrides)
    return cfg


@contextmanager
def _beside_another_application() -> Iterator[None]:
    """Hydra has one configuration a process, which the user's own `@hydra.main` may have made."""
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = before


def _set(prune: DictConfig, part: str, settings: Mapping[str, Any]) -> None:
    found = {home.format(part): OmegaConf.select(prune, home.format(part)) for home in HOMES}
    node = next((node for node in found.values() if isinstance(node, DictConfig)), None)
    if node is None:
        raise unknown("part or callback", part, _parts(prune))
    with open_dict(node):
        for option, value in settings.items():
            check_option(part, node._target_, option)
            node[option] = value


def _parts(node: DictConfig) -> list[str]:
    """The names of all objects in a configuration."""
    return [str(name) for key, value in node.items() if isinstance(value, DictConfig) for name in [key, *_parts(value)]]
