"""Is this the same job? Told by what can change its result, and by nothing else."""

import hashlib
import json
import platform
import subprocess
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from hydra.conf import ConfigSourceInfo
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from prunelab.store.naming import changes_result, weights_file
from prunelab.store.result import SCHEMA

METHOD = ("rate", "seed", "rounds", "rewind", "retrain")  # with prune, what a study varies


def flat(cfg: DictConfig) -> dict[str, Any]:
    """Every resolved value that can change the result, by dotted key."""
    return {key: value for key, value in _leaves(OmegaConf.to_container(cfg, resolve=True), "") if changes_result(key)}


def _leaves(node: Any, path: str) -> list[tuple[str, Any]]:
    if isinstance(node, dict) and node:
        return [leaf for key, child in node.items() for leaf in _leaves(child, f"{path}.{key}" if path else str(key))]
    # 0 and 0.0 are one value, however it was written.
    return [(path, int(node) if isinstance(node, float) and node.is_integer() else node)]


def digest(values: dict[str, Any]) -> str:
    """16 hexadecimal digits that are equal when the values are."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def content(path: str | Path) -> str:
    """The same for the bytes of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def weights_content(pretrained: str | None) -> str | None:
    """None for "auto" too: the same training to the same bits, only not for one job alone."""
    return None if pretrained in (None, "auto") else content(weights_file(pretrained))


def config_digest(sources: Iterable[ConfigSourceInfo]) -> str:
    """A digest of every YAML file that a configuration may be composed from; `sources` are Hydra's."""
    folders = sorted(source.path for source in sources if source.schema == "file")
    return digest({"conf": [content(path) for folder in folders for path in sorted(Path(folder).rglob("*.yaml"))]})


def asked(overrides: Sequence[str], config_digest: str) -> str:
    """A digest of what was typed: where it is equal the composed jobs are, and need not be composed to know."""
    return digest({"asked": sorted(overrides), "menu": config_digest})


def comparable(values: dict[str, Any]) -> dict[str, Any]:
    """What must agree before two results may stand in one table: all but method, rate and seed."""
    return {k: v for k, v in values.items() if k not in METHOD and not k.startswith("prune")}


def describe(cfg: DictConfig, settled: dict[str, Any]) -> dict[str, Any]:
    """What is known of a job before it runs: the head of its result.

    `settled` replaces values that the configuration leaves open: what "auto" comes down to, which images.
    """
    values = flat(cfg) | settled
    values["pretrained"] = weights_content(cfg.pretrained)
    hydra = HydraConfig.get()
    chosen: dict[str, str] = dict(hydra.runtime.choices)
    typed = list(hydra.overrides.task)
    return {
        "schema": SCHEMA,
        "identity": digest(values),
        "comparable": digest(comparable(values)),
        "name": cfg.name,
        "method": chosen["prune"],
        "rate": cfg.rate,
        "seed": cfg.seed,
        "overrides": typed,
        "asked": asked(typed, config_digest(hydra.runtime.config_sources)),
        "labels": {group: chosen[group] for group in ("model", "data", "optim")},
        "values": values,
        "config": OmegaConf.to_container(cfg, resolve=True),
        "versions": versions(),
    }


CHECKOUT = Path(__file__).parents[3] / "conf"


def versions() -> dict[str, str | None]:
    """Of Python and the libraries; `commit` is that of a checkout, with + when it was changed since."""
    names = ("prunelab", "torch", "torchvision", "lightning", "hydra-core")
    return {
        "python": platform.python_version(),
        **{n: metadata.version(n) for n in names},
        "commit": _commit(),
    }


def _commit() -> str | None:
    if not CHECKOUT.is_dir():  # installed: the repository around it, if any, is somebody else's
        return None
    git = [
        "git",
        "-C",
        str(Path(__file__).parent),
        "describe",
        "--always",
        "--dirty=+",
        "--abbrev=12",
        "--exclude=*",
    ]
    try:
        return subprocess.run(git, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
