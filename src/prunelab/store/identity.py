"""The identity of a job: a digest of all values that can change its result, and of nothing else."""

import hashlib
import json
import os
import platform
import re
import subprocess
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from importlib import metadata
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from prunelab.store.renamed import identity_of_class

# What cannot change a result is neither part of a job's identity nor of its folder's name. An experiment file
# is a bundle of overrides that names its own study.
NOT_RESULT = (
    "name", "experiment", "scale", "logger", "parents", "every", "rerun", "hydra",
    "data.root", "data.cache", "data.url", "data.md5",  # which images these lead to is in data.fingerprint
    "trainer.accelerator", "trainer.devices", "trainer.strategy", "trainer.profiler", "trainer.log_every_n_steps",
)  # fmt: skip
# With prune, what a study varies.
METHOD = ("rate", "rates", "seed", "rounds", "rewind", "retrain", "round_to", "distill")
# A method's as well, with the values that every job had in `comparable` before they were counted as that.
DEFAULTS = {"budget": "units", "optim.finetune": 0.01}
# Values that older jobs do not have, whose results are those of these.
SINCE = {
    "round_to": 1, "prune.pruning.pruner.budget.round_to": 1, "data.size": None, "prune.binarize.start": 0,
    "prune.sparsify._target_": "prunelab.callbacks.sparsify.Sparsify", "prune.sparsify.l1": 0,
    "prune.sparsify.threshold": 0,
}  # fmt: skip
OBSERVERS = ("LearningRateMonitor", "DeviceStatsMonitor")  # callbacks that only log
PLACES = {"PRUNELAB_CACHE", "MLFLOW_TRACKING_URI"}  # variables that conf/ reads, which change no result
CHECKOUT = Path(__file__).parents[3] / "conf"


def changes_result(key: str) -> bool:
    """Whether the configuration value at `key` ("optim.batch_size") can change what a job computes."""
    return not any(key == drop or key.startswith((f"{drop}.", f"{drop}/")) for drop in NOT_RESULT)


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Every value of a resolved configuration that can change the result, by dotted key."""
    leaves = [(key, value) for key, value in _leaves(config, "") if changes_result(key)]
    return {key: value for key, value in leaves if key not in SINCE or value != SINCE[key]}


def _leaves(node: Any, path: str) -> list[tuple[str, Any]]:
    if isinstance(node, Mapping) and node:
        return [leaf for key, child in node.items() for leaf in _leaves(child, f"{path}.{key}" if path else str(key))]
    if path.endswith("_target_"):
        return [(path, identity_of_class(node))]
    # 0 and 0.0 are one value, however it was written.
    return [(path, int(node) if isinstance(node, float) and node.is_integer() else node)]


def digest(values: Mapping[str, Any]) -> str:
    """16 hexadecimal digits that are equal when the values are."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def content(path: str | Path) -> str:
    """16 hexadecimal digits for the bytes of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def config_digest(folders: Iterable[Traversable], name: str, groups: Collection[str]) -> str:
    """A digest of what a configuration may be composed from: the YAML files in the folders, beginning with `name`.

    With the variables of the environment that they read. A link to a folder is followed where it is one of `groups`.
    """
    files = [file.read_bytes() for folder in folders for file in _yaml_files(folder, groups)]
    found: dict[str, Any] = {"conf": [hashlib.sha256(text).hexdigest()[:16] for text in files]}
    if name != "train":
        found["name"] = name
    return digest(found | _environment(text.decode(errors="replace") for text in files))


def _yaml_files(folder: Traversable, groups: Collection[str] = ()) -> list[Traversable]:
    found: list[Traversable] = []
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name) if folder.is_dir() else ():
        if not entry.is_dir():
            found += [entry] if entry.name.endswith(".yaml") else []
        elif entry.name in groups or not (isinstance(entry, Path) and entry.is_symlink()):
            found += _yaml_files(entry)
    return found


def overrides_digest(overrides: Sequence[str], conf: str) -> str:
    """A digest of the overrides as typed and of `conf`, a `config_digest`: equal only where the composed jobs are."""
    return digest({"asked": sorted(overrides), "menu": conf} | _environment(overrides))


def _environment(texts: Iterable[str]) -> dict[str, Any]:
    """The variables that are set, of those that interpolations in these texts read; nothing where there are none."""
    names = {name for text in texts for name in re.findall(r"oc\.env:\s*([^\s,}]+)", text)}
    found = {name: os.environ[name] for name in names & os.environ.keys() - PLACES}
    return {"environment": found} if found else {}


def comparable(values: Mapping[str, Any]) -> dict[str, Any]:
    """What must agree before two results may stand in one table: all but method, teacher, rate, seed and observers."""
    kept = {k: DEFAULTS.get(k, v) for k, v in values.items() if k in DEFAULTS or not _of_method(k)}
    observers = [k.removesuffix("_target_") for k, v in kept.items() if k.startswith("callbacks.") and observes(v)]
    return {k: v for k, v in kept.items() if not k.startswith(tuple(observers))}


def observes(target: object) -> bool:
    """Whether a `_target_` is a callback that changes nothing."""
    return str(target).rpartition(".")[2] in OBSERVERS


def of_method(values: Mapping[str, Any]) -> dict[str, Any]:
    """What must agree besides before two results may be those of one method: its settings, but rate and seed."""
    return {k: v for k, v in values.items() if _of_method(k) and k not in ("rate", "seed")}


def _of_method(key: str) -> bool:
    return key in DEFAULTS or key.partition(".")[0] in METHOD or key.startswith("prune")


@cache
def versions() -> dict[str, str | None]:
    """Versions of Python and the libraries; `commit` is that of a checkout, with + if src or conf differ from it."""
    names = ("prunelab", "torch", "torchvision", "lightning", "hydra-core")
    return {"python": platform.python_version(), **{n: metadata.version(n) for n in names}, "commit": _commit()}


def _commit() -> str | None:
    if not CHECKOUT.is_dir():  # installed: a repository around it is another project's
        return None
    status = ["status", "--porcelain=v2", "--branch", "--untracked-files=normal", "--", ".", "../src"]
    git = ["git", "--no-optional-locks", "-C", str(CHECKOUT), *status]
    try:
        lines = subprocess.run(git, capture_output=True, text=True, timeout=10, check=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return None
    [commit] = (line.split()[2] for line in lines if line.startswith("# branch.oid "))
    changed = any(not line.startswith("#") for line in lines)
    return commit[:12] + "+" * changed


def names_code(commit: str | None) -> bool:
    """Whether `versions` with that `commit` say which code it is; not where a checkout has changes or no Git."""
    return not commit.endswith("+") if commit else not CHECKOUT.is_dir()
