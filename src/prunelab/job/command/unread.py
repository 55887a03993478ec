"""Values in a command and its YAML files that would have no effect: each is refused."""

import re
from collections.abc import Container, Iterable, Mapping
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from prunelab.job.command.mistakes import not_taken, takes_one, unknown_key
from prunelab.job.command.signature import takes

# Where a node has no `_target_` that would refuse what it does not know: its keys, each read by some job.
SECTIONS = {"optim": {"schedule", "batch_size", "label_smoothing", "finetune", "optimizer"}}
TOP = "train.yaml"
OBJECTS = ("prune", "callbacks", "logger")  # each key holds one, or is switched off by null
Part = DictConfig | None


def refuse_null(words: Iterable[str], conf: Path) -> None:
    """Raises ValueError for `group=null`, which Hydra refuses without naming it. `conf` is the folder of groups."""
    for word in words:
        group, _, options = word.partition("=")
        if group and "null" in options.split(",") and (conf / group).is_dir():
            names = sorted(file.stem for file in (conf / group).glob("*.yaml"))
            optional = f"- {group}: null" in (conf / TOP).read_text()
            without = f"without one write {group}=none" if "none" in names else f"without one write ~{group}"
            remedy = without if optional or "none" in names else f"expected one of {', '.join(names)}"
            raise ValueError(f"{group}=null: a group takes the name of an option; {remedy}")


def refuse_list(words: Iterable[str]) -> None:
    """Raises ValueError for `group=[a,b]` where a job has one option of the group."""
    for word in words:
        group, _, options = word.partition("=")
        if options.startswith("[") and takes_one(group):
            raise ValueError(
                f"{word}: a job has one {group}; for a job with each write -m {group}={options.strip('[]')}"
            )


def refuse_dashes(words: Iterable[str], conf: Path) -> None:
    """Raises ValueError for `--group=option`, as other programs have it. `conf` is the folder of groups."""
    for word in words:
        name = word.removeprefix("--").partition("=")[0]
        top = name.partition(".")[0]
        if word.startswith("--") and "=" in word and ((conf / top).is_dir() or top in OmegaConf.load(conf / TOP)):
            raise ValueError(f"{word}: write {word.removeprefix('--')}, without --")


def refuse_misplaced(cfg: DictConfig, groups: Iterable[str]) -> None:
    """Raises ValueError where a file chooses an option of a group, or sets values, where that has no effect."""
    if cfg.get("experiment"):
        key = next(iter(cfg.experiment))
        raise ValueError(
            f'experiment.{key}: nothing reads it; the first line of the file must be "# @package _global_"'
        )
    for group in groups:
        if isinstance(option := cfg.get(group), str):
            raise ValueError(
                f"{group}: {option}: a file chooses an option in its defaults: - override /{group}: {option}"
            )


def refuse_unread(cfg: DictConfig, known: Container[str]) -> None:
    """Raises ValueError for the first value that nothing reads: it would seem to have no effect.

    `known` are the names at the top. What an object is made with is refused by the object, and what an interpolation
    names is read.
    """
    names = [str(key) for key in cfg if key not in known]
    for section, keys in SECTIONS.items():
        names += [f"{section}.{key}" for key in cfg.get(section) or () if key not in keys]
    for group in OBJECTS:
        if "_target_" in (cfg.get(group) or {}):
            raise ValueError(
                f'{group}._target_: {group} holds objects by name; begin the file with "# @package {group}.NAME"'
            )
        names += [f"{group}.{key}" for key, part in (cfg.get(group) or {}).items() if not isinstance(part, Part)]
    for name in names:
        if not re.search(rf"\$\{{\s*([\w.]+:\s*)?\.*{re.escape(name)}\s*[}}.,\[]", OmegaConf.to_yaml(cfg)):
            raise ValueError(unknown_key(name, cfg, f"{name}: nothing reads it"))


def refuse_arguments(node: object, place: str = "") -> None:
    """Raises ValueError for the first argument in `node`, which is plain, that the class in `_target_` does not take.

    What the source of a class does not say, it says itself when it is made.
    """
    if isinstance(node, Mapping):
        target = node.get("_target_")
        known = takes(str(target)) if target else None
        for name in node:
            if known is not None and name not in known and not str(name).startswith("_"):
                raise ValueError(not_taken(f"{place}.{name}", str(target), known))
        for name, inner in node.items():
            refuse_arguments(inner, f"{place}.{name}" if place else str(name))
