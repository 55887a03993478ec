"""Class paths of 0.1.0, which users' YAML files and identities of finished jobs hold, and their current paths."""

from typing import Any

NOW = {
    "prunelab.callbacks.distributions.Distributions": "prunelab.tensorboard.histograms.Distributions",
    "prunelab.callbacks.scan.Scan": "prunelab.callbacks.analysis.rate_scan.Scan",
    "prunelab.callbacks.sensitivity.Sensitivity": "prunelab.callbacks.analysis.sensitivity.Sensitivity",
    "prunelab.data.cifar10.CIFAR10": "prunelab.data.sources.cifar10.CIFAR10",
    "prunelab.data.image_folder.ImageFolder": "prunelab.data.sources.image_folder.ImageFolder",
    "prunelab.data.shapes.Shapes": "prunelab.data.sources.shapes.source.Shapes",
    "prunelab.lit.tensorboard.EpochLogger": "prunelab.tensorboard.logger.EpochLogger",
}
BEFORE = {now: before for before, now in NOW.items()}


def identity_of_class(path: Any) -> Any:
    """The path of a class in a job's identity: its first, so that moving it repeats no finished job."""
    return BEFORE.get(path, path)


def with_current_paths(config: Any) -> Any:
    """A plain configuration whose `_target_`s are current class paths."""
    if isinstance(config, dict):
        return {
            key: NOW.get(value, value) if key == "_target_" else with_current_paths(value)
            for key, value in config.items()
        }
    return [with_current_paths(item) for item in config] if isinstance(config, list) else config
