"""Class paths of 0.1.0 that users' YAML files hold and that finished jobs are known by, and where they are now."""

from typing import Any

NOW = {
    "prunelab.callbacks.scan.Scan": "prunelab.callbacks.analysis.rate_scan.Scan",
    "prunelab.callbacks.sensitivity.Sensitivity": "prunelab.callbacks.analysis.sensitivity.Sensitivity",
    "prunelab.data.cifar10.CIFAR10": "prunelab.data.sources.cifar10.CIFAR10",
    "prunelab.data.image_folder.ImageFolder": "prunelab.data.sources.image_folder.ImageFolder",
    "prunelab.data.shapes.Shapes": "prunelab.data.sources.shapes.source.Shapes",
    "prunelab.lit.tensorboard.EpochLogger": "prunelab.tensorboard.logger.EpochLogger",
}
BEFORE = {now: before for before, now in NOW.items()}


def identity_of_class(path: Any) -> Any:
    """The path by which a class is part of a job's identity: its first, so that a move repeats no finished job."""
    return BEFORE.get(path, path)


def with_classes_of_today(config: Any) -> Any:
    """A plain configuration with the `_target_` of each class where the class is now."""
    if isinstance(config, dict):
        return {
            key: NOW.get(value, value) if key == "_target_" else with_classes_of_today(value)
            for key, value in config.items()
        }
    return [with_classes_of_today(item) for item in config] if isinstance(config, list) else config
